"""The operator's command `iot`."""
