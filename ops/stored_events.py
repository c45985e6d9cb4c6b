"""Events as the database stores them, with their current state."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from contract.event import Event
from sql.statements import StoredEventRow

_VERSION = "rules_version"
"""A key that every payload written by the flow has, and no other payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent(Event):
    """A row of `ml_events` with its notification.

    The row does not say which event it ended, so `resolves` is None. `silent` is true if the
    notification is read.
    """

    id: int
    device: str
    """The device's name."""
    sensor: str | None
    """The sensor's name. None if the event belongs to the device."""
    unit: str
    details: dict[str, Any]
    """The payload without the version of the rules."""
    rules_version: str | None
    """Version of the rules that the flow used. None if the flow did not write the event."""
    by_person: bool
    """Whether a person resolved the event."""
    resolved_at: int | None
    """Epoch milliseconds UTC."""
    ended_by: int | None
    """Id of the event that ended this one. None if no event ended it."""

    @property
    def by_flow(self) -> bool:
        """Whether the flow wrote the event."""
        return self.rules_version is not None


def stored_events(rows: Iterable[StoredEventRow]) -> list[StoredEvent]:
    """Convert the rows to events, in the same order."""
    return [_stored(row) for row in rows]


def _stored(row: StoredEventRow) -> StoredEvent:
    payload = row.payload or "{}"
    try:
        details = msgspec.json.decode(payload, type=dict[str, Any])
    except msgspec.DecodeError:  # written by another program: our payloads are objects
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
        incident_key=row.incident_key,
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
