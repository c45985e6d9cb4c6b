"""What a replay found about events that are stored already, or should be."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from contract.event import Event
from contract.settings import Settings
from sinks.events import event_row
from sinks.times import text_of
from sinks.writer import Row, Writer, first_counts


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


def correction_row(correction: Correction) -> Row:
    """The columns of `write_corrections.sql`, in its order."""
    end = correction.resolved_at
    return (
        *event_row(correction.event)[:10],
        None if end is None else text_of(end),
        correction.status,
        correction.event.silent,
        correction.ends,
    )


def write_corrections(settings: Settings, corrections: Iterable[Correction]) -> None:
    """Store all of them, each with its notification; a second time nothing changes.

    Raises:
        IotError: by blame; see `Writer` for what waits and what is put among the dead letters.
    """
    writer = Writer(settings, "write_corrections", _order, first_counts)
    if rows := [correction_row(one) for one in corrections]:
        writer.put(rows)
    try:
        writer.flush()
    finally:
        writer.close()


def _order(row: Row) -> tuple[str, str]:
    return row[3], row[0]
