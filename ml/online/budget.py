"""Keeps each sensor's alarms within its budget, whatever its signal.

A score claims how rare a pane is. The claim is learned from the sensor's past, and extrapolates it;
for many real signals it is wrong by decades. So the bound that a score must reach is itself learned
from what was reported, as in adaptive conformal inference (Gibbs and Candes, "Adaptive conformal
inference under distribution shift", 2021). In decades, it is the sum of

- the score that follows from the allowed number of alarms and the interval between panes;
- for a sensor that seldom moves, the decades by which its moves are rarer than its panes: how it
  moves is known from those alone;
- for a sensor with few panes, the decades that it is short of `_YOUNG`;
- the height: an episode that is reported raises it to just above the episode's highest score, by at
  most `_RISE`, and it sinks slowly;
- the debt: each report adds to it, and it sinks by as much in the time that one report is allowed
  for.

A score is at most `MOST`. So the number of reports is limited for every sequence of scores: the
debt sinks by one report's worth in the time that is allowed for one, and bounds above `MOST` cannot
be reached. A CRITICAL adds `MOST` to its debt, and every sensor begins with that debt.

An episode begins with `RAISE_AFTER_SLOWLY` consecutive panes that reach the bound, and is over
after as many that are a decade below the bound it began with, or when it has lasted `settle` panes:
then what it reported is accepted as normal. For a new sensor, episodes raise the height, but are
not reported.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.level import Level
from contract.table import Table, block
from rules.kind import RAISE_AFTER_SLOWLY

MOST = 12.0
"""Scores are capped here."""
_DAY_MS = 86_400_000.0
_PANES = 5.0
"""Panes that may reach the lowest bound, for each alarm that is allowed: an episode has several."""
_YOUNG = 1_200.0
"""Panes after which the tail of a sensor's scores is known."""
_RISE, _ABOVE = 0.8, 0.5
"""An episode raises the height by at most `_RISE` decades, to `_ABOVE` above its highest score."""
_SINK = 0.1
"""Decades that the height sinks, in the time that one alarm is allowed for."""
_DEBT = 2.0
"""Decades that a WARN adds to its debt, and more for a sensor that seldom moves."""
_HOLDS = 1.0
"""An episode holds while scores are at most this many decades below its bound."""
_LEAST = 1.0
"""The lowest bound: one pane in ten."""
_SILENT = -1.0
"""An episode that is not reported."""

