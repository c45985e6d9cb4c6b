"""What led to an event, for who wants to know: `iot explain`."""
