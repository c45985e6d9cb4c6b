"""What a change of level becomes: one row of `ml_events` and its row of `alert_notifications`."""

from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True, slots=True)
class Event:
    """One transition of a sensor or a device, ready to be stored."""

    event_key: str
    """32 hexadecimal digits, see `event_key` and `device_event_key`."""
    device_id: int
    sensor_id: int | None
    """None: the event is the device's."""
    at: int
    """End of the pane that brought it, or the arrival time of a silence; epoch milliseconds UTC."""
    event_type: str
    """`notice`, `warning` or `critical`."""
    event_code: str
    title: str
    """At most 255 characters."""
    message: str
    """At most 1000 characters."""
    value: float | None
    """Mean of that pane, in the sensor's unit; None where no pane brought it."""
    payload: str
    """A JSON object."""
    resolves: str | None
    """The event that ends with this one."""
    status: str
    """`active`, or `resolved` for an event that only tells of an end."""
    silent: bool = False
    """Stored with a notification that is already read: while a sensor is flapping."""


def event_key(sensor_id: int, at: int, event_code: str) -> str:
    """The identity of an event: the same log leads to the same key, so it is written once.

    >>> event_key(7, 1732400000000, "RECOVERED_ANOMALY")
    'ea525c20b7b20b749792c810edfdad6d'
    """
    return _key(f"{sensor_id}|{at}|{event_code}")


def device_event_key(device_id: int, at: int, event_code: str) -> str:
    """Likewise, for an event that is a device's: no sensor's key is the same.

    >>> device_event_key(7, 1732400000000, "NO_DATA")
    '438684cb982465c206d2d3a5a21b526e'
    """
    return _key(f"device {device_id}|{at}|{event_code}")


def _key(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]
