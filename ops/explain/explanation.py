"""Why an event came: the rules, panes, arrivals and timers that led to it, as one structure."""

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from itertools import pairwise, takewhile
from typing import Any

from contract.level import Level
from dataflows.engine import FACTOR, LEAST_MS
from dataflows.events import BACK, DEVIATION, FLAPPING, RECOVERED
from ops.explain.evidence import (
    BEFORE,
    MOST_PANES,
    WARM_UP,
    Evidence,
    falls,
    gather,
    is_silence,
    panes_wanted,
    target_of,
)
from ops.explain.past_panes import PaneLine, flapping_lines, judged_lines, lines, past, quiet
from ops.explain.rule_words import RuleWords, told
from ops.stored_events import StoredEvent
from rules.columns import Rules
from rules.kind import CLEAR_AFTER, RAISE_AFTER_SLOWLY, Rule
from rules.tables import RuleSet, kind_of
from rules.words import duration, quantity
from sql.database import Database

_USUAL_GAPS = 4


@dataclass(frozen=True, slots=True)
class Tie:
    """An event that another one began or ended with."""

    key: str
    at: int
    code: str
    title: str


@dataclass(frozen=True, slots=True)
class ArrivalLine:
    """Readings that were received together, told."""

    at: int
    readings: int
    gap_seconds: float | None
    """Since the arrival before; None: that one is not shown."""


@dataclass(frozen=True, slots=True)
class PredictionLine:
    """What a model had predicted for the time of a deviation."""

    model: str
    predicted_at: int
    target: int
    value: float
    confidence: float
    readings: int | None
    """From how many it was made."""


@dataclass(frozen=True, slots=True)
class Timer:
    """How long something took, or may take, in words."""

    name: str
    said: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What led to an event. Times are epoch milliseconds UTC."""

    event: StoredEvent
    ended: Tie | None
    """The event that ended with this one."""
    ended_by: Tie | None
    rules_version: str | None
    rules_since: int
    """Arrival time from which they applied; 0: from the beginning."""
    rules: list[RuleWords]
    """Of the sensor, in the order in which they are asked."""
    panes: list[PaneLine]
    left_out: tuple[int, int] | None
    """How many panes stand before those that are left out, and how long these took, in
    milliseconds."""
    arrivals: list[ArrivalLine]
    predictions: list[PredictionLine]
    timers: list[Timer]
    notes: list[str]
    """What does not fit, and why."""


def explain(database: Database, key: str) -> Explanation:
    """What led to the event of that key, or to the only one whose key begins so.

    Raises:
        SetupError: there is none, or several.
    """
    return explanation(gather(database, key))


def explanation(found: Evidence) -> Explanation:
    """What led to an event, by what the database knows."""
    event = found.event
    notes: list[str] = []
    version = event.rules_version
    rules: list[RuleWords] = []
    panes: list[PaneLine] = []
    left_out = None
    if is_silence(event):
        arrivals = _arrivals(found)
        timers = _silence(found, arrivals, notes)
    else:
        arrivals = []
        of_sensor = (found.rules or RuleSet()).of_sensor(event.sensor_id)
        every = Rules(of_sensor).rule
        asks = _asks(every, event)
        asked = _asks(every, found.ended) if found.ended else None
        if found.rules is None:
            notes.append(
                f"The rules of version {version} are not in rule_versions any more: the payload "
                "has what is known of the one that asked."
            )
        panes, left_out, flaps = _panes(found, of_sensor, asked if falls(event) else asks)
        _doubt(event, panes, notes)
        timers = _timers(found, panes, of_sensor)
        for index, rule in enumerate(every):
            mark = "asked" if rule is asks or index in flaps else ""
            mark = mark or ("had asked" if rule is asked else "")
            rules.append(told(rule, event.unit, mark))
    return Explanation(
        event, _tie(found.ended), _tie(found.ended_by), version, found.applies_from, rules, panes,
        left_out, arrivals, _predictions(found), timers, notes,
    )  # fmt: skip


def as_json(told: Explanation) -> dict[str, Any]:
    """The explanation as one JSON object; the event has the payload as an object."""
    event = told.event
    return {field.name: getattr(told, field.name) for field in fields(told)} | {
        "event": {
            "key": event.event_key,
            "at": event.at,
            "type": event.event_type,
            "code": event.event_code,
            "title": event.title,
            "message": event.message,
            "status": event.status,
            "resolved_at": event.resolved_at,
            "device_id": event.device_id,
            "device": event.device,
            "sensor_id": event.sensor_id,
            "sensor": event.sensor,
            "unit": event.unit,
            "payload": event.details | {"rules_version": event.rules_version},
        }
    }


def clock(ms: int) -> str:
    """A time in UTC.

    >>> clock(1732442407000), clock(1732442407050)
    ('2024-11-24 10:00:07', '2024-11-24 10:00:07.050')
    """
    at = datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None)
    return at.isoformat(" ", "milliseconds" if ms % 1000 else "seconds")


def _tie(event: StoredEvent | None) -> Tie | None:
    return Tie(event.event_key, event.at, event.event_code, event.title) if event else None


def _asks(rules: tuple[Rule, ...], event: StoredEvent) -> Rule | None:
    """The rule that raised an event's level, by the payload."""
    for rule in rules:
        kind = kind_of(rule)
        if kind.code == event.event_code and kind.is_cause(rule, event.details):
            return rule
    return None


