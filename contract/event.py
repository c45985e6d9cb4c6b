"""Events: each is one row of `ml_events` and one row of `alert_notifications`."""

from dataclasses import dataclass
from hashlib import sha256

from contract.level import Level


@dataclass(frozen=True, slots=True)
class Alert:
    """What a change of level means for the rows of its sensor in `alerts`. At most one alert of a
    sensor stands, so another level ends the alert that stood.
    """

    level: Level
    """The level of the alert that stands from now on; NORMAL: none does."""
    threshold_id: int | None = None
    """The row of `alert_thresholds` that raises it; None for a profile."""
    title: str | None = None
    """The title of its notification, at most 255 characters. The message is that of the event."""
    late: bool = False
    """Raised by late readings: it is over, and has nothing to do with the alert that stands."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a sensor's or device's state, ready to be stored."""

    event_key: str
    """32 hexadecimal digits, see `event_key` and `device_event_key`."""
    device_id: int
    sensor_id: int | None
    """None for an event of the device."""
    at: int
    """End of the pane that caused it, or the arrival time if data stopped; epoch ms UTC."""
    event_type: str
    """`notice`, `warning` or `critical`."""
    event_code: str
    title: str
    """At most 255 characters."""
    message: str
    """At most 1000 characters."""
    value: float | None
    """Mean of that pane, in the sensor's unit; None if no pane caused it."""
    payload: str
    """A JSON object."""
    resolves: str | None
    """Key of the event that this one ends."""
    status: str
    """`active`, or `resolved` for an event that only reports an end, or has ended itself."""
    silent: bool = False
    """Stored with a notification that is already read: only the first event of an incident rings,
    and one that escalates it, and none of them while the sensor is flapping."""
    incident_key: str | None = None
    """Key of the first event of the incident that the event belongs to; None if it is the first. An
    incident is everything that one problem of a sensor or device causes."""
    escalates: bool = False
    """Rings again, in place of the incident's earlier notifications."""
    alert: Alert | None = None
    """None: the alerts of the sensor stay as they are."""


def event_key(sensor_id: int, at: int, event_code: str) -> str:
    """The identity of an event. The same log gives the same key, so the event is written once.

    >>> event_key(7, 1732400000000, "RECOVERED_ANOMALY")
    'ea525c20b7b20b749792c810edfdad6d'
    """
    return _key(f"{sensor_id}|{at}|{event_code}")


def device_event_key(device_id: int, at: int, event_code: str) -> str:
    """The identity of an event of a device. It never equals the key of a sensor's event.

    >>> device_event_key(7, 1732400000000, "NO_DATA")
    '438684cb982465c206d2d3a5a21b526e'
    """
    return _key(f"device {device_id}|{at}|{event_code}")


def _key(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]
