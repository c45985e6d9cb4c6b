"""The level of each sensor: raised at once, lowered after enough quiet panes.

A level is raised by the first pane whose mean lies beyond a threshold of a higher level. It is
lowered when `CLEAR_AFTER` panes in a row ask for less and lie inside the level's own reset
bounds; it then becomes what the last of them asks for, so CRITICAL may fall to WARN.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Floats, Ints
from contract.level import Level
from dataflows.panes import Panes
from dataflows.rules import Rules

CLEAR_AFTER = 5
_VERSION = 1


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
    rule: int | None
    """The rule that asked for `after`, an index into `Rules`; None where after is NORMAL."""


class LevelState:
    """The levels of one partition's sensors, in columns with a row for each row of the panes."""

    def __init__(self) -> None:
        self._level = np.empty(0, np.int8)
        self._quiet = np.empty(0, np.int64)
        self._since = np.empty(0, np.int64)
        self._changed_at = np.empty(0, np.int64)

    def snapshot(self) -> tuple[object, ...]:
        """The state as plain arrays, with a version tag in front."""
        columns = (self._level, self._quiet, self._since, self._changed_at)
        return (_VERSION, *(column.copy() for column in columns))

    @classmethod
    def restore(cls, snapshot: tuple[object, ...]) -> "LevelState":
        """The state that `snapshot` was taken of."""
        version, *columns = snapshot
        if version != _VERSION:
            raise ValueError(f"recovery state has version {version}, this program reads {_VERSION}")
        state = cls()
        state._level, state._quiet, state._since, state._changed_at = columns  # type: ignore[assignment]
        return state

    def step(self, panes: Panes, sensor_id: Ints, rules: Rules) -> list[Transition]:
        """Evaluate closed panes, in their order; `sensor_id` tells the sensor of each row."""
        self._grow(len(sensor_id))
        asked, held, asking = _evaluate(panes.mean, sensor_id[panes.row], rules)
        busy = np.union1d(panes.row[asked > 0], panes.row[self._level[panes.row] > 0])
        if not len(busy):
            return []
        todo = np.flatnonzero(np.isin(panes.row, busy))
        row = panes.row[todo]
        starts = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
        rank = np.arange(len(row)) - np.repeat(starts, np.diff(np.r_[starts, len(row)]))
        found: list[Transition] = []
        for turn in range(int(rank.max()) + 1):  # the n-th pane of every sensor at once
            found += self._turn(todo[rank == turn], panes, asked, held, asking)
        return sorted(found, key=lambda transition: transition.pane)

    def _turn(
        self,
        pane: NDArray[np.intp],
        panes: Panes,
        asked: NDArray[np.int8],
        held: NDArray[np.int8],
        asking: Ints,
    ) -> list[Transition]:
        """Evaluate panes of which no two belong to the same sensor."""
        row = panes.row[pane]
        level, wanted = self._level[row], asked[pane]
        quiet = (wanted < level) & ((held[pane] >> level) & 1 == 0)
        self._quiet[row] = np.where(quiet, self._quiet[row] + 1, 0)
        changes = np.flatnonzero((wanted > level) | (self._quiet[row] >= CLEAR_AFTER))
        found = []
        for index in changes.tolist():
            p, r = int(pane[index]), int(row[index])
            before, after, end = Level(level[index]), Level(wanted[index]), int(panes.end[p])
            since = end if before is Level.NORMAL else int(self._since[r])
            rule = None if after is Level.NORMAL else int(asking[p])
            found.append(Transition(p, before, after, since, int(self._changed_at[r]), rule))
            self._level[r], self._quiet[r] = after, 0
            self._since[r], self._changed_at[r] = since, end
        return found

    def _grow(self, rows: int) -> None:
        new = rows - len(self._level)
        if new:
            self._level = np.concatenate((self._level, np.zeros(new, np.int8)))
            self._quiet = np.concatenate((self._quiet, np.zeros(new, np.int64)))
            self._since = np.concatenate((self._since, np.full(new, NEVER)))
            self._changed_at = np.concatenate((self._changed_at, np.full(new, NEVER)))


def _evaluate(
    mean: Floats, sensor_id: Ints, rules: Rules
) -> tuple[NDArray[np.int8], NDArray[np.int8], Ints]:
    """For each pane: the level asked for, the levels that are held (bit 1 << level), and the
    first rule that asks for that level (an index into `rules`, -1 where none does).
    """
    asked = np.zeros(len(mean), np.int8)
    held = np.zeros(len(mean), np.int8)
    asking = np.full(len(mean), -1)
    first = np.searchsorted(rules.sensor_id, sensor_id, "left")
    count = np.searchsorted(rules.sensor_id, sensor_id, "right") - first
    for turn in range(int(count.max(initial=0))):  # the n-th rule of every sensor at once
        pane = np.flatnonzero(count > turn)
        rule = first[pane] + turn
        value = mean[pane]
        beyond = ((value < rules.low[rule]) | (value > rules.high[rule])) ^ rules.equal[rule]
        inside = (value >= rules.reset_low[rule]) & (value <= rules.reset_high[rule])
        inside &= ~(rules.equal[rule] & beyond)
        held[pane] |= np.where(inside, 0, 1 << rules.level[rule]).astype(np.int8)
        more = beyond & (rules.level[rule] > asked[pane])
        asked[pane[more]] = rules.level[rule[more]]
        asking[pane[more]] = rule[more]
    return asked, held, asking
