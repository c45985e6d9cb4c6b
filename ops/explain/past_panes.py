"""The panes that stored readings make, by the engine's own arithmetic, and what rules say of them.

Late readings are stored too, so a pane may hold more here than it did when it was judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contract.level import Level
from dataflows.engine import WindowState, aggregate
from dataflows.events import LevelState, Verdicts, VerdictState
from ops.explain.evidence import Readings
from rules.columns import Rules
from rules.kind import Closed, Rule
from rules.panes import Panes, Windows
from rules.tables import RuleSet, kind_of, only


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
    min: float | None
    """None, as max and trend, where only the event's payload knows of the pane."""
    max: float | None
    trend: float | None
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


def judged_lines(panes: Sequence[tuple[int, int, float]]) -> list[PaneLine]:
    """Panes (end, readings, mean) as the engine had them when it raised an event."""
    return [PaneLine(end, count, mean, None, None, None, "", "") for end, count, mean in panes]


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
    at_once = Rules(rules.each(lambda rule: kind_of(rule).at_once(rule)))
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


def _said(those: Past, rule: Rule) -> list[str]:
    kind = kind_of(rule)
    alone = Rules(only(kind.alone(rule, whole=those.whole)))
    verdicts = _verdicts(those, alone)
    return kind.said(rule, verdicts.asked.tolist(), verdicts.held.tolist())


def _detail(those: Past, rule: Rule, unit: str) -> list[str]:
    nothing = np.zeros(len(those.panes.end), np.int64)
    return kind_of(rule).detail(rule, Closed(those.panes, those.windows, nothing), unit)


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
