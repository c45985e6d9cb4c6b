"""Turns the engine's changes into events: key, time, code, texts and payload."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import msgspec
import numpy as np

from contract.columns import NEVER, Ints
from contract.event import Alert, Event, device_event_key, event_key
from contract.level import Level
from dataflows.events.changes import (
    BY_FLAPPING,
    Deviation,
    Flapping,
    Incident,
    NoDataChange,
    Standing,
    Transition,
)
from dataflows.events.texts import alert_title, message, title, word
from dataflows.events.verdicts import Verdicts
from rules.columns import Rules
from rules.detector import DETECTOR
from rules.kind import Cause, Closed, finite
from rules.panes import Panes, Windows
from rules.tables import kind_numbered
from rules.threshold import ALERTS
from rules.words import Named, Names, duration, quantity

RECOVERED = "RECOVERED_ANOMALY"
FLAPPING = "PATTERN_CHANGE"
DEVIATION = "PREDICTION_DEVIATION"
SILENT = "NO_DATA"
BACK = "DATA_RESUMED"

_TYPES = {Level.NORMAL: "notice", Level.WARN: "warning", Level.CRITICAL: "critical"}
_ACTIONS = {
    Level.NORMAL: "none",
    Level.WARN: "check_soon",
    Level.CRITICAL: "immediate_intervention",
}
_CURVE = 0.5
"""A curve is unusual from this slope, or difference of slopes, in units per second."""
_LATE = " late"
"""Follows the code in the key of a late event: its pane may have had a live event too."""
_NOTHING_NOTED = np.full(4, np.nan)
_MICRO_DELTA, _MICRO_Z = 0.01, 3.0


@dataclass(frozen=True, slots=True)
class _About:
    """What a change of level is about: a pane, or a value that stands."""

    sensor_id: int
    device_id: int
    named: Named
    value: float
    panes: list[tuple[int, int, float]]
    """End, number of readings and mean of the latest panes, newest last."""
    facts: dict[str, Any]

    def payload(self, level: Level) -> dict[str, Any]:
        """The keys of every event about a pane."""
        return {"severity": level.name, "recommended_action": _ACTIONS[level]} | self.facts


@dataclass(frozen=True, slots=True)
class EventWriter:
    """Writes the events of one step of one partition."""

    names: Names
    sensor_id: Ints
    """(S,) the sensor of each row."""
    device_id: Ints
    """(D,) the device of each row."""
    rules: Rules
    verdicts: Verdicts

    @property
    def panes(self) -> Panes:
        """The judged panes."""
        return self.verdicts.closed.panes

    @property
    def windows(self) -> Windows:
        """The windows that end with them."""
        return self.verdicts.closed.windows

    def transition(
        self, change: Transition, detected_at: int | None = None, *, ended: bool = False
    ) -> Event:
        """A change of level. It resolves the event of the previous level. `detected_at` is the
        arrival time at which late readings showed it; None for a change in the live lane. `ended`
        if it has ended too.
        """
        about = self._standing(change) if change.standing else self._pane(change.pane)
        named, pane = about.named, change.pane
        payload = about.payload(change.after) | {
            "from": change.before.name, "to": change.after.name
        }  # fmt: skip
        value = about.value
        words = {"value": quantity(value, named.unit)}
        headline: Level | str = change.after
        if change.after is Level.NORMAL:
            payload["duration_seconds"] = (change.at - change.since) / 1000
            words["duration"] = duration(change.at - change.since)
            watched = change.kind_before == DETECTOR.number or self.rules.watch(about.sensor_id)
            kind = "cut" if change.cut else "recovered" if watched else "unwatched"
            stood = change.standing
            accepted = stood.accepted if stood else float(self.verdicts.accepted[pane])
            if change.kind_before == DETECTOR.number and isfinite(accepted):
                headline = kind = "accepted"
                payload["accepted_value"] = accepted
                words["accepted"] = quantity(float(f"{accepted:.6g}"), named.unit)
            text = message(self.names.language, kind, named, None, **words)
        else:
            cause = self._cause(about, change)
            payload |= cause.payload
            value = value if cause.value is None else cause.value
            text = message(
                self.names.language, cause.message, named, change.after, **words | cause.words
            )
        if change.after > change.before:
            streak = 0 if change.standing else int(self.verdicts.streak[pane])
            payload["streak"] = streak
        else:
            payload |= {"quiet": change.quiet, "quiet_needed": change.clear_after}
        payload["panes"] = about.panes
        if change.standing:
            payload["stood_seconds"] = (change.at - change.standing.end) / 1000
        if detected_at is not None:
            payload |= {"late": True, "detected_at": detected_at}
        lane = "" if detected_at is None else _LATE
        resolves = None
        if change.before is not Level.NORMAL and change.changed_at > NEVER:
            code = _code(change.before, change.kind_before) + lane
            resolves = event_key(about.sensor_id, change.changed_at, code)
        code = _code(change.after, change.kind)
        return Event(
            event_key=event_key(about.sensor_id, change.at, code + lane),
            device_id=about.device_id,
            sensor_id=about.sensor_id,
            at=change.at,
            event_type=_TYPES[change.after],
            event_code=code,
            title=title(self.names.language, named, headline),
            message=text,
            value=value,
            payload=msgspec.json.encode(payload).decode(),
            resolves=resolves,
            status="resolved" if ended or change.after is Level.NORMAL else "active",
            incident_key=self._incident(about.sensor_id, change.incident, lane),
            silent=not change.rings,
            escalates=change.rings and change.before is not Level.NORMAL,
            alert=self._alert(change, named.unit, late=detected_at is not None),
        )

    def _alert(self, change: Transition, unit: str, *, late: bool) -> Alert | None:
        """What the change means for the alerts of the sensor. Only some kinds of rules raise them.
        Another kind that raises a level leaves alone the alert of a lower one, because that level
        has not cleared. The alert of a late event ends with its event.
        """
        if change.after is not Level.NORMAL and (kind := kind_numbered(change.kind)).alerts:
            rule = self.rules.rule[change.rule]
            headline = alert_title(self.names.language, change.after, kind.told(rule, unit).name)
            threshold_id = rule.id if rule.table == ALERTS else None
            return Alert(change.after, threshold_id, headline, late)
        return None if late or change.after > change.before else Alert(Level.NORMAL)

    def _pane(self, pane: int) -> "_About":
        named, sensor_id, device_id = self._who(pane)
        return _About(
            sensor_id, device_id, named, float(self.panes.mean[pane]), self._lately(pane),
            self._facts(pane),
        )  # fmt: skip

    def _standing(self, change: Transition) -> "_About":
        stood = change.standing
        assert stood is not None
        sensor_id, device_id = int(self.sensor_id[change.row]), int(self.device_id[stood.device])
        named = self.names.of(sensor_id, device_id)
        facts = {
            "behavior_pattern": "STABLE",
            "sensor_type": named.type,
            "baseline_mean": stood.mean,
            "last_value": stood.mean,
            "z_score_last": 0.0,
            "is_curve_anomalous": False,
            "has_microvariation": False,
            "microvariation_delta": 0.0,
            "mean": stood.mean,
            "min": stood.minimum,
            "max": stood.maximum,
            "count": stood.readings,
            "rules_version": self.rules.version,
        }
        panes = [(stood.end, stood.readings, stood.mean)]
        return _About(sensor_id, device_id, named, stood.mean, panes, facts)

    def _lately(self, pane: int) -> list[tuple[int, int, float]]:
        """End, number of readings and mean of the pane and up to nine before it, newest last."""
        windows = self.windows
        ends, counts, means = (
            column[::-1, pane].tolist()
            for column in (windows.lately_end, windows.lately_count, windows.lately_mean)
        )
        return [
            (int(end), int(count), mean)
            for end, count, mean in zip(ends, counts, means, strict=True)
            if end > NEVER
        ]

    def _cause(self, about: "_About", change: Transition) -> Cause:
        """Why the level is raised, or is not lower."""
        rule = self.rules.rule[change.rule] if change.rule >= 0 else None
        kind, unit = kind_numbered(change.kind), about.named.unit
        if change.standing:
            return kind.cause(rule, 0, _closed(change.standing), _NOTHING_NOTED, unit)
        pane = change.pane
        return kind.cause(rule, pane, self.verdicts.closed, self.verdicts.noted[:, pane], unit)

    def flapping(self, change: Flapping) -> Event:
        """A sensor started or stopped flapping. The event of the end has the sensor's present
        level, which may not have been notified yet.
        """
        pane, end = change.pane, int(self.panes.end[change.pane])
        named, sensor_id, _ = self._who(pane)
        value = quantity(float(self.panes.mean[pane]), named.unit)
        level, kind, resolves = Level.WARN, "flapping", None
        words: dict[str, str] = {}
        more: dict[str, Any] = {"behavior_pattern": "OSCILLATING"}
        if not change.begins:
            level, kind = change.level, "settled"
            resolves = event_key(sensor_id, change.since, FLAPPING)
            words = {
                "duration": duration(end - change.since),
                "state": word(self.names.language, level),
            }
            more = {"duration_seconds": (end - change.since) / 1000}
        return self._event(
            pane,
            FLAPPING,
            level,
            title(self.names.language, named, kind),
            message(self.names.language, kind, named, None, value=value, **words),
            self._payload(pane, level) | more,
            resolves,
            ends=not change.begins,
            incident_key=self._incident(sensor_id, change.incident),
            silent=not change.rings,
        )

    def deviation(self, change: Deviation) -> Event:
        """A sensor started or stopped deviating from its predictions."""
        pane, end = change.pane, int(self.panes.end[change.pane])
        named, sensor_id, _ = self._who(pane)
        level = Level.WARN if change.begins else Level.NORMAL
        kind = "deviation" if change.begins else "as_predicted"
        words = {"value": quantity(change.seen, named.unit)}
        payload = self._payload(pane, level) | {
            "predicted_value": change.value,
            "error_abs": finite(change.error),
            "error_rel": finite(change.relative),
            "error_band": finite(change.band),
            "predicted_at": change.predicted_at,
        }
        if change.begins:
            words["predicted"] = quantity(change.value, named.unit)
            words["band"] = quantity(float(f"{change.band:.3g}"), named.unit)
        else:
            words["duration"] = duration(end - change.since)
            payload["duration_seconds"] = (end - change.since) / 1000
        return self._event(
            pane,
            DEVIATION,
            level,
            title(self.names.language, named, kind),
            message(self.names.language, kind, named, level or None, **words),
            payload,
            None if change.begins else event_key(sensor_id, change.since, DEVIATION),
            ends=not change.begins,
            incident_key=event_key(sensor_id, change.since, DEVIATION),
            silent=not change.begins,
        )

    def no_data(self, change: NoDataChange) -> Event:
        """A sensor or a device stopped sending data, or resumed."""
        language = self.names.language
        device_id, sensor_id = int(self.device_id[change.device]), None
        if change.is_device:
            named, who = self.names.device(device_id), "device"
        else:
            sensor_id = int(self.sensor_id[change.row])
            named, who = self.names.of(sensor_id, device_id), "sensor"
        lasted = change.at - change.heard_at
        payload = {
            "severity": Level.NORMAL.name,
            "recommended_action": "check_soon" if change.begins else "none",
            "sensor_type": named.type,
            "last_seen_at": change.heard_at,
            "duration_seconds": lasted / 1000,
            "rules_version": self.rules.version,
        }
        code = SILENT if change.begins else BACK
        kind = "silent" if change.begins else "back"

        def key(at: int, code: str) -> str:
            if sensor_id is None:
                return device_event_key(device_id, at, code)
            return event_key(sensor_id, at, code)

        return Event(
            event_key=key(change.at, code),
            device_id=device_id,
            sensor_id=sensor_id,
            at=change.at,
            event_type="notice",
            event_code=code,
            title=title(language, named, kind),
            message=message(language, f"{who}_{kind}", named, duration=duration(lasted)),
            value=None,
            payload=msgspec.json.encode(payload).decode(),
            resolves=None if change.begins else key(change.since, SILENT),
            status="active" if change.begins else "resolved",
            incident_key=key(change.since, SILENT),
            silent=not change.begins,
        )

    @staticmethod
    def _incident(sensor_id: int, incident: Incident, lane: str = "") -> str:
        """The key of the first event of an incident."""
        code = FLAPPING
        if incident.kind != BY_FLAPPING:
            code = kind_numbered(incident.kind).code
        return event_key(sensor_id, incident.since, code + lane)

    def _who(self, pane: int) -> tuple[Named, int, int]:
        sensor_id = int(self.sensor_id[self.panes.row[pane]])
        device_id = int(self.device_id[self.panes.device[pane]])
        return self.names.of(sensor_id, device_id), sensor_id, device_id

    def _payload(self, pane: int, level: Level) -> dict[str, Any]:
        return self._pane(pane).payload(level)

    def _facts(self, pane: int) -> dict[str, Any]:
        """The keys of every event about a pane, under the names that the back end reads."""
        named, *_ = self._who(pane)
        panes, w10 = self.panes, self.windows.w10
        slopes = [
            float(window.trend[pane])
            for window in (self.windows.w1, self.windows.w5, self.windows.w10)
        ]
        bends = (slopes[0] - slopes[1], slopes[1] - slopes[2])
        curve = any(abs(slope) >= _CURVE for slope in (*slopes, *bends))
        mean, std, last = float(w10.mean[pane]), float(w10.std[pane]), float(panes.last[pane])
        z = (last - mean) / std if std > 0 else 0.0
        micro = abs(last - mean) >= _MICRO_DELTA and abs(z) >= _MICRO_Z and not curve
        return {
            "behavior_pattern": _pattern(slopes, std, z),
            "sensor_type": named.type,
            "baseline_mean": mean,
            "last_value": last,
            "z_score_last": finite(z),
            "is_curve_anomalous": curve,
            "has_microvariation": micro,
            "microvariation_delta": finite(abs(last - mean)),
            "mean": float(panes.mean[pane]),
            "min": float(panes.minimum[pane]),
            "max": float(panes.maximum[pane]),
            "count": int(panes.count[pane]),
            "rules_version": self.rules.version,
        }

    def _event(  # noqa: PLR0917 - the fields that differ
        self,
        pane: int,
        code: str,
        level: Level,
        headline: str,
        text: str,
        payload: dict[str, Any],
        resolves: str | None,
        *,
        ends: bool,
        incident_key: str,
        silent: bool,
    ) -> Event:
        _, sensor_id, device_id = self._who(pane)
        end = int(self.panes.end[pane])
        return Event(
            event_key=event_key(sensor_id, end, code),
            device_id=device_id,
            sensor_id=sensor_id,
            at=end,
            event_type=_TYPES[level],
            event_code=code,
            title=headline,
            message=text,
            value=float(self.panes.mean[pane]),
            payload=msgspec.json.encode(payload).decode(),
            resolves=resolves,
            status="resolved" if ends else "active",
            incident_key=incident_key,
            silent=silent,
        )


def _closed(stood: Standing) -> Closed:
    """A pane with the value that stands, as far as the kinds whose conditions stand need it."""
    none, zero, mean = np.zeros(1, np.int64), np.zeros(1), np.array([stood.mean])
    panes = Panes(
        row=none, device=none, end=np.array([stood.end]), count=none + stood.readings, mean=mean,
        minimum=np.array([stood.minimum]), maximum=np.array([stood.maximum]), first=mean, last=mean,
        time=zero, time_time=zero, time_value=zero, value_value=zero,
    )  # fmt: skip
    windows = Windows({}, none, zero, zero, zero, zero)
    return Closed(panes, windows, mean, none, np.full(1, np.nan))


def _code(level: Level, kind: int) -> str:
    return RECOVERED if level is Level.NORMAL else kind_numbered(kind).code


def _pattern(slopes: Iterable[float], std: float, z: float) -> str:
    """How the value moves, as the first of the old system's patterns that fits."""
    short, medium, long = slopes
    if abs(long) < 0.05 and std < 0.01 and abs(z) < 1:
        return "STABLE"
    if std >= 0.05 and short * medium < 0:
        return "OSCILLATING"
    if 0.05 <= abs(long) < 0.5 and std < 0.1:
        return "DRIFTING"
    if short > medium > long > 0:
        return "EXPONENTIAL_RISE"
    if short < medium < long < 0:
        return "EXPONENTIAL_FALL"
    return "DRIFTING" if abs(long) >= 0.05 else "OSCILLATING"
