"""Events, each one row of `ml_events` and one of `alert_notifications`, in one transaction."""

import msgspec

from contract.event import Event
from contract.settings import Settings
from sinks.table import TableSink
from sinks.times import text_of
from sinks.writer import Row


def event_row(event: Event) -> Row:
    """The columns of `write_events.sql`, in its order."""
    return (
        event.event_key,
        event.device_id,
        event.sensor_id,
        text_of(event.at),
        event.event_type,
        event.event_code,
        event.title,
        event.message,
        None if event.value is None else round(event.value, 5),
        msgspec.Raw(event.payload.encode()),
        event.resolves,
        event.status,
        event.silent,
    )


def event_order(row: Row) -> tuple[str, str, str]:
    """By time, those that end something after those that begin, then by `event_key`, which alone
    makes two events the same one.
    """
    return row[3], row[11], row[0]


def events_sink(settings: Settings) -> TableSink[Event]:
    """Stores every event once, with its notification."""
    return TableSink(settings, "write_events", lambda event: [event_row(event)], event_order)
