"""What the database knows of an event and of what came before it."""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from contract.columns import Floats, Ints
from contract.errors import SetupError
from contract.level import Level
from contract.packet import FUTURE_MS
from contract.predictions import HORIZON_MS
from dataflows.engine.panes import PANE_MS
from dataflows.events.writing import BACK, DEVIATION, FLAPPING, RECOVERED, SILENT
from rules.tables import KINDS, RuleSet, decode_rules, kind_of_code
from sql.database import Database

LEVEL_CODES = frozenset((*(kind.code for kind in KINDS), RECOVERED))
MOST_PANES = 60
"""How many an explanation shows."""
BEFORE = 5
"""How many panes before the first that matters."""
WARM_UP = 10
"""How many panes before the first shown one are read, for its windows and deltas."""
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
"""Events of one family begin and end each other."""


@dataclass(frozen=True, slots=True)
class EventRow:
    """A row of `ml_events`, with the names of whom it is about. Times: epoch milliseconds UTC."""

    key: str
    at: int
    type: str
    code: str
    title: str
    message: str
    status: str
    resolved_at: int | None
    device_id: int
    device: str
    sensor_id: int | None
    """None: the event is the device's."""
    sensor: str | None
    unit: str
    payload: dict[str, Any]

    @property
    def falls(self) -> bool:
        """Whether a level became a lower one."""
        said = self.payload
        return self.code in LEVEL_CODES and Level[said["to"]] < Level[said["from"]]

    @property
    def is_silence(self) -> bool:
        """Whether it is about arrivals, not about panes."""
        return self.code in (SILENT, BACK)


@dataclass(frozen=True, slots=True)
class Readings:
    """Stored readings of a sensor up to some time, by event time and arrival. N of them."""

    ts: Ints
    """(N,) event time, epoch microseconds UTC."""
    value: Floats
    """(N,)"""
    whole: bool
    """Whether there are none before these."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Readings that were received together."""

    at: int
    """Time of receipt, epoch milliseconds UTC."""
    readings: int


@dataclass(frozen=True, slots=True)
class StoredPrediction:
    """A row of `predictions`."""

    model: str
    predicted_at: int
    target: int
    value: float
    confidence: float
    readings: int | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that an event is explained by."""

    event: EventRow
    ended: EventRow | None
    """The event that ended with this one."""
    ended_by: EventRow | None
    rules: RuleSet | None
    """Those of the payload's version; None: they are not stored."""
    applies_from: int
    """Since when those were in force, an arrival time."""
    readings: Readings | None
    """Those up to the event; None: it is about arrivals."""
    earlier: Readings | None
    """Those up to the event that ended, where `readings` does not reach back to it."""
    arrivals: tuple[Arrival, ...]
    """The last ones up to the event, newest last, where it is about them."""
    device_heard_at: int | None
    """When a silent sensor's device was last heard."""
    predictions: tuple[StoredPrediction, ...]
    """Those for the time of a deviation."""


def gather(database: Database, key: str) -> Evidence:
    """Of the event of that key, or of the only one whose key begins so.

    Raises:
        SetupError: there is none, or several.
    """
    event = _find(database, key)
    ended, ended_by = _ties(database, event)
    applies_from, rules = _rules(database, event)
    readings = earlier = heard_at = None
    arrivals: tuple[Arrival, ...] = ()
    predictions: tuple[StoredPrediction, ...] = ()
    if event.is_silence:
        arrivals = _arrivals(database, event, event.sensor_id, _ARRIVALS)
        if event.sensor_id is not None:
            of_device = _arrivals(database, event, None, 1)
            heard_at = of_device[-1].at if of_device else None
    else:
        kind = kind_of_code(event.code)
        before = max(WARM_UP, kind.panes_before(event.payload) if kind else 0)
        readings = _readings(database, event, event.at, panes_wanted(event) + before)
        if event.falls and ended and not _reaches(readings, ended.at):
            earlier = _readings(database, event, ended.at, panes_wanted(ended) + WARM_UP)
    if event.code == DEVIATION:
        predictions = _predictions(database, event)
    return Evidence(
        event, ended, ended_by, rules, applies_from, readings, earlier, arrivals, heard_at,
        predictions,
    )  # fmt: skip


def panes_wanted(event: EventRow) -> int:
    """How many panes up to an event tell how it came."""
    if event.falls:
        return MOST_PANES
    if event.code == FLAPPING:
        return _FLAPPING_PANES
    return min(
        max(_USUAL_PANES, int(event.payload.get("raise_after", 1)) + BEFORE), MOST_PANES // 2
    )


