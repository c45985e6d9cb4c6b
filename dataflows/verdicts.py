"""What the rules ask for at each closed pane: thresholds, deltas, forecasts and the detector."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.level import Level
from dataflows.detector import Detector
from dataflows.panes import Panes
from dataflows.rules import RAISE_AFTER_SLOWLY, Delta, Forecast, Group, Rules, RuleSet, Threshold
from dataflows.runs import begins, grown, lengths
from dataflows.windows import Windows

BY_DETECTOR = -2
"""In place of a rule's index: the detector asks."""
NOBODY = -1
FORECAST_S = 60.0
"""How far ahead a trend is followed."""
FORECAST_READINGS = 5
FORECAST_FIT = 0.9
_ZERO = 1e-6
"""A mean up to this size has no relative delta."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One for each closed pane. P panes."""

    asked: NDArray[np.int8]
    """(P,) the highest level that a rule asks for."""
    held: NDArray[np.int8]
    """(P,) the highest level of a rule that does not let go."""
    rule: Ints
    """(P,) the first rule that asks for that level, an index into `Rules.rule`; `NOBODY`, or
    `BY_DETECTOR`."""
    usual: Floats
    """(P,) about which value the detector takes the sensor to be usually; NaN without one."""


class VerdictState:
    """How long each rule's condition has held, and what deltas are compared with."""

    def __init__(self, detector: Detector | None = None) -> None:
        self._detector = detector
        self._rules = Rules(RuleSet())
        self._streak: Ints = np.empty(0, np.int64)
        """(all rules,) panes in a row in which the condition held."""
        self._seen: Ints = np.empty(0, np.int64)
        """(S,) readings in closed panes."""
        self._unlike: Ints = np.empty((2, 0), np.int64)
        """(2, S) panes in a row that deserve WARN, or CRITICAL, by the detector."""
        self._waiting: dict[tuple[str, str, int], int] = {}
        """Streaks of rules that were not given yet, by what stays the same of a rule."""

    def snapshot(self) -> tuple[Any, ...]:
        """The state as plain arrays and numbers."""
        detector = None if self._detector is None else self._detector.snapshot()
        return (self._streaks(), self._seen.copy(), self._unlike.copy(), detector)

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Take over the state that `snapshot` was taken of."""
        self._waiting, self._seen, self._unlike, detector = snapshot
        if self._detector is not None and detector is not None:
            self._detector.restore(detector)

    def step(self, panes: Panes, windows: Windows, sensor_id: Ints, rules: Rules) -> Verdicts:
        """Judge closed panes by `rules`; `sensor_id` (S,) tells the sensor of each row."""
        self._seen = grown(self._seen, len(sensor_id), 0)
        self._unlike = grown(self._unlike, len(sensor_id), 0)
        if rules is not self._rules:
            self._use(rules)
        verdicts = Verdicts(
            asked=np.zeros(len(panes.row), np.int8),
            held=np.zeros(len(panes.row), np.int8),
            rule=np.full(len(panes.row), NOBODY),
            usual=np.full(len(panes.row), np.nan),
        )
        sensors = sensor_id[panes.row]
        for group, judge in (
            (rules.thresholds, self._threshold), (rules.deltas, self._delta),
            (rules.forecasts, self._forecast),
        ):  # fmt: skip
            first = np.searchsorted(group.sensor_id, sensors, "left")
            count = np.searchsorted(group.sensor_id, sensors, "right") - first
            for turn in range(int(count.max(initial=0))):  # the n-th rule of every sensor at once
                pane = np.flatnonzero(count > turn)
                rule = first[pane] + turn
                met, holds = judge(pane, rule, panes, windows)
                self._add(verdicts, group, pane, rule, met, holds)
        np.add.at(self._seen, panes.row, panes.count)
        if self._detector is not None and len(panes.row):
            self._detect(verdicts, panes, sensors)
        return verdicts

    def _add(  # noqa: PLR0917 - three arrays about the same panes
        self,
        verdicts: Verdicts,
        group: Group,
        pane: NDArray[np.intp],
        rule: Ints,
        met: NDArray[np.bool_],
        holds: NDArray[np.bool_],
    ) -> None:
        """Count how long the rules' conditions were met at `pane`, and raise what they ask for."""
        level = group.level[rule]
        verdicts.held[pane] = np.maximum(verdicts.held[pane], np.where(holds, level, 0))
        number = group.number[rule]
        if not met.any() and not self._streak[number].any():
            return
        run, last = _runs(met, number, self._streak)
        self._streak[number[last]] = run[last]
        more = met & (run >= group.raise_after[rule]) & (level > verdicts.asked[pane])
        verdicts.asked[pane[more]] = level[more]
        verdicts.rule[pane[more]] = number[more]

    def _threshold(
        self, pane: NDArray[np.intp], rule: Ints, panes: Panes, windows: Windows
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        low, high, reset_low, reset_high = self._rules.thresholds.bounds[:, rule]
        equal, mean = self._rules.equal[rule], panes.mean[pane]
        met = ((mean < low) | (mean > high)) ^ equal
        return met, (mean < reset_low) | (mean > reset_high) | (equal & met)

    def _delta(
        self, pane: NDArray[np.intp], rule: Ints, panes: Panes, windows: Windows
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        *bounds, least = self._rules.deltas.bounds[:, rule]
        change = delta(panes, windows, pane)
        before = np.cumsum(panes.count) - panes.count
        starts = np.flatnonzero(begins(panes.row))
        before -= np.repeat(before[starts], lengths(starts, len(panes.row)))
        before += self._seen[panes.row]
        met = np.zeros(len(pane), bool)
        for value, bound in zip(change, bounds, strict=True):
            met |= value >= bound
        met &= (before[pane] >= least) & (windows.end_before[pane] >= 0)
        return met, met

    def _forecast(
        self, pane: NDArray[np.intp], rule: Ints, panes: Panes, windows: Windows
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        low, high = self._rules.forecasts.bounds[:, rule]
        mean, trend = panes.mean[pane], trend_ahead(windows)[pane]
        seconds = time_to_reach(mean, trend, low, high)
        met = (mean >= low) & (mean <= high) & (seconds <= FORECAST_S)
        return met, met

    def _detect(self, verdicts: Verdicts, panes: Panes, sensors: Ints) -> None:
        assert self._detector is not None
        level, verdicts.usual[:] = self._detector.step(sensors, panes.end, panes.mean)
        verdicts.held[:] = np.maximum(verdicts.held, level)
        for index, wanted in enumerate((Level.WARN, Level.CRITICAL)):
            met = level >= wanted
            run, last = _runs(met, panes.row, self._unlike[index])
            self._unlike[index, panes.row[last]] = run[last]
            more = met & (run >= RAISE_AFTER_SLOWLY) & (verdicts.asked < wanted)
            verdicts.asked[more] = wanted
            verdicts.rule[more] = BY_DETECTOR

    def _use(self, rules: Rules) -> None:
        """Go on with other rules; those that were there before keep their streaks."""
        if self._detector is not None:
            self._detector.use(rules.deep, rules.unusual)
        waiting = self._streaks()
        self._rules, self._waiting = rules, {}
        self._streak = np.array([waiting.get(_key(one), 0) for one in rules.rule], np.int64)

    def _streaks(self) -> dict[tuple[str, str, int], int]:
        running = np.flatnonzero(self._streak).tolist()
        found = {_key(self._rules.rule[index]): int(self._streak[index]) for index in running}
        return self._waiting | found


def delta(panes: Panes, windows: Windows, pane: NDArray[np.intp]) -> tuple[Floats, ...]:
    """abs_delta, rel_delta, abs_slope and rel_slope of panes against those before; slopes are per
    second.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        before = windows.mean_before[pane]
        change = np.abs(panes.mean[pane] - before)
        size = np.abs(before)
        relative = np.divide(change, size, out=np.zeros_like(change), where=size > _ZERO)
        seconds = (panes.end[pane] - windows.end_before[pane]) / 1000.0
    return change, relative, change / seconds, relative / seconds


def trend_ahead(windows: Windows) -> Floats:
    """(P,) the trend that a forecast follows: the slower of w5's and w10's.

    0 where they disagree, since a value that has stopped moving goes on nowhere, though w10 still
    holds the movement; and where noise alone may look like it: where w10 has fewer than
    `FORECAST_READINGS`, or its trend explains less than `FORECAST_FIT` of their variance.
    """
    short, long = windows.w5.trend, windows.w10.trend
    slower = np.where(np.abs(short) < np.abs(long), short, long)
    clear = (windows.w10.count >= FORECAST_READINGS) & (windows.w10.fit >= FORECAST_FIT)
    return np.where(clear & (np.sign(short) == np.sign(long)), slower, 0.0)


def time_to_reach(mean: Floats, trend: Floats, low: Floats, high: Floats) -> Floats:
    """Seconds until a value that goes on by `trend` reaches `low` or `high`; inf where it never
    does.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        bound = np.where(trend > 0, high, low)
        return np.where(trend == 0, np.inf, (bound - mean) / trend)


def _runs(met: NDArray[np.bool_], key: Ints, before: Ints) -> tuple[Ints, NDArray[np.intp]]:
    """(N,) how many conditions in a row were met up to each, with those `before` (by key); and
    where the last one of each key stands. Equal keys stand together.
    """
    place = np.arange(len(met))
    first = begins(key)
    starts = np.flatnonzero(first)
    broken = np.maximum.accumulate(np.where(met, np.where(first, place - 1, -1), place))
    run = place - broken
    start = np.repeat(starts, lengths(starts, len(met)))
    run += np.where(broken < start, before[key], 0)
    return run, np.r_[starts[1:] - 1, len(met) - 1]


def _key(rule: Threshold | Delta | Forecast) -> tuple[str, str, int]:
    if isinstance(rule, Forecast):
        return "forecast", rule.threshold.table, rule.threshold.id
    level = rule.level.name if isinstance(rule, Threshold) else ""
    return level, rule.table, rule.id
