"""`iot explain`: what led to an event."""
