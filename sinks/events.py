"""Stores events: a row of `ml_events` and one of `alert_notifications`, and what they mean for the
rows of their sensors in `alerts`, in one transaction.
"""

from operator import attrgetter
from typing import NamedTuple

import msgspec

from contract.event import Event
from contract.settings import Settings
from sinks.table import TableSink
from sinks.times import text_of


class EventRow(NamedTuple):
    """A row of `write_events`."""

    event_key: str
    device_id: int
    sensor_id: int | None
    at: str
    """As text, see `sinks.times`."""
    event_type: str
    event_code: str
    title: str
    message: str
    value: float | None
    payload: msgspec.Raw
    resolves: str | None
    status: str
    silent: bool
    incident_key: str
    escalates: bool
    alert_level: int | None
    """0: no alert of the sensor stands; None: its alerts stay as they are. See `Alert`."""
    threshold_id: int | None
    alert_title: str | None
    late: bool


def event_row(event: Event) -> EventRow:
    """The row of an event."""
    alert = event.alert
    return EventRow(
        event_key=event.event_key,
        device_id=event.device_id,
        sensor_id=event.sensor_id,
        at=text_of(event.at),
        event_type=event.event_type,
        event_code=event.event_code,
        title=event.title,
        message=event.message,
        value=None if event.value is None else round(event.value, 5),
        payload=msgspec.Raw(event.payload.encode()),
        resolves=event.resolves,
        status=event.status,
        silent=event.silent,
        incident_key=event.incident_key or event.event_key,
        escalates=event.escalates,
        alert_level=None if alert is None else int(alert.level),
        threshold_id=None if alert is None else alert.threshold_id,
        alert_title=None if alert is None else alert.title,
        late=alert is not None and alert.late,
    )


event_order = attrgetter("at", "status", "event_key")
"""By time, events that end something after those that begin, then by `event_key`, which alone
identifies an event."""


def events_sink(settings: Settings) -> TableSink[Event]:
    """A sink that stores every event once, with its notification."""
    return TableSink(settings, "write_events", lambda event: [event_row(event)], event_order)