def _find(database: Database, key: str) -> EventRow:
    key = key.strip().lower()
    if not _PREFIX <= len(key) <= _KEY or set(key) - set("0123456789abcdef"):
        raise SetupError(
            f"{key} is no event's key: give {_PREFIX} to {_KEY} hexadecimal digits of one. {_WHERE}"
        )
    found = [_event(row) for row in database.query("event_by_key", key, key + "g")]
    if not found:
        raise SetupError(f"no event has a key that begins with {key}. {_WHERE}")
    if len(found) > 1:
        raise SetupError(
            f"several events have keys that begin with {key}: give more of the one you mean, "
            + ", ".join(f"{one.key} ({one.title})" for one in found)
        )
    return found[0]


_WHERE = (
    "Keys are the column event_key of ml_events and of alert_notifications: "
    "SELECT event_key, created_at, title FROM ml_events ORDER BY created_at DESC"
)


def _event(row: Any) -> EventRow:
    key, kind, code, title, message, status, payload, *who, at, resolved_at = row
    device_id, device, sensor_id, sensor, unit = who
    return EventRow(
        key, int(at), kind, code, title, message or "", status,
        None if resolved_at is None else int(resolved_at),
        device_id, device, sensor_id, sensor, unit or "", msgspec.json.decode(payload or "{}"),
    )  # fmt: skip


def _ties(database: Database, event: EventRow) -> tuple[EventRow | None, EventRow | None]:
    """The event that ended with this one, and the one that ended this one."""
    family = next((codes for codes in _FAMILIES if event.code in codes), frozenset())
    found: dict[bool, EventRow] = {}
    for key, code, before in database.query("ties_of_event", event.key):
        if code in family:
            found[bool(before)] = _find(database, key)
    return found.get(True), found.get(False)


def _rules(database: Database, event: EventRow) -> tuple[int, RuleSet | None]:
    """The rules of the payload's version, and the last time before the event from which they
    applied.
    """
    rows = database.query("rules_of_version", event.payload.get("rules_version"))
    if not rows:
        return 0, None
    applies_from, text = next((row for row in reversed(rows) if row[0] <= event.at), rows[0])
    return applies_from, decode_rules(text)


def _readings(database: Database, event: EventRow, until: int, panes: int) -> Readings:
    """Enough for that many panes, where there are."""
    most = _FIRST_READINGS
    while True:
        rows = database.query("readings_before", event.sensor_id, until, most)
        whole = len(rows) < most
        if whole or len({row[2] // _PANE_US for row in rows}) > panes or most >= _MOST_READINGS:
            break
        most *= 4
    if not whole:  # of the first pane some may be missing
        first = rows[-1][2] // _PANE_US
        rows = [row for row in rows if row[2] // _PANE_US > first]
    believed = sorted(
        (int(ts), int(received), seq or 0, float(value))
        for seq, value, ts, received in rows
        if ts <= received + FUTURE_MS * 1000
    )
    return Readings(
        np.array([row[0] for row in believed], np.int64),
        np.array([row[3] for row in believed], np.float64),
        whole,
    )


def _reaches(readings: Readings, end: int) -> bool:
    return readings.whole or (len(readings.ts) > 0 and int(readings.ts[0]) < (end - PANE_MS) * 1000)


def _arrivals(
    database: Database, event: EventRow, sensor_id: int | None, most: int
) -> tuple[Arrival, ...]:
    """The last ones of the sensor, or of all of the device, among readings that are dated within a
    week before them: the first search that finds enough ends it.
    """
    seen, back = int(event.payload["last_seen_at"]), _FIRST_SEARCH_MS
    while True:
        rows = database.query(
            "arrivals_between", event.device_id, sensor_id,
            max(0, seen - back), event.at + FUTURE_MS, event.at, most,
        )  # fmt: skip
        if len(rows) >= most or back >= _LONGEST_SEARCH_MS:
            return tuple(Arrival(int(at), count) for at, count in reversed(rows))
        back *= 10


def _predictions(database: Database, event: EventRow) -> tuple[StoredPrediction, ...]:
    target = event.payload["predicted_at"] + HORIZON_MS
    rows = database.query("predictions_for", event.sensor_id, target)
    return tuple(
        StoredPrediction(model, int(at), target, float(value), float(confidence), readings)
        for model, readings, value, confidence, at in rows
    )