def _panes(
    found: Evidence, rules: RuleSet, rule: Rule | None
) -> tuple[list[PaneLine], tuple[int, int] | None, set[int]]:
    """The panes to show, which are left out, and the rules that asked while it flapped."""
    event = found.event
    assert event.sensor_id is not None
    assert found.readings is not None
    those = past(event.sensor_id, found.readings)
    if those is None:
        return judged_lines(event.details.get("panes", ())), None, set()
    if event.event_code == FLAPPING:
        all_lines, flaps = flapping_lines(those, rules)
        return all_lines[-panes_wanted(event) :], None, flaps
    every = lines(those, rule, event.unit)
    if not falls(event):
        return every[-panes_wanted(event) :], None, set()
    since = found.ended.at if found.ended else event.at
    first = next(index for index, pane in enumerate(every) if pane.end >= min(since, every[-1].end))
    before = min(panes_wanted(found.ended), MOST_PANES // 3) if found.ended else BEFORE
    shown = every[max(0, first - before) :]
    if found.earlier is None and len(shown) <= MOST_PANES:
        return shown, None, set()
    head = shown[: before + 1]
    if found.earlier and (those := past(event.sensor_id, found.earlier)):
        head, shown = lines(those, rule, event.unit)[-before - 1 :], every[WARM_UP:]
    shown = shown[-(MOST_PANES - len(head)) :]
    return [*head, *shown], (len(head), shown[0].end - head[-1].end), set()


def _doubt(event: StoredEvent, panes: list[PaneLine], notes: list[str]) -> None:
    """Notes on what the rebuilt pane of the event has, and had."""
    had = event.details.get("count")
    if panes and panes[-1].min is None:
        notes.append("sensor_readings has none of this time any more: the panes are those that the "
                     "flow wrote into the event.")  # fmt: skip
    elif not panes or panes[-1].end != event.at:
        notes.append("The readings of the event's own pane are not in sensor_readings any more.")
    elif had is not None and (more := panes[-1].count - had):
        begin = f"The event's pane has {panes[-1].count} readings here and had {had} when judged"
        notes.append(
            f"{begin}: {more} came late, and were in no pane. So may readings of other panes."
            if more > 0
            else f"{begin}: {-more} are refused or deleted, or were sent twice in two packets."
        )


def _run(panes: list[PaneLine], said: str) -> list[PaneLine]:
    """The last panes in a row of which that is said, newest first."""
    return list(takewhile(lambda pane: pane.said == said, reversed(panes)))


def _timers(found: Evidence, panes: list[PaneLine], rules: RuleSet) -> list[Timer]:
    event, ended, said = found.event, found.ended, found.event.details
    if event.event_code == FLAPPING:
        changes = sum(bool(pane.detail) for pane in panes[-20:])
        timers = [
            Timer("changes of level", f"{changes} within the last {len(panes[-20:])} panes"),
            Timer("flapping", "from half of the last 20 panes on, newer ones weighing more, until "
                              "less than a quarter"),
        ]  # fmt: skip
    elif event.event_code == DEVIATION:
        timers = [
            Timer("predicted", f"{quantity(said['predicted_value'], event.unit)}, "
                               f"made {clock(said['predicted_at'])}"),
            Timer("mean of 10 s", quantity(said["baseline_mean"], event.unit)),
            Timer("off by", _off(said, event.unit)),
        ]  # fmt: skip
    elif falls(event):
        timers = [
            Timer("quiet", f"{_panes_in_a_row(_quiet(found, rules))} up to the event, not asking "
                           f"for {said['from']} nor holding it"),
            Timer("clear after", _panes_in_a_row(_quiet_needed(event, ended), "quiet ")),
        ]  # fmt: skip
    else:
        run = _run(panes, "beyond")
        streak = int(said.get("streak", len(run)))
        ends = [end for end, *_ in said.get("panes", ())] or [pane.end for pane in panes]
        since = ""
        if 0 < streak <= len(ends):
            since = f", since the one that ended {clock(ends[-streak])}"
        timers = []
        if streak and ("streak" in said or any(pane.said for pane in panes)):
            timers.append(Timer("beyond", f"{_panes_in_a_row(streak)} up to the event{since}"))
        if "raise_after" in said:
            timers.append(Timer("raise after", _panes_in_a_row(said["raise_after"])))
            timers.append(Timer("clear after", _panes_in_a_row(said["clear_after"], "quiet ")))
        if "score" in said:
            timers += _detected(said, event.unit)
    return timers + _lasted(event, ended)


def _quiet(found: Evidence, rules: RuleSet) -> int:
    """Panes in a row that let the level fall: as the engine counted them, else by the readings."""
    event = found.event
    if "quiet" in event.details:
        return int(event.details["quiet"])
    assert found.readings is not None
    assert event.sensor_id is not None
    those = past(event.sensor_id, found.readings)
    return quiet(those, rules, Level[event.details["from"]]) if those else 0


def _quiet_needed(event: StoredEvent, ended: StoredEvent | None) -> int:
    if "quiet_needed" in event.details:
        return int(event.details["quiet_needed"])
    return int((ended.details if ended else {}).get("clear_after", CLEAR_AFTER))


_UNUSUAL = {
    "level": "its value",
    "noise": "how much it moves",
    "quiet": "that it hardly moves",
    "shape": "how it moves",
}


def _detected(said: dict[str, Any], unit: str) -> list[Timer]:
    """What the detector found, by the payload."""
    chance = round(10 ** said["score"])
    return [
        Timer("unusual", f"{_UNUSUAL[said['unusual']]}; it is usually at about "
                         f"{quantity(float(format(said['usual_value'], '.3g')), unit)}"),
        Timer("score", f"{said['score']:g}, that is, one normal pane in {chance:,} is as unusual; "
                       f"the bound was {said['score_bound']:g}"),
        Timer("raise after", _panes_in_a_row(RAISE_AFTER_SLOWLY)),
        Timer("clear after", _panes_in_a_row(CLEAR_AFTER, "quiet ")),
    ]  # fmt: skip


def _panes_in_a_row(count: int, which: str = "") -> str:
    return f"1 {which}pane" if count == 1 else f"{count} {which}panes in a row"


def _off(said: dict[str, Any], unit: str) -> str:
    error, relative = said["error_abs"] or 0.0, said["error_rel"] or 0.0
    return f"{quantity(error, unit)}, {quantity(relative * 100, '%')} of it"


def _lasted(event: StoredEvent, ended: StoredEvent | None) -> list[Timer]:
    """How long it lasted, or what it ended did."""
    timers = []
    lasted = event.details.get("duration_seconds")
    if lasted is not None:
        since = event.at - round(lasted * 1000)
        name = "left NORMAL" if event.event_code == RECOVERED else "began"
        timers += [Timer(name, clock(since)), Timer("lasted", duration(event.at - since))]
    elif ended:
        timers.append(Timer(f"{ended.details.get('to', ended.event_code)} lasted",
                            duration(event.at - ended.at)))  # fmt: skip
    if event.resolved_at is not None and event.resolved_at > event.at:
        timers.append(Timer("active for", duration(event.resolved_at - event.at)))
    return timers


def _arrivals(found: Evidence) -> list[ArrivalLine]:
    rows = found.arrivals
    gaps = [None, *((b.received_at - a.received_at) / 1000 for a, b in pairwise(rows))]
    return [
        ArrivalLine(one.received_at, one.readings, gap) for one, gap in zip(rows, gaps, strict=True)
    ]


def _predictions(found: Evidence) -> list[PredictionLine]:
    return [
        PredictionLine(
            model=row.model_name,
            predicted_at=row.predicted_at,
            target=target_of(found.event),
            value=row.value,
            confidence=row.confidence,
            readings=row.window_points,
        )
        for row in found.predictions
    ]


def _silence(found: Evidence, arrivals: list[ArrivalLine], notes: list[str]) -> list[Timer]:
    """The limit is that of the engine: by the longest of the last gaps before the silence."""
    event, seen = found.event, int(found.event.details["last_seen_at"])
    who = "device" if event.sensor_id is None else "sensor"
    back = event.event_code == BACK
    silent_at = found.ended.at if back and found.ended else event.at
    timers = [Timer(f"{who} last seen", clock(seen))]
    before = [one.at // 1000 for one in arrivals if one.at <= seen]
    gaps = [b - a for a, b in pairwise(before) if b > a][-_USUAL_GAPS:]
    if len(gaps) == _USUAL_GAPS:
        longest = max(gaps)
        limit = max(LEAST_MS, FACTOR * 1000 * longest)
        timers.append(
            Timer("limit", f"{duration(limit)}: {FACTOR} times {duration(longest * 1000)}, the "
                           f"longest of the last {_USUAL_GAPS} gaps, and at least "
                           f"{duration(LEAST_MS)}")
        )  # fmt: skip
        if (not back or found.ended) and silent_at - limit > seen:
            started = f"The limit counts from {clock(silent_at - limit)}"
            notes.append(
                f"{started}, when the device came back from a silence."
                if who == "sensor"
                else f"{started}: that arrival is not in sensor_readings."
            )
    else:
        notes.append("The arrivals that made the limit are not in sensor_readings any more.")
    if not back or found.ended:
        timers.append(Timer("silent at", f"{clock(silent_at)}, {duration(silent_at - seen)} after"))
    if back:
        timers += [Timer("back at", clock(event.at)),
                   Timer("heard nothing for", duration(event.at - seen))]  # fmt: skip
    elif event.resolved_at is not None and event.resolved_at > event.at:
        timers.append(Timer("active for", duration(event.resolved_at - event.at)))
    if found.device_heard_at is not None:
        timers.append(Timer("device last seen", clock(found.device_heard_at)))
    return timers
