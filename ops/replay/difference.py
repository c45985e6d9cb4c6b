"""What a replay found against what the live database holds: events that are new, gone, changed."""

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
"""What is compared of two events, and how the column is called."""


@dataclass(frozen=True, slots=True)
class Change:
    """One event that is not the same."""

    kind: Kind
    found: StoredEvent | None
    """None for one that is gone."""
    live: StoredEvent | None
    """None for one that is new."""
    fields: tuple[str, ...] = ()
    """What differs of one that changed."""

    @property
    def event(self) -> StoredEvent:
        """As it should be; as it is where it should not."""
        event = self.found or self.live
        assert event is not None
        return event


@dataclass(frozen=True, slots=True)
class Difference:
    """What was found, all changes by time, and how many events of each sensor (None: devices) are
    the same.
    """

    found: tuple[StoredEvent, ...]
    changes: tuple[Change, ...]
    unchanged: Counter[int | None]
    pending: tuple[Change, ...] = ()
    """Ends that belong to new events and are no change of their own, see `difference`."""

    def corrections(self, *, notify: bool) -> list[Correction]:
        """What makes the live database hold what was found. Notifications of new events are stored
        as read without `notify`.
        """
        return [_correction(change, notify=notify) for change in (*self.changes, *self.pending)]


def difference(
    found: Sequence[StoredEvent],
    live: Iterable[StoredEvent],
    concerns: Callable[[StoredEvent], bool],
    newest: int,
    until: int,
    *,
    same_rules: bool = False,
) -> Difference:
    """Compare. `concerns` tells of an event of the live database whether the replay would have
    found it; those with an id above `newest`, and ends after `until`, it could not know of.

    With `same_rules` both come from the same rules, so an event that stands in the live database
    and whose end comes with an event that is missing there does not differ: the live flow has not
    come that far. The missing event is new; the end is corrected with it, and counts as unchanged.
    """
    live = list(live)
    there = {one.event_key: one for one in live if one.by_flow and one.status != "superseded"}
    stored = {one.event_key for one in live}
    to_come = {one.id for one in found if same_rules and one.event_key not in stored}
    changes: list[Change] = []
    pending: list[Change] = []
    unchanged: Counter[int | None] = Counter()
    keys = set()
    for one in found:
        keys.add(one.event_key)
        old = there.get(one.event_key)
        if old is None:
            changes.append(Change("new", one, None))
            continue
        fields = _differing(one, old, newest, until)
        if fields == ("end",) and old.resolved_at is None and one.ended_by in to_come:
            pending.append(Change("changed", one, old, fields))
            fields = ()
        if fields:
            changes.append(Change("changed", one, old, fields))
        else:
            unchanged[one.sensor_id] += 1
    changes += [
        Change("gone", None, old)
        for old in there.values()
        if old.event_key not in keys and old.id <= newest and concerns(old)
    ]
    changes.sort(key=lambda change: (change.event.at, change.event.event_key))
    return Difference(tuple(found), tuple(changes), unchanged, tuple(pending))


def _differing(found: StoredEvent, live: StoredEvent, newest: int, until: int) -> tuple[str, ...]:
    fields = tuple(
        column for name, column in _COMPARED.items() if getattr(found, name) != getattr(live, name)
    )
    if found.resolved_at == live.resolved_at or live.by_person:
        return fields
    if live.resolved_at is not None:
        if live.ended_by is None:  # by upkeep: no event tells of it
            return fields
        if found.resolved_at is None and (live.ended_by > newest or live.resolved_at > until):
            return fields
    return (*fields, "end")


def _correction(change: Change, *, notify: bool) -> Correction:
    one = event = change.event
    if change.kind == "gone":
        return Correction(event, "superseded", one.resolved_at, ends=False)
    if change.kind == "new" and not notify:
        event = replace(event, silent=True)
    status: Literal["active", "resolved"] = "active" if one.resolved_at is None else "resolved"
    # a new one may have come meanwhile from the live flow, and may have ended: that end stays
    return Correction(event, status, one.resolved_at, ends="end" in change.fields)


def as_found(events: Iterable[StoredEvent]) -> list[Correction]:
    """All of them as they were found, for a database that has none."""
    return [
        Correction(
            one, "active" if one.resolved_at is None else "resolved", one.resolved_at, ends=True
        )
        for one in events
    ]
