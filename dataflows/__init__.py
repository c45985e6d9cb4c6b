"""From the topic to what is stored. `dataflows.readings` is the graph, on one page.

- `log`: the topic's partitions as sequences of records and heartbeats, and what cannot be decoded.
- `engine`: a partition's sequence to panes, windows, rollups, predictions and verdicts. No I/O.
- `events`: verdicts to levels, and changes of level to events with their texts. No I/O.
- `state`: what a flow keeps between two runs, and which process holds it.
"""
