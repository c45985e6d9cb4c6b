"""The level of each sensor: raised at once, lowered after enough quiet panes, and told apart from
flapping.

A level is raised by the first pane for which a rule asks for a higher one. It is lowered when as
many panes in a row as its rule says ask for less while no rule of that level or above holds; it
then becomes what the last of them asks for, so CRITICAL may fall to WARN.

Flapping is Kapacitor's measure: the share of the last 20 steps between evaluations that changed
the level, the newest weighing half as much again as the oldest. An evaluation here is the level as
the rules give it pane by pane, with hysteresis but before quiet panes are counted.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER
from contract.level import Level
from dataflows.engine.verdicts import BY_DETECTOR, NOBODY, Verdicts
from dataflows.segments import begins, grown, lengths
from rules.columns import Rules
from rules.detector import DETECTOR
from rules.kind import CLEAR_AFTER
from rules.panes import Panes

_STEPS = 20
_WEIGHT = 118 - 2 * np.arange(_STEPS)
"""Of the newest step first; in hundredths, so that sums are exact."""
FLAPPING_IN = 0.50 * 100 * _STEPS
FLAPPING_OUT = 0.25 * 100 * _STEPS
_BITS = (np.arange(1024)[:, None] >> np.arange(10)) & 1
_SHARE_NEW = _BITS @ _WEIGHT[:10]
_SHARE_OLD = _BITS @ _WEIGHT[10:]


@dataclass(frozen=True, slots=True)
class Transition:
    """A sensor's level changed with the closing of a pane."""

    pane: int
    """Index into the panes of the step."""
    before: Level
    after: Level
    since: int
    """End of the pane with which the sensor left NORMAL, epoch milliseconds UTC."""
    changed_at: int
    """End of the pane that brought `before`, likewise."""
    kind_before: int
    """The number of the kind of rule that asked for `before`."""
    kind: int
    """That of the kind that asks for `after`."""
    rule: int
    """The rule that asks for `after`, an index into `Rules.rule`, or `NOBODY`, or `BY_DETECTOR`."""
    silent: bool
    """Whether the sensor is flapping."""


@dataclass(frozen=True, slots=True)
class Flapping:
    """A sensor began, or ceased, to change its level with almost every pane."""

    pane: int
    begins: bool
    since: int
    """End of the pane with which it began."""
    level: Level


class LevelState:
    """The levels of one partition's sensors, in columns."""

    def __init__(self) -> None:
        self._level = np.empty(0, np.int8)
        self._quiet = np.empty(0, np.int64)
        self._clear_after = np.empty(0, np.int64)
        self._since = np.empty(0, np.int64)
        self._changed_at = np.empty(0, np.int64)
        self._kind = np.empty(0, np.int64)
        self._given = np.empty(0, np.int8)
        self._changes = np.empty(0, np.int64)
        self._flapping = np.empty(0, np.int64)
        """Since when; NEVER where it is not."""

    _COLUMNS = (
        "_level", "_quiet", "_clear_after", "_since", "_changed_at", "_kind", "_given",
        "_changes", "_flapping",
    )  # fmt: skip
    _NEW = (0, 0, CLEAR_AFTER, NEVER, NEVER, 0, 0, 0, NEVER)

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many sensors are NORMAL, WARN and CRITICAL."""
        normal, warn, critical = np.bincount(self._level, minlength=len(Level)).tolist()
        return normal, warn, critical

    def snapshot(self) -> tuple[Any, ...]:
        """The state as plain arrays."""
        return tuple(getattr(self, name).copy() for name in self._COLUMNS)

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Take over the state that `snapshot` was taken of."""
        for name, column in zip(self._COLUMNS, snapshot, strict=True):
            setattr(self, name, column)

    def step(
        self, panes: Panes, verdicts: Verdicts, rules: Rules, sensors: int
    ) -> tuple[list[Transition], list[Flapping]]:
        """Evaluate closed panes, in their order, by what `rules` asked for."""
        for name, value in zip(self._COLUMNS, self._NEW, strict=True):
            setattr(self, name, grown(getattr(self, name), sensors, value))
        awake = (self._level > 0) | (self._changes > 0) | (self._given > 0)
        awake[panes.row[verdicts.asked > 0]] = True
        todo = np.flatnonzero(awake[panes.row])
        transitions: list[Transition] = []
        flappings: list[Flapping] = []
        if not len(todo):
            return transitions, flappings
        row = panes.row[todo]
        starts = np.flatnonzero(begins(row))
        rank = np.arange(len(row)) - np.repeat(starts, lengths(starts, len(row)))
        by_rank = todo[np.argsort(rank, kind="stable")]
        for pane in np.split(by_rank, np.cumsum(np.bincount(rank))[:-1]):
            # the n-th pane of every sensor at once
            flappings += self._flap(pane, panes, verdicts)
            transitions += self._move(pane, panes, verdicts, rules)
        return transitions, flappings

    def _flap(self, pane: NDArray[np.intp], panes: Panes, verdicts: Verdicts) -> list[Flapping]:
        row, asked = panes.row[pane], verdicts.asked[pane]
        given = self._given[row]
        changed = (asked > given) | ((asked < given) & (verdicts.held[pane] < given))
        self._given[row] = np.where(changed, asked, given)
        changes = (self._changes[row] << 1 | changed) & (2**_STEPS - 1)
        self._changes[row] = changes
        share = _SHARE_NEW[changes & 1023] + _SHARE_OLD[changes >> 10]
        flaps = self._flapping[row] != NEVER
        turns = np.where(flaps, share < FLAPPING_OUT, share > FLAPPING_IN)
        found = []
        for index in np.flatnonzero(turns).tolist():
            r, end = int(row[index]), int(panes.end[pane[index]])
            begins = not flaps[index]
            since = end if begins else int(self._flapping[r])
            found.append(Flapping(int(pane[index]), begins, since, Level(self._level[r])))
            self._flapping[r] = end if begins else NEVER
        return found

    def _move(
        self, pane: NDArray[np.intp], panes: Panes, verdicts: Verdicts, rules: Rules
    ) -> list[Transition]:
        row = panes.row[pane]
        level, asked = self._level[row], verdicts.asked[pane]
        quiet = (asked < level) & (verdicts.held[pane] < level)
        self._quiet[row] = np.where(quiet, self._quiet[row] + 1, 0)
        changes = (asked > level) | (quiet & (self._quiet[row] >= self._clear_after[row]))
        found = []
        for index in np.flatnonzero(changes).tolist():
            p, r = int(pane[index]), int(row[index])
            before, after, end = Level(level[index]), Level(asked[index]), int(panes.end[p])
            rule = NOBODY if after is Level.NORMAL else int(verdicts.rule[p])
            kind = int(rules.kind[rule]) if rule >= 0 else 0
            kind = DETECTOR.number if rule == BY_DETECTOR else kind
            clear_after = int(rules.clear_after[rule]) if rule >= 0 else CLEAR_AFTER
            since = end if before is Level.NORMAL else int(self._since[r])
            found.append(
                Transition(
                    pane=p, before=before, after=after, since=since,
                    changed_at=int(self._changed_at[r]), kind_before=int(self._kind[r]),
                    kind=kind, rule=rule, silent=bool(self._flapping[r] != NEVER),
                )
            )  # fmt: skip
            self._level[r], self._quiet[r], self._clear_after[r] = after, 0, clear_after
            self._since[r], self._changed_at[r], self._kind[r] = since, end, kind
        return found
