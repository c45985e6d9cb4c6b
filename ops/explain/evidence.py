"""What the database knows about an event and what came before it."""

from dataclasses import dataclass

import numpy as np

from contract.columns import Floats, Ints
from contract.errors import SetupError
from contract.level import Level
from contract.packet import FUTURE_MS
from contract.predictions import HORIZON_MS
from dataflows.events import BACK, DEVIATION, FLAPPING, RECOVERED, SILENT
from ops.stored_events import StoredEvent, stored_events
from rules.panes import PANE_MS
from rules.tables import KINDS, RuleSet, decode_rules, kind_of_code
from sql.database import Database
from sql.statements import (
    ARRIVALS_BETWEEN,
    EVENT_BY_KEY,
    PREDICTIONS_FOR,
    READINGS_BEFORE,
    RULES_OF_VERSION,
    TIES_OF_EVENT,
    Arrival,
    ModelPrediction,
)

LEVEL_CODES = frozenset((*(kind.code for kind in KINDS), RECOVERED))
MOST_PANES = 60
"""Panes that an explanation shows at most."""
BEFORE = 5
"""Panes shown before the first one that matters."""
WARM_UP = 10
"""Panes read before the first one shown, for its windows and deltas."""
_USUAL_PANES, _FLAPPING_PANES = 15, 25
_ARRIVALS = 12
_PANE_US = PANE_MS * 1000
_FIRST_READINGS, _MOST_READINGS = 1_000, 64_000
_FIRST_SEARCH_MS, _LONGEST_SEARCH_MS = 60_000, 600_000_000
_KEY, _PREFIX = 32, 8
_FAMILIES = (
    LEVEL_CODES,
    frozenset((FLAPPING,)),
    frozenset((DEVIATION,)),
    frozenset((SILENT, BACK)),
)
"""Only events of the same family begin and end each other."""


def falls(event: StoredEvent) -> bool:
    """Whether the event lowered a level."""
    said = event.details
    return event.event_code in LEVEL_CODES and Level[said["to"]] < Level[said["from"]]


def is_silence(event: StoredEvent) -> bool:
    """Whether the event is about arrivals, not about panes."""
    return event.event_code in (SILENT, BACK)


def target_of(event: StoredEvent) -> int:
    """Target time of a deviation's prediction, in epoch milliseconds UTC."""
    return int(event.details["predicted_at"]) + HORIZON_MS


@dataclass(frozen=True, slots=True)
class Readings:
    """N stored readings of a sensor up to some time, sorted by event time and arrival."""

    ts: Ints
    """(N,) event time, epoch microseconds UTC."""
    value: Floats
    """(N,)"""
    whole: bool
    """Whether the database has no earlier readings."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that an explanation of an event is based on."""

    event: StoredEvent
    ended: StoredEvent | None
    """The event that this one ended."""
    ended_by: StoredEvent | None
    """The event that ended this one."""
    rules: RuleSet | None
    """The rules of the payload's version. None: not stored."""
    applies_from: int
    """Arrival time since which `rules` were in force."""
    readings: Readings | None
    """Readings up to the event. None: the event is about arrivals."""
    earlier: Readings | None
    """Readings up to `ended`, if `readings` does not reach back to it."""
    arrivals: tuple[Arrival, ...]
    """The last arrivals up to the event, newest last, if the event is about arrivals."""
    device_heard_at: int | None
    """When the device of a silent sensor was last heard."""
    predictions: tuple[ModelPrediction, ...]
    """Predictions for the time of a deviation."""


def gather(database: Database, key: str) -> Evidence:
    """Collect the evidence for the event with this key or unambiguous key prefix.

    Raises:
        SetupError: no event matches, or several do.
    """
    event = _find(database, key)
    ended, ended_by = _ties(database, event)
    applies_from, rules = _rules(database, event)
    readings = earlier = heard_at = None
    arrivals: tuple[Arrival, ...] = ()
    predictions: tuple[ModelPrediction, ...] = ()
    if is_silence(event):
        arrivals = _arrivals(database, event, event.sensor_id, _ARRIVALS)
        if event.sensor_id is not None:
            of_device = _arrivals(database, event, None, 1)
            heard_at = of_device[-1].received_at if of_device else None
    else:
        kind = kind_of_code(event.event_code)
        before = max(WARM_UP, kind.panes_before(event.details) if kind else 0)
        readings = _readings(database, event, event.at, panes_wanted(event) + before)
        if falls(event) and ended and not _reaches(readings, ended.at):
            earlier = _readings(database, event, ended.at, panes_wanted(ended) + WARM_UP)
    if event.event_code == DEVIATION:
        predictions = _predictions(database, event)
    return Evidence(
        event, ended, ended_by, rules, applies_from, readings, earlier, arrivals, heard_at,
        predictions,
    )  # fmt: skip


