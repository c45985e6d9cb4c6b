"""Events as the database has them, and what has become of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from contract.event import Event
from sql.statements import EventRow

_VERSION = "rules_version"
"""A key of every payload that the flow has written, and of no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent(Event):
    """A row of `ml_events` with its notification. What it ended is not known from it: `resolves` is
    None. `silent` says that its notification is read.
    """

    id: int
    device: str
    """The device's name."""
    sensor: str | None
    """The sensor's name; None where the event is the device's."""
    unit: str
    details: dict[str, Any]
    """The payload without the version of the rules."""
    rules_version: str | None
    """Which rules the flow judged by; None where the flow has not written it."""
    by_person: bool
    """Whether a person has resolved it."""
    resolved_at: int | None
    """Epoch milliseconds UTC."""
    ended_by: int | None
    """Id of the event that its end came with; None where the end came from elsewhere."""

    @property
    def by_flow(self) -> bool:
        """Whether the flow has written it."""
        return self.rules_version is not None


def stored_events(rows: Iterable[EventRow]) -> list[StoredEvent]:
    """The rows as events, in their order."""
    return [_stored(row) for row in rows]


def _stored(row: EventRow) -> StoredEvent:
    payload = row.payload or "{}"
    try:
        details = msgspec.json.decode(payload, type=dict[str, Any])
    except msgspec.DecodeError:  # another program's; ours is an object
        details = {}
    version = details.pop(_VERSION, None)
    return StoredEvent(
        event_key=row.event_key,
        device_id=row.device_id,
        sensor_id=row.sensor_id,
        at=int(row.at),
        event_type=row.event_type,
        event_code=row.event_code,
        title=row.title,
        message=row.message or "",
        value=row.value,
        payload=payload,
        resolves=None,
        status=row.status,
        silent=bool(row.is_read),
        id=row.id,
        device=row.device,
        sensor=row.sensor,
        unit=row.unit or "",
        details=details,
        rules_version=version,
        by_person=row.resolved_by is not None,
        resolved_at=None if row.resolved_at is None else int(row.resolved_at),
        ended_by=row.ended_by,
    )
