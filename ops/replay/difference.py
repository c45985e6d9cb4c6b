"""What a replay found against what the live database holds: events that are new, gone, changed."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from contract.event import Event
from sinks.corrections import Correction
from sinks.times import text_of
from sql.database import Database

Kind = Literal["new", "gone", "changed"]
_COMPARED = ("event_type", "title", "message", "payload")
_VERSION = "rules_version"
"""A key of every payload that the flow has written, and of no other."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A row of `ml_events` with its notification. Times are epoch milliseconds UTC."""

    id: int
    event_key: str
    device_id: int
    sensor_id: int | None
    event_type: str
    event_code: str
    title: str
    message: str
    payload: dict[str, Any]
    """Without the version of the rules."""
    by_flow: bool
    """Whether the flow has written it."""
    status: str
    by_person: bool
    """Whether somebody has resolved it."""
    is_read: bool
    value: float | None
    at: int
    end: int | None
    ended_by: int | None
    """Id of the event that its end came with; None where the end came from elsewhere."""
    text: str
    """The payload as it stands there."""

    @property
    def event(self) -> Event:
        """As the flow made it, but for what it ends."""
        return Event(
            event_key=self.event_key,
            device_id=self.device_id,
            sensor_id=self.sensor_id,
            at=self.at,
            event_type=self.event_type,
            event_code=self.event_code,
            title=self.title,
            message=self.message,
            value=self.value,
            payload=self.text,
            resolves=None,
            status=self.status,
            silent=self.is_read,
        )


def stored_events(database: Database, begin: int, end: int) -> list[Stored]:
    """The events of [begin, end), by time, with a key; from whoever has written them."""
    return [_stored(*row) for row in database.query("events_between", text_of(begin), text_of(end))]


def _stored(  # noqa: PLR0917 - the columns of events_between.sql
    id: int,  # noqa: A002 - the column's name
    event_key: str,
    device_id: int,
    sensor_id: int | None,
    event_type: str,
    event_code: str,
    title: str,
    message: str | None,
    text: str | None,
    status: str,
    resolved_by: int | None,
    is_read: int | None,
    value: float | None,
    at: int,
    end: int | None,
    ended_by: int | None,
) -> Stored:
    try:
        payload = msgspec.json.decode(text or "{}", type=dict[str, Any])
    except msgspec.DecodeError:  # another program's; ours is an object
        payload = {}
    by_flow = payload.pop(_VERSION, None) is not None
    return Stored(
        id, event_key, device_id, sensor_id, event_type, event_code, title, message or "", payload,
        by_flow, status, resolved_by is not None, bool(is_read), value, at, end, ended_by,
        text or "{}",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One event that is not the same."""

    kind: Kind
    found: Stored | None
    """None for one that is gone."""
    live: Stored | None
    """None for one that is new."""
    fields: tuple[str, ...] = ()
    """What differs of one that changed."""

    @property
    def event(self) -> Stored:
        """As it should be; as it is where it should not."""
        event = self.found or self.live
        assert event is not None
        return event


@dataclass(frozen=True, slots=True)
class Difference:
    """What was found, all changes by time, and how many events of each sensor (None: devices) are
    the same.
    """

    found: tuple[Stored, ...]
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
    found: Sequence[Stored],
    live: Iterable[Stored],
    concerns: Callable[[Stored], bool],
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
        if fields == ("end",) and old.end is None and one.ended_by in to_come:
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


def _differing(found: Stored, live: Stored, newest: int, until: int) -> tuple[str, ...]:
    fields = tuple(name for name in _COMPARED if getattr(found, name) != getattr(live, name))
    if found.end == live.end or live.by_person:
        return fields
    if live.end is not None:
        if live.ended_by is None:  # by upkeep: no event tells of it
            return fields
        if found.end is None and (live.ended_by > newest or live.end > until):
            return fields
    return (*fields, "end")


def _correction(change: Change, *, notify: bool) -> Correction:
    one, event = change.event, change.event.event
    if change.kind == "gone":
        return Correction(event, "superseded", one.end, ends=False)
    if change.kind == "new" and not notify:
        event = replace(event, silent=True)
    status: Literal["active", "resolved"] = "active" if one.end is None else "resolved"
    # a new one may have come meanwhile from the live flow, and may have ended: that end stays
    return Correction(event, status, one.end, ends="end" in change.fields)


def as_found(events: Iterable[Stored]) -> list[Correction]:
    """All of them as they were found, for a database that has none."""
    return [
        Correction(one.event, "active" if one.end is None else "resolved", one.end, ends=True)
        for one in events
    ]
