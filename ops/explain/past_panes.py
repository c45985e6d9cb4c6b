"""The panes that stored readings make, by the engine's own arithmetic, and what rules say of them.

Late readings are stored too, so a pane may hold more here than it did when it was judged.
"""

from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from contract.level import Level
from dataflows.levels import LevelState
from dataflows.panes import Panes, aggregate
from dataflows.rules import Delta, Forecast, Rules, RuleSet, Threshold
from dataflows.texts import duration, quantity
from dataflows.verdicts import Verdicts, VerdictState, delta, time_to_reach, trend_ahead
from dataflows.windows import Windows, WindowState
from ops.explain.evidence import Readings
from ops.explain.rule_words import Rule


@dataclass(frozen=True, slots=True)
class Past:
    """Panes of one sensor, and the windows that end with them."""

    sensor_id: int
    panes: Panes
    windows: Windows
    whole: bool
    """Whether they begin with the sensor's first reading."""


@dataclass(frozen=True, slots=True)
class PaneLine:
    """One pane, told."""

    end: int
    """Epoch milliseconds UTC."""
    count: int
    mean: float
    min: float
    max: float
    trend: float
    """Of w10, units per second."""
    said: str
    """What it was against the rule: `beyond` its condition, `inside`, or `held`: no longer beyond
    but not back either. Of a forecast also `crossed`: beyond the bound itself. While flapping: the
    level. Empty where no rule asked.
    """
    detail: str
    """What else decided, in words."""


def past(sensor_id: int, readings: Readings) -> Past | None:
    """The panes of readings; None where there are no readings."""
    count = len(readings.ts)
    if not count:
        return None
    row = np.zeros(count, np.int64)
    panes = aggregate(row, row, readings.ts, readings.value)
    return Past(sensor_id, panes, WindowState().step(panes, 1), readings.whole)


def lines(those: Past, rule: Rule | None, unit: str) -> list[PaneLine]:
    """All panes, each with what it was against the rule."""
    count = len(those.panes.end)
    said = [""] * count if rule is None else _said(those, rule)
    detail = [""] * count if rule is None else _detail(those, rule, unit)
    return _lines(those, said, detail)


def flapping_lines(those: Past, rules: RuleSet) -> tuple[list[PaneLine], set[int]]:
    """All panes, each with the level that the rules give it before quiet panes are counted; and
    the rules that asked, as indices into `Rules.rule`.
    """
    at_once = Rules(
        RuleSet(
            tuple(replace(one, clear_after=1) for one in rules.thresholds),
            tuple(replace(one, clear_after=1) for one in rules.deltas),
        )
    )
    verdicts = _verdicts(those, at_once)
    changes, _ = LevelState().step(those.panes, verdicts, at_once, 1)
    became = {change.pane: change.after for change in changes}
    said, detail, level = [], [], Level.NORMAL
    for pane in range(len(those.panes.end)):
        level = became.get(pane, level)
        said.append(level.name)
        detail.append("changed" if pane in became else "")
    return _lines(those, said, detail), set(verdicts.rule[verdicts.rule >= 0].tolist())


def quiet(those: Past, rules: RuleSet, level: Level) -> int:
    """How many panes in a row, up to the last one, neither asked for a level nor held it."""
    verdicts = _verdicts(those, Rules(rules))
    noisy = np.flatnonzero((verdicts.asked >= level) | (verdicts.held >= level))
    return len(those.panes.end) - (int(noisy[-1]) + 1 if len(noisy) else 0)


def _verdicts(those: Past, rules: Rules) -> Verdicts:
    return VerdictState().step(those.panes, those.windows, np.array([those.sensor_id]), rules)


def _alone(rule: Rule, *, whole: bool) -> RuleSet:
    """The rule as the only one, asking with every pane that meets its condition."""
    if isinstance(rule, Delta):
        least = rule.min_readings if whole else 0  # of those before we know nothing
        return RuleSet(deltas=(replace(rule, raise_after=1, min_readings=least),))
    if isinstance(rule, Forecast):
        return RuleSet((replace(rule.threshold, raise_after=1, forecast_after=1),))
    return RuleSet((replace(rule, raise_after=1, forecast_after=0),))


def _said(those: Past, rule: Rule) -> list[str]:
    verdicts = _verdicts(those, Rules(_alone(rule, whole=those.whole)))
    level = rule.level
    if isinstance(rule, Forecast):  # beside it stands the threshold, which is CRITICAL
        names = {Level.NORMAL: "inside", Level.WARN: "beyond", Level.CRITICAL: "crossed"}
        return [names[Level(asked)] for asked in verdicts.asked.tolist()]
    return [
        "beyond" if asked == level else "held" if held == level else "inside"
        for asked, held in zip(verdicts.asked.tolist(), verdicts.held.tolist(), strict=True)
    ]


def _detail(those: Past, rule: Rule, unit: str) -> list[str]:
    count = len(those.panes.end)
    every = np.arange(count)
    if isinstance(rule, Threshold):
        return [""] * count
    if isinstance(rule, Delta):
        change, *_ = delta(those.panes, those.windows, every)
        first = those.windows.end_before < 0
        return [
            "" if new else f"changed by {quantity(by, unit)}"
            for by, new in zip(change.tolist(), first.tolist(), strict=True)
        ]
    one = rule.threshold
    low = np.full(count, -np.inf if one.low is None else one.low)
    high = np.full(count, np.inf if one.high is None else one.high)
    trend = trend_ahead(those.windows)
    seconds = time_to_reach(those.panes.mean, trend, low, high)
    bound = np.where(trend > 0, high, low)
    return [
        f"{quantity(at, unit)} in {duration(int(s * 1000))}" if 0 <= s < 3600 else ""
        for s, at in zip(seconds.tolist(), bound.tolist(), strict=True)
    ]


def _lines(those: Past, said: list[str], detail: list[str]) -> list[PaneLine]:
    panes = those.panes
    columns = (
        panes.end, panes.count, panes.mean, panes.minimum, panes.maximum, those.windows.w10.trend,
    )  # fmt: skip
    return [
        PaneLine(*cells, *words)
        for *cells, words in zip(
            *(one.tolist() for one in columns), zip(said, detail, strict=True), strict=True
        )
    ]
