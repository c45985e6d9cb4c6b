"""The rules, panes, arrivals and timers that led to an event, as one structure."""

from dataclasses import dataclass, fields, replace
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
from rules.detector import VIEWS
from rules.kind import CLEAR_AFTER, RAISE_AFTER_SLOWLY, Rule
from rules.tables import RuleSet, kind_of
from rules.words import duration, quantity
from sql.database import Database

_USUAL_GAPS = 4


@dataclass(frozen=True, slots=True)
class Tie:
    """An event that began or ended another one."""

    key: str
    at: int
    code: str
    title: str


@dataclass(frozen=True, slots=True)
class ArrivalLine:
    """Readings that were received together."""

    at: int
    readings: int
    gap_seconds: float | None
    """Time since the previous arrival. None: the previous arrival is not shown."""


@dataclass(frozen=True, slots=True)
class PredictionLine:
    """What a model predicted for the time of a deviation."""

    model: str
    predicted_at: int
    target: int
    value: float
    confidence: float
    readings: int | None
    """Number of readings the prediction was made from."""


@dataclass(frozen=True, slots=True)
class Timer:
    """A duration or limit, in words."""

    name: str
    said: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What led to an event. Times are epoch milliseconds UTC."""

    event: StoredEvent
    ended: Tie | None
    """The event that this one ended."""
    ended_by: Tie | None
    """The event that ended this one."""
    rules_version: str | None
    rules_since: int
    """Arrival time since which the rules applied. 0: from the beginning."""
    rules: list[RuleWords]
    """The rules of the sensor, in the order in which they are evaluated."""
    panes: list[PaneLine]
    left_out: tuple[int, int] | None
    """(number of panes before the gap, length of the gap in milliseconds)."""
    arrivals: list[ArrivalLine]
    predictions: list[PredictionLine]
    timers: list[Timer]
    notes: list[str]
    """What does not match, and why."""


def explain(database: Database, key: str) -> Explanation:
    """Explain the event with this key or unambiguous key prefix.

    Raises:
        SetupError: no event matches, or several do.
    """
    return explanation(gather(database, key))


def explanation(evidence: Evidence) -> Explanation:
    """Explain an event from what the database knows."""
    event = evidence.event
    notes: list[str] = []
    version = event.rules_version
    rules: list[RuleWords] = []
    panes: list[PaneLine] = []
    left_out = None
    if is_silence(event):
        arrivals = _arrivals(evidence)
        timers = _silence(evidence, arrivals, notes)
    else:
        arrivals = []
        of_sensor = (evidence.rules or RuleSet()).of_sensor(event.sensor_id)
        every = Rules(of_sensor).rule
        raising = _raising_rule(every, event)
        raised_before = _raising_rule(every, evidence.ended) if evidence.ended else None
        if evidence.rules is None:
            notes.append(
                f"The rules of version {version} are no longer in rule_versions: the payload has "
                "what is known about the rule that raised the event."
            )
        panes, left_out, flaps = _panes(
            evidence, of_sensor, raised_before if falls(event) else raising
        )
        panes = [_marked(pane, event) for pane in panes]
        _doubt(event, panes, notes)
        timers = _timers(evidence, panes, of_sensor)
        for index, rule in enumerate(every):
            mark = "asked" if rule is raising or index in flaps else ""
            mark = mark or ("had asked" if rule is raised_before else "")
            rules.append(told(rule, event.unit, mark))
    return Explanation(
        event, _tie(evidence.ended), _tie(evidence.ended_by), version, evidence.applies_from, rules,
        panes, left_out, arrivals, _predictions(evidence), timers, notes,
    )  # fmt: skip


def as_json(explained: Explanation) -> dict[str, Any]:
    """The explanation as one JSON object, with the event's payload as an object."""
    event = explained.event
    return {field.name: getattr(explained, field.name) for field in fields(explained)} | {
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
    """Format a time in UTC.

    >>> clock(1732442407000), clock(1732442407050)
    ('2024-11-24 10:00:07', '2024-11-24 10:00:07.050')
    """
    at = datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None)
    return at.isoformat(" ", "milliseconds" if ms % 1000 else "seconds")


def _tie(event: StoredEvent | None) -> Tie | None:
    return Tie(event.event_key, event.at, event.event_code, event.title) if event else None


def _raising_rule(rules: tuple[Rule, ...], event: StoredEvent) -> Rule | None:
    """Find the rule that raised an event's level, using the payload."""
    for rule in rules:
        kind = kind_of(rule)
        if kind.code == event.event_code and kind.is_cause(rule, event.details):
            return rule
    return None


