"""Corrections that a replay makes to stored events, and events that it adds."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal, NamedTuple

import msgspec

from contract.event import Event
from contract.settings import Settings
from sinks.events import event_row
from sinks.times import text_of
from sinks.writer import Writer, first_counts


@dataclass(frozen=True, slots=True)
class Correction:
    """The correct version of an event: inserted if it is missing, otherwise updated.
    `event.resolves` and `event.status` are ignored.
    """

    event: Event
    status: Literal["active", "resolved", "superseded"]
    """`superseded`: the event turned out to be wrong, and needs no notification."""
    resolved_at: int | None
    """Epoch milliseconds UTC."""
    ends: bool
    """Whether to overwrite the status and end of a stored event that is not superseded. An event
    that a user has resolved always stays resolved."""


class CorrectionRow(NamedTuple):
    """A row of `write_corrections`. Times are text."""

    event_key: str
    device_id: int
    sensor_id: int | None
    at: str
    event_type: str
    event_code: str
    title: str
    message: str
    value: float | None
    payload: msgspec.Raw
    resolved_at: str | None
    status: str
    silent: bool
    ends: bool
    incident_key: str


def correction_row(correction: Correction) -> CorrectionRow:
    """The row of a correction."""
    end = correction.resolved_at
    columns = event_row(correction.event)._asdict() | {
        "resolved_at": None if end is None else text_of(end),
        "status": correction.status,
        "ends": correction.ends,
    }
    return CorrectionRow._make(columns[name] for name in CorrectionRow._fields)


def write_corrections(settings: Settings, corrections: Iterable[Correction]) -> None:
    """Store corrections and their notifications. Storing them again changes nothing.

    Raises:
        IotError: by cause; see `Writer` for what is retried and what becomes a dead letter.
    """
    writer = Writer(settings, "write_corrections", attrgetter("at", "event_key"), first_counts)
    if rows := [correction_row(correction) for correction in corrections]:
        writer.put(rows)
    try:
        writer.flush()
    finally:
        writer.close()
