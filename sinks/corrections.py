"""What a replay found about events that are stored already, or should be."""

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
    """An event as it must be: it comes where it is missing, and is brought up to date where it is
    there. `event.resolves` and `event.status` are not looked at.
    """

    event: Event
    status: Literal["active", "resolved", "superseded"]
    """`superseded`: the event does not hold, and nobody need be told of it any more."""
    resolved_at: int | None
    """Epoch milliseconds UTC."""
    ends: bool
    """Whether status and end are written over an event that is there and not superseded. What a
    person has resolved stays so in any case."""


class CorrectionRow(NamedTuple):
    """What `write_corrections` takes for each event; times are text."""

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


def correction_row(correction: Correction) -> CorrectionRow:
    """The row of a correction."""
    row, end = event_row(correction.event), correction.resolved_at
    return CorrectionRow(
        event_key=row.event_key,
        device_id=row.device_id,
        sensor_id=row.sensor_id,
        at=row.at,
        event_type=row.event_type,
        event_code=row.event_code,
        title=row.title,
        message=row.message,
        value=row.value,
        payload=row.payload,
        resolved_at=None if end is None else text_of(end),
        status=correction.status,
        silent=row.silent,
        ends=correction.ends,
    )


def write_corrections(settings: Settings, corrections: Iterable[Correction]) -> None:
    """Store all of them, each with its notification; a second time nothing changes.

    Raises:
        IotError: by blame; see `Writer` for what waits and what is put among the dead letters.
    """
    writer = Writer(settings, "write_corrections", attrgetter("at", "event_key"), first_counts)
    if rows := [correction_row(correction) for correction in corrections]:
        writer.put(rows)
    try:
        writer.flush()
    finally:
        writer.close()