def _panes(
    evidence: Evidence, rules: RuleSet, rule: Rule | None
) -> tuple[list[PaneLine], tuple[int, int] | None, set[int]]:
    """The panes to show, the gap between them, and the rules that raised while it flapped."""
    event = evidence.event
    assert event.sensor_id is not None
    assert evidence.readings is not None
    panes_then = past(event.sensor_id, evidence.readings)
    if panes_then is None:
        return judged_lines(event.details.get("panes", ())), None, set()
    if event.event_code == FLAPPING:
        all_lines, flaps = flapping_lines(panes_then, rules)
        return all_lines[-panes_wanted(event) :], None, flaps
    every = lines(panes_then, rule, event.unit)
    if not falls(event):
        return every[-panes_wanted(event) :], None, set()
    since = evidence.ended.at if evidence.ended else event.at
    first = next(index for index, pane in enumerate(every) if pane.end >= min(since, every[-1].end))
    before = min(panes_wanted(evidence.ended), MOST_PANES // 3) if evidence.ended else BEFORE
    shown = every[max(0, first - before) :]
    if evidence.earlier is None and len(shown) <= MOST_PANES:
        return shown, None, set()
    head = shown[: before + 1]
    if evidence.earlier and (panes_then := past(event.sensor_id, evidence.earlier)):
        head, shown = lines(panes_then, rule, event.unit)[-before - 1 :], every[WARM_UP:]
    shown = shown[-(MOST_PANES - len(head)) :]
    return [*head, *shown], (len(head), shown[0].end - head[-1].end), set()


def _marked(pane: PaneLine, event: StoredEvent) -> PaneLine:
    """The pane, with the number of its readings that came late, as far as the event knows it."""
    judged = {end: count for end, count, _ in event.details.get("panes", ())}
    late = pane.count - judged.get(pane.end, pane.count)
    if late <= 0 or event.details.get("late"):
        return pane
    words = [pane.detail, f"{late} late"] if pane.detail else [f"{late} late"]
    return replace(pane, detail=", ".join(words))


def _doubt(event: StoredEvent, panes: list[PaneLine], notes: list[str]) -> None:
    """Add notes on how the rebuilt pane of the event differs from the judged one."""
    had = event.details.get("count")
    if panes and panes[-1].min is None:
        notes.append("sensor_readings no longer has readings of this time: the panes are those "
                     "that the flow wrote into the event.")  # fmt: skip
    elif event.details.get("late"):
        detected = int(event.details["detected_at"])
        notes.append(
            f"The readings arrived late: this was detected at {clock(detected)}, "
            f"{duration(detected - event.at)} after it happened. A pane here may also have "
            "readings that arrived in time."
        )
    elif not panes or panes[-1].end != pane_of(event):
        notes.append("The readings of the event's own pane are no longer in sensor_readings.")
    elif had is not None and (more := panes[-1].count - had):
        begin = f"The event's pane has {panes[-1].count} readings here and had {had} when judged"
        notes.append(
            f"{begin}: {more} came late, and were judged in the backlog lane. Other panes may have "
            "some too."
            if more > 0
            else f"{begin}: {-more} were refused or deleted, or were sent twice in two packets."
        )


def pane_of(event: StoredEvent) -> int:
    """End of the pane that the event is about: the last one before it, if its value stood."""
    stood: float = event.details.get("stood_seconds", 0)
    return event.at - round(stood * 1000)


def _run(panes: list[PaneLine], said: str) -> list[PaneLine]:
    """The consecutive last panes with this `said`, newest first."""
    return list(takewhile(lambda pane: pane.said == said, reversed(panes)))


def _timers(evidence: Evidence, panes: list[PaneLine], rules: RuleSet) -> list[Timer]:
    event, ended, said = evidence.event, evidence.ended, evidence.event.details
    if event.event_code == FLAPPING:
        changes = sum(bool(pane.detail) for pane in panes[-20:])
        timers = [
            Timer("changes of level", f"{changes} within the last {len(panes[-20:])} panes"),
            Timer("flapping", "starts when half of the last 20 panes change the level, newer panes "
                              "weighted more, and stops below a quarter"),
        ]  # fmt: skip
    elif event.event_code == DEVIATION:
        timers = [
            Timer("predicted", f"{quantity(said['predicted_value'], event.unit)}, "
                               f"predicted at {clock(said['predicted_at'])}"),
            Timer("mean of 10 s", quantity(said["baseline_mean"], event.unit)),
            Timer("off by", _off(said, event.unit)),
        ]  # fmt: skip
    elif falls(event):
        timers = [
            *_stood(event),
            Timer("quiet", f"{_panes_in_a_row(_quiet(evidence, rules))} up to the event, neither "
                           f"raising nor holding {said['from']}"),
            Timer("clear after", _panes_in_a_row(_quiet_needed(event, ended), "quiet ")),
        ]  # fmt: skip
    else:
        run = _run(panes, "beyond")
        streak = int(said.get("streak", len(run)))
        ends = [end for end, *_ in said.get("panes", ())] or [pane.end for pane in panes]
        since = ""
        if 0 < streak <= len(ends):
            since = f", since the pane that ended at {clock(ends[-streak])}"
        timers = _stood(event)
        if streak and ("streak" in said or any(pane.said for pane in panes)):
            timers.append(Timer("beyond", f"{_panes_in_a_row(streak)} up to the event{since}"))
        if "raise_after" in said:
            timers.append(Timer("raise after", _panes_in_a_row(said["raise_after"])))
            timers.append(Timer("clear after", _panes_in_a_row(said["clear_after"], "quiet ")))
        if "score" in said:
            timers += _detected(said, event.unit)
    return timers + _lasted(event, ended)


def _stood(event: StoredEvent) -> list[Timer]:
    """How long the value of the last pane stood, if that changed the level."""
    stood = event.details.get("stood_seconds")
    if stood is None:
        return []
    return [Timer("value stood", f"{duration(round(stood * 1000))}, without another reading")]


def _quiet(evidence: Evidence, rules: RuleSet) -> int:
    """Consecutive panes that let the level clear: as the engine counted them, else recomputed."""
    event = evidence.event
    if "quiet" in event.details:
        return int(event.details["quiet"])
    assert evidence.readings is not None
    assert event.sensor_id is not None
    panes_then = past(event.sensor_id, evidence.readings)
    return quiet(panes_then, rules, Level[event.details["from"]]) if panes_then else 0


def _quiet_needed(event: StoredEvent, ended: StoredEvent | None) -> int:
    if "quiet_needed" in event.details:
        return int(event.details["quiet_needed"])
    return int((ended.details if ended else {}).get("clear_after", CLEAR_AFTER))


def _detected(said: dict[str, Any], unit: str) -> list[Timer]:
    """What the detector found, from the payload."""
    chance = round(10 ** said["score"])
    return [
        Timer("unusual", f"{VIEWS[said['unusual']]}; the usual value is about "
                         f"{quantity(float(format(said['usual_value'], '.3g')), unit)}"),
        Timer("score", f"{said['score']:g}: one normal pane in {chance:,} is this unusual; "
                       f"the bound was {said['score_bound']:g}"),
        Timer("raise after", _panes_in_a_row(RAISE_AFTER_SLOWLY)),
        Timer("clear after", _panes_in_a_row(CLEAR_AFTER, "quiet ")),
    ]  # fmt: skip


def _panes_in_a_row(count: int, which: str = "") -> str:
    return f"1 {which}pane" if count == 1 else f"{count} {which}panes in a row"


def _off(said: dict[str, Any], unit: str) -> str:
    error, relative = said["error_abs"] or 0.0, said["error_rel"] or 0.0
    return f"{quantity(error, unit)}, {quantity(relative * 100, '%')} of the prediction"


def _lasted(event: StoredEvent, ended: StoredEvent | None) -> list[Timer]:
    """How long the event lasted, or the event that it ended."""
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


def _arrivals(evidence: Evidence) -> list[ArrivalLine]:
    rows = evidence.arrivals
    gaps = [None, *((b.received_at - a.received_at) / 1000 for a, b in pairwise(rows))]
    return [
        ArrivalLine(row.received_at, row.readings, gap) for row, gap in zip(rows, gaps, strict=True)
    ]


def _predictions(evidence: Evidence) -> list[PredictionLine]:
    return [
        PredictionLine(
            model=row.model_name,
            predicted_at=row.predicted_at,
            target=target_of(evidence.event),
            value=row.value,
            confidence=row.confidence,
            readings=row.window_points,
        )
        for row in evidence.predictions
    ]


def _silence(evidence: Evidence, arrivals: list[ArrivalLine], notes: list[str]) -> list[Timer]:
    """The timers of a silence. The limit is the engine's, from the longest of the last gaps."""
    event, seen = evidence.event, int(evidence.event.details["last_seen_at"])
    who = "device" if event.sensor_id is None else "sensor"
    back = event.event_code == BACK
    silent_at = evidence.ended.at if back and evidence.ended else event.at
    timers = [Timer(f"{who} last seen", clock(seen))]
    before = [arrival.at // 1000 for arrival in arrivals if arrival.at <= seen]
    gaps = [b - a for a, b in pairwise(before) if b > a][-_USUAL_GAPS:]
    if len(gaps) == _USUAL_GAPS:
        longest = max(gaps)
        limit = max(LEAST_MS, FACTOR * 1000 * longest)
        timers.append(
            Timer("limit", f"{duration(limit)}: {FACTOR} times {duration(longest * 1000)}, the "
                           f"longest of the last {_USUAL_GAPS} gaps, and at least "
                           f"{duration(LEAST_MS)}")
        )  # fmt: skip
        if (not back or evidence.ended) and silent_at - limit > seen:
            started = f"The limit counts from {clock(silent_at - limit)}"
            notes.append(
                f"{started}, when the device resumed after a silence."
                if who == "sensor"
                else f"{started}: that arrival is not in sensor_readings."
            )
    else:
        notes.append("The arrivals that the limit is based on are no longer in sensor_readings.")
    if not back or evidence.ended:
        timers.append(Timer("silent at", f"{clock(silent_at)}, {duration(silent_at - seen)} later"))
    if back:
        timers += [Timer("resumed at", clock(event.at)),
                   Timer("silent for", duration(event.at - seen))]  # fmt: skip
    elif event.resolved_at is not None and event.resolved_at > event.at:
        timers.append(Timer("active for", duration(event.resolved_at - event.at)))
    if evidence.device_heard_at is not None:
        timers.append(Timer("device last seen", clock(evidence.device_heard_at)))
    return timers
