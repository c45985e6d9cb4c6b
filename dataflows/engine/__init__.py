"""The engine of one partition: pure functions of its sequence and of the rules."""
