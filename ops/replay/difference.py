"""Compare the events of a replay with the live database: which are new, gone or changed."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ops.stored_events import StoredEvent
from sinks.corrections import Correction

Kind = Literal["new", "gone", "changed"]
_COMPARED = {
    "event_type": "event_type",
    "title": "title",
    "message": "message",
    "details": "payload",
}
"""Attribute that is compared -> name of its column."""


@dataclass(frozen=True, slots=True)
class Change:
    """One event that differs."""

    kind: Kind
    replayed: StoredEvent | None
    """The event of the replay. None if the event is gone."""
    live: StoredEvent | None
    """The event of the live database. None if the event is new."""
    fields: tuple[str, ...] = ()
    """Columns that differ, if the event changed."""

    @property
    def event(self) -> StoredEvent:
        """The event of the replay, or of the live database if the replay has none."""
        event = self.replayed or self.live
        assert event is not None
        return event


@dataclass(frozen=True, slots=True)
class Difference:
    """The events of the replay, all changes by time, and the number of unchanged events of each
    sensor (None: devices).
    """

    replayed: tuple[StoredEvent, ...]
    changes: tuple[Change, ...]
    unchanged: Counter[int | None]
    pending: tuple[Change, ...] = ()
    """Ends that belong to new events and are not changes themselves, see `difference`."""

    def corrections(self, *, notify: bool) -> list[Correction]:
        """The corrections that make the live database match the replay.

        Without `notify`, notifications of new events are stored as read.
        """
        return [_correction(change, notify=notify) for change in (*self.changes, *self.pending)]


def difference(
    replayed: Sequence[StoredEvent],
    live: Iterable[StoredEvent],
    concerns: Callable[[StoredEvent], bool],
    newest: int,
    until: int,
    *,
    same_rules: bool = False,
) -> Difference:
    """Compare the replayed events with the live ones.

    `concerns` says whether the replay would have produced an event of the live database. The replay
    cannot know events with an id above `newest`, nor ends after `until`.

    With `same_rules` both sides used the same rules. Then an event in the live database does not
    differ if only its end is missing and the event that ends it is missing too: the live flow has
    not got that far. The missing event is new. The end is corrected with it, and the event counts
    as unchanged.
    """
    live = list(live)
    standing = {
        event.event_key: event for event in live if event.by_flow and event.status != "superseded"
    }
    stored = {event.event_key for event in live}
    to_come = {event.id for event in replayed if same_rules and event.event_key not in stored}
    changes: list[Change] = []
    pending: list[Change] = []
    unchanged: Counter[int | None] = Counter()
    keys = set()
    for event in replayed:
        keys.add(event.event_key)
        old = standing.get(event.event_key)
        if old is None:
            changes.append(Change("new", event, None))
            continue
        fields = _differing(event, old, newest, until)
        if fields == ("end",) and old.resolved_at is None and event.ended_by in to_come:
            pending.append(Change("changed", event, old, fields))
            fields = ()
        if fields:
            changes.append(Change("changed", event, old, fields))
        else:
            unchanged[event.sensor_id] += 1
    changes += [
        Change("gone", None, old)
        for old in standing.values()
        if old.event_key not in keys and old.id <= newest and concerns(old)
    ]
    changes.sort(key=lambda change: (change.event.at, change.event.event_key))
    return Difference(tuple(replayed), tuple(changes), unchanged, tuple(pending))


def _differing(
    replayed: StoredEvent, live: StoredEvent, newest: int, until: int
) -> tuple[str, ...]:
    fields = tuple(
        column
        for name, column in _COMPARED.items()
        if getattr(replayed, name) != getattr(live, name)
    )
    if replayed.resolved_at == live.resolved_at or live.by_person:
        return fields
    if live.resolved_at is not None:
        if live.ended_by is None:  # ended by upkeep, without an event
            return fields
        if replayed.resolved_at is None and (live.ended_by > newest or live.resolved_at > until):
            return fields
    return (*fields, "end")


def _correction(change: Change, *, notify: bool) -> Correction:
    event = change.event
    if change.kind == "gone":
        return Correction(event, "superseded", event.resolved_at, ends=False)
    if change.kind == "new" and not notify:
        event = replace(event, silent=True)
    status: Literal["active", "resolved"] = "active" if event.resolved_at is None else "resolved"
    # the live flow may have written the new event meanwhile, and ended it: that end is kept
    return Correction(event, status, event.resolved_at, ends="end" in change.fields)


def as_corrections(events: Iterable[StoredEvent]) -> list[Correction]:
    """All replayed events as corrections, for a database without events."""
    return [
        Correction(
            event,
            "active" if event.resolved_at is None else "resolved",
            event.resolved_at,
            ends=True,
        )
        for event in events
    ]
