"""The flow, from the topic to the sinks. `dataflows.readings` is the whole graph on one page.

- `log`: reads each partition as a sequence of records and heartbeats, and handles dead letters.
- `engine`: turns the sequence into panes, windows, rollups, predictions and verdicts. No I/O.
- `events`: turns verdicts into levels, and level changes into events with their texts. No I/O.
- `state`: the recovery stores, and which process holds which one.
"""
