"""Panes rebuilt from stored readings with the engine's own arithmetic, and their verdicts.

Late readings are stored too, so a rebuilt pane may hold more readings than when it was judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contract.columns import Floats
from contract.level import Level
from dataflows.engine import WindowState, aggregate
from dataflows.events import LevelState, NoSilences, Verdicts, VerdictState
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
    value: Floats
    """The readings of the panes, in their order."""
    windows: Windows
    whole: bool
    """Whether the panes begin with the sensor's first reading."""


@dataclass(frozen=True, slots=True)
class PaneLine:
    """One pane, with its verdict in words."""

    end: int
    """Epoch milliseconds UTC."""
    count: int
    mean: float
    min: float | None
    """None, like max and trend, if only the event's payload has the pane."""
    max: float | None
    trend: float | None
    """Trend of w10, in units per second."""
    said: str
    """The pane's verdict: `beyond` the rule's condition, `inside`, or `held`: no longer beyond, but
    not past the reset bound yet. For a forecast also `crossed`: beyond the bound itself. While
    flapping: the level. Empty if no rule raised.
    """
    detail: str
    """What else was decisive, in words."""


def past(sensor_id: int, readings: Readings) -> Past | None:
    """Build the panes of readings. None if there are no readings."""
    count = len(readings.ts)
    if not count:
        return None
    row = np.zeros(count, np.int64)
    panes = aggregate(row, row, readings.ts, readings.value)
    windows = WindowState().step(panes, 1)
    return Past(sensor_id, panes, readings.value, windows, readings.whole)


def judged_lines(panes: Sequence[tuple[int, int, float]]) -> list[PaneLine]:
    """The panes (end, readings, mean) that the engine had when it raised an event."""
    return [PaneLine(end, count, mean, None, None, None, "", "") for end, count, mean in panes]


def lines(rebuilt: Past, rule: Rule | None, unit: str) -> list[PaneLine]:
    """All panes, each with its verdict under the rule."""
    count = len(rebuilt.panes.end)
    said = [""] * count if rule is None else _said(rebuilt, rule)
    detail = [""] * count if rule is None else _detail(rebuilt, rule, unit)
    return _lines(rebuilt, said, detail)


def flapping_lines(rebuilt: Past, rules: RuleSet) -> tuple[list[PaneLine], set[int]]:
    """All panes, each with the level that the rules give it before quiet panes are counted.

    Also returns the rules that raised a level, as indices into `Rules.rule`.
    """
    at_once = Rules(rules.each(lambda rule: kind_of(rule).at_once(rule)))
    verdicts = _verdicts(rebuilt, at_once)
    changes, _ = LevelState().step(rebuilt.panes, verdicts, at_once, 1, NoSilences())
    became = {change.pane: change.after for change in changes}
    said, detail, level = [], [], Level.NORMAL
    for pane in range(len(rebuilt.panes.end)):
        level = became.get(pane, level)
        said.append(level.name)
        detail.append("changed" if pane in became else "")
    return _lines(rebuilt, said, detail), set(verdicts.rule[verdicts.rule >= 0].tolist())


def quiet(rebuilt: Past, rules: RuleSet, level: Level) -> int:
    """Count the consecutive last panes that neither raised nor held the level."""
    verdicts = _verdicts(rebuilt, Rules(rules))
    noisy = np.flatnonzero((verdicts.asked >= level) | (verdicts.held >= level))
    return len(rebuilt.panes.end) - (int(noisy[-1]) + 1 if len(noisy) else 0)


def _verdicts(rebuilt: Past, rules: Rules) -> Verdicts:
    return VerdictState().step(
        rebuilt.panes, rebuilt.value, rebuilt.windows, np.array([rebuilt.sensor_id]), rules
    )


def _said(rebuilt: Past, rule: Rule) -> list[str]:
    kind = kind_of(rule)
    alone = Rules(only(kind.alone(rule, whole=rebuilt.whole)))
    verdicts = _verdicts(rebuilt, alone)
    return kind.said(rule, verdicts.asked.tolist(), verdicts.held.tolist())


def _detail(rebuilt: Past, rule: Rule, unit: str) -> list[str]:
    nothing = np.zeros(len(rebuilt.panes.end), np.int64)
    unknown = np.full(len(nothing), np.nan)
    closed = Closed(rebuilt.panes, rebuilt.windows, rebuilt.value, nothing, unknown)
    return kind_of(rule).detail(rule, closed, unit)


def _lines(rebuilt: Past, said: list[str], detail: list[str]) -> list[PaneLine]:
    panes = rebuilt.panes
    columns = (
        panes.end, panes.count, panes.mean, panes.minimum, panes.maximum, rebuilt.windows.w10.trend,
    )  # fmt: skip
    return [
        PaneLine(*cells, *words)
        for *cells, words in zip(
            *(column.tolist() for column in columns), zip(said, detail, strict=True), strict=True
        )
    ]
