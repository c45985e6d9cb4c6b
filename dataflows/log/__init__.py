"""Each partition of the topic as one sequence of records and heartbeats."""