FIELDS = {
    "since": np.nan,
    "height": 0.0,
    "debt_warn": 0.0,
    "debt_critical": MOST,
    "run": 0.0,
    "run_critical": 0.0,
    "episode": 0.0,
    "length": 0.0,
    "low": 0.0,
    "peak": 0.0,
    "bound": 0.0,
    "normal": np.nan,
}
(
    _SINCE, _HEIGHT, _WARN, _CRITICAL, _RUN, _RUN_CRITICAL, _EPISODE, _LENGTH, _LOW, _PEAK, _BOUND,
    _NORMAL,
) = range(len(FIELDS))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result for P panes."""

    bound: Floats
    """(2, P) the scores for WARN and CRITICAL; infinite for a score that is below every bound."""
    level: NDArray[np.int8]
    """(P,) the level that each pane reaches or holds."""
    told: NDArray[np.int8]
    """(P,) the level that is reported; it stays until the episode is over."""
    accepted: NDArray[np.intp]
    """Indices of the panes at which what was unusual has lasted long enough to be normal."""


class Budget(Table):
    """The bounds and episodes of each sensor.

    Args:
        silent: number of panes of a sensor before the first report.
        settle: number of panes after which an episode is accepted as normal.
    """

    numbers: Floats = block(FIELDS)
    """(12, S) `since`: the time in ms for which height and debts are valid, at first that of the
    first score that a bound can have. `run`, `run_critical`:
    consecutive panes that reach each bound. `episode`: the level that is reported, `_SILENT`, or 0.
    `length`, `low`, `peak`, `bound`: its panes, the last consecutive ones below it, its highest
    score, and the bound it began with. `normal`: the value accepted by the last episode."""

    def __init__(self, *, silent: int = 192, settle: int = 128) -> None:
        super().__init__()
        self._silent, self._settle = silent, settle

    def reporting(self, row: Ints) -> NDArray[np.bool_]:
        """(P,) whether an episode of each sensor is being reported."""
        return np.asarray(self.numbers[_EPISODE].take(row) > 0)

    def level(self, row: Ints) -> NDArray[np.int8]:
        """(P,) the level that is being reported."""
        return np.asarray(np.maximum(self.numbers[_EPISODE].take(row), 0.0), np.int8)

    def normal(self, row: Ints) -> Floats:
        """(P,) the value that ended each sensor's last episode by being accepted as normal; NaN if
        it ended otherwise.
        """
        return np.asarray(self.numbers[_NORMAL].take(row))

    def accept(self, row: Ints, value: Floats) -> None:
        """Note the value that is accepted as normal."""
        self.numbers[_NORMAL, row] = value

    def step(  # noqa: PLR0917 - the columns of the panes
        self,
        row: Ints,
        end: Ints,
        score: Floats,
        seen: Floats,
        moves: Floats,
        interval: Floats,
        allowed: Floats,
    ) -> Judgement:
        """Judge one pane of each sensor of `row`. `seen` (P,) is the number of earlier panes,
        `interval` (P,) the usual one in ms, `allowed` (2, P) the number of alarms per day.
        """
        bound = np.full((2, len(row)), np.inf)
        level, told = np.zeros(len(row), np.int8), np.zeros(len(row), np.int8)
        busy = score >= _LEAST
        busy |= self.numbers[_RUN].take(row) > 0
        busy |= self.numbers[_EPISODE].take(row) != 0
        at = np.flatnonzero(busy)
        if not len(at):
            return Judgement(bound, level, told, at)
        seen, end, allowed = seen[at], end[at], allowed[:, at]
        numbers, old = self.numbers[:, row[at]], seen >= self._silent
        np.copyto(numbers[_SINCE], end, where=np.isnan(numbers[_SINCE]))
        panes_a_day = np.log10(_DAY_MS / np.maximum(interval[at], 1.0))
        usual = np.maximum(panes_a_day - np.log10(_PANES * allowed), _LEAST)
        still = np.log10((seen + 1.0) / (moves[at] + 1.0))
        height, *debts = self._sunk(numbers[:_RUN], end, allowed)
        height += still
        height += np.maximum(np.log10(_YOUNG / (seen + 1.0)), 0.0)
        now = usual + height
        now += debts
        bound[:, at] = now
        begins, rises, over = self._follow(numbers, score[at], now, old)
        told[at] = np.where(over, 0.0, np.maximum(numbers[_EPISODE], 0.0))
        level[at] = np.maximum(told[at], (numbers[_RUN] > 0) & old)
        accepted = over & (numbers[_LOW] < RAISE_AFTER_SLOWLY) & (numbers[_EPISODE] > 0)
        self._settle_up(numbers, begins & old, rises, over, end, usual[0], still, allowed)
        self.numbers[:, row[at]] = numbers
        return Judgement(bound, level, told, at[accepted])

    def _follow(
        self, numbers: Floats, score: Floats, bound: Floats, old: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Follow the episodes: (A,) which ones begin, become CRITICAL, and are over."""
        on = numbers[_EPISODE] != 0
        numbers[_RUN] = np.where((score >= bound[0]) & ~on, numbers[_RUN] + 1, 0.0)
        numbers[_RUN_CRITICAL] = np.where(score >= bound[1], numbers[_RUN_CRITICAL] + 1, 0.0)
        earlier = np.where(on | (numbers[_RUN] > 1), numbers[_PEAK], 0.0)
        numbers[_PEAK] = np.where(on | (numbers[_RUN] > 0), np.maximum(earlier, score), 0.0)
        begins = numbers[_RUN] >= RAISE_AFTER_SLOWLY
        numbers[_EPISODE, begins] = np.where(old[begins], float(Level.WARN), _SILENT)
        numbers[_BOUND, begins] = bound[0, begins]
        numbers[_RUN, begins] = 0.0
        numbers[_NORMAL, begins] = np.nan
        on |= begins
        low = score < np.maximum(numbers[_BOUND] - _HOLDS, _LEAST)
        numbers[_LOW] = np.where(on & low, numbers[_LOW] + 1, 0.0)
        numbers[_LENGTH] = np.where(on, numbers[_LENGTH] + 1, 0.0)
        rises = numbers[_RUN_CRITICAL] >= RAISE_AFTER_SLOWLY
        rises &= numbers[_EPISODE] == Level.WARN
        numbers[_EPISODE, rises] = float(Level.CRITICAL)
        ends = (numbers[_LOW] >= RAISE_AFTER_SLOWLY) | (numbers[_LENGTH] >= self._settle)
        return begins, rises, on & ends

    def _settle_up(  # noqa: PLR0917 - the columns of the panes
        self,
        numbers: Floats,
        reported: NDArray[np.bool_],
        rises: NDArray[np.bool_],
        over: NDArray[np.bool_],
        end: Ints,
        usual: Floats,
        still: Floats,
        allowed: Floats,
    ) -> None:
        """Add what was reported to the debts, and raise the height after each episode."""
        changed = np.flatnonzero(reported | rises | over)
        if not len(changed):
            return
        height, warn, critical = self._sunk(
            numbers[:_RUN, changed], end[changed], allowed[:, changed]
        )
        above = numbers[_PEAK, changed] - usual[changed] + _ABOVE
        raised = np.maximum(height, np.minimum(above, height + _RISE))
        numbers[_SINCE, changed] = end[changed]
        numbers[_HEIGHT, changed] = np.where(over[changed], raised, height)
        numbers[_WARN, changed] = warn + (_DEBT + still[changed]) * reported[changed]
        numbers[_CRITICAL, changed] = critical + MOST * rises[changed]
        numbers[_EPISODE, over] = numbers[_LENGTH, over] = numbers[_PEAK, over] = 0.0
        numbers[_RUN_CRITICAL, over] = 0.0

    @staticmethod
    def _sunk(numbers: Floats, end: Ints, allowed: Floats) -> Floats:
        """(3, P) the height and the debts at `end`."""
        warns = (end - numbers[_SINCE]) * (allowed[0] / _DAY_MS)
        criticals = (end - numbers[_SINCE]) * (allowed[1] / _DAY_MS)
        sunk = np.stack((_SINK * warns, _DEBT * warns, MOST * criticals))
        return np.asarray(np.maximum(numbers[_HEIGHT:_RUN] - sunk, 0.0))

    def unreachable(
        self, row: Ints, end: Ints, interval: Floats, allowed: Floats
    ) -> NDArray[np.bool_]:
        """(P,) whether no score can reach the WARN bound of each sensor at `end`."""
        panes_a_day = np.log10(_DAY_MS / np.maximum(interval, 1.0))
        usual = np.maximum(panes_a_day - np.log10(allowed[0]), _LEAST)
        height, warn, _ = self._sunk(self.numbers[:_RUN].take(row, axis=1), end, allowed)
        return np.asarray(usual + height + warn > MOST)