def panes_wanted(event: StoredEvent) -> int:
    """How many panes up to an event show what led to it."""
    if falls(event):
        return MOST_PANES
    if event.event_code == FLAPPING:
        return _FLAPPING_PANES
    return min(
        max(_USUAL_PANES, int(event.details.get("raise_after", 1)) + BEFORE), MOST_PANES // 2
    )


def _find(database: Database, key: str) -> StoredEvent:
    key = key.strip().lower()
    if not _PREFIX <= len(key) <= _KEY or set(key) - set("0123456789abcdef"):
        raise SetupError(
            f"{key} is not an event key: give {_PREFIX} to {_KEY} hexadecimal digits. {_WHERE}"
        )
    events = stored_events(database.query(EVENT_BY_KEY, key, key + "g"))
    if not events:
        raise SetupError(f"no event has a key that begins with {key}. {_WHERE}")
    if len(events) > 1:
        raise SetupError(
            f"several events have keys that begin with {key}: give more digits, "
            + ", ".join(f"{event.event_key} ({event.title})" for event in events)
        )
    return events[0]


_WHERE = (
    "Keys are the column event_key of ml_events and of alert_notifications: "
    "SELECT event_key, created_at, title FROM ml_events ORDER BY created_at DESC"
)


def _ties(database: Database, event: StoredEvent) -> tuple[StoredEvent | None, StoredEvent | None]:
    """The event that ended with this one, and the one that ended this one."""
    family = next((codes for codes in _FAMILIES if event.event_code in codes), frozenset())
    ties: dict[bool, StoredEvent] = {}
    for tied in database.query(TIES_OF_EVENT, event.event_key):
        if tied.event_code in family:
            ties[bool(tied.is_before)] = _find(database, tied.event_key)
    return ties.get(True), ties.get(False)


def _rules(database: Database, event: StoredEvent) -> tuple[int, RuleSet | None]:
    """The rules of the payload's version, and the last time before the event since which they
    applied.
    """
    rows = database.query(RULES_OF_VERSION, event.rules_version)
    if not rows:
        return 0, None
    first, *_ = rows
    at = event.details.get("detected_at", event.at)  # late readings are judged when they arrive
    row = next((row for row in reversed(rows) if row.applies_from <= at), first)
    return row.applies_from, decode_rules(row.rules)


def _readings(database: Database, event: StoredEvent, until: int, panes: int) -> Readings:
    """Read enough readings for `panes` panes, if there are that many."""
    limit = _FIRST_READINGS
    while True:
        rows = database.query(READINGS_BEFORE, event.sensor_id, until, limit)
        whole = len(rows) < limit
        if whole or len({row.ts // _PANE_US for row in rows}) > panes or limit >= _MOST_READINGS:
            break
        limit *= 4
    if not whole:  # the first pane may be incomplete
        first = rows[-1].ts // _PANE_US
        rows = [row for row in rows if row.ts // _PANE_US > first]
    accepted = [row for row in rows if row.ts <= row.received_at + FUTURE_MS * 1000]
    accepted.sort(key=lambda row: (row.ts, row.received_at, row.seq or 0, row.value))
    return Readings(
        np.array([row.ts for row in accepted], np.int64),
        np.array([row.value for row in accepted], np.float64),
        whole,
    )


def _reaches(readings: Readings, end: int) -> bool:
    return readings.whole or (len(readings.ts) > 0 and int(readings.ts[0]) < (end - PANE_MS) * 1000)


def _arrivals(
    database: Database, event: StoredEvent, sensor_id: int | None, limit: int
) -> tuple[Arrival, ...]:
    """The last arrivals of the sensor, or of the whole device if `sensor_id` is None.

    Only readings dated within a week before are searched. The span grows until a search returns
    enough arrivals.
    """
    seen, back = int(event.details["last_seen_at"]), _FIRST_SEARCH_MS
    while True:
        rows = database.query(
            ARRIVALS_BETWEEN, event.device_id, sensor_id,
            max(0, seen - back), event.at + FUTURE_MS, event.at, limit,
        )  # fmt: skip
        if len(rows) >= limit or back >= _LONGEST_SEARCH_MS:
            return tuple(reversed(rows))
        back *= 10


def _predictions(database: Database, event: StoredEvent) -> tuple[ModelPrediction, ...]:
    return tuple(database.query(PREDICTIONS_FOR, event.sensor_id, target_of(event)))
