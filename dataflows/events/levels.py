"""The level of each sensor: raised at once, lowered after enough quiet panes, with flap detection.

The first pane for which a rule calls for a higher level raises it. A pane is quiet when rules call
for less and no rule of that level or above holds it. After `clear_after` consecutive quiet panes,
the level becomes what the last one calls for, so CRITICAL may fall to WARN.

Flapping is measured as in Kapacitor: the weighted share of the last 20 steps between evaluations
that changed the level. The newest step weighs half as much again as the oldest. An evaluation is
the level that the rules call for in one pane, with hysteresis, before quiet panes are counted.
"""

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Ints
from contract.level import Level
from contract.table import Table, column
from dataflows.events.changes import Flapping, Transition
from dataflows.events.verdicts import BY_DETECTOR, NO_RULE, Verdicts
from dataflows.segments import begins, lengths
from rules.columns import Rules
from rules.detector import DETECTOR
from rules.kind import CLEAR_AFTER
from rules.panes import Panes

_STEPS = 20
_WEIGHT = 118 - 2 * np.arange(_STEPS)
"""The newest step first, in hundredths so that sums are exact."""
FLAPPING_IN = 0.50 * 100 * _STEPS
FLAPPING_OUT = 0.25 * 100 * _STEPS
_BITS = (np.arange(1024)[:, None] >> np.arange(10)) & 1
_SHARE_NEW = _BITS @ _WEIGHT[:10]
_SHARE_OLD = _BITS @ _WEIGHT[10:]


class LevelState(Table):
    """The levels of one partition's sensors, one row per sensor."""

    level: NDArray[np.int8] = column(np.int8, 0)
    quiet: Ints = column(np.int64, 0)
    """Consecutive quiet panes."""
    clear_after: Ints = column(np.int64, CLEAR_AFTER)
    """The number of quiet panes that lower the level."""
    since: Ints = column(np.int64, NEVER)
    """End of the pane that moved the sensor away from NORMAL."""
    changed_at: Ints = column(np.int64, NEVER)
    """End of the pane that set the level."""
    kind: Ints = column(np.int64, 0)
    """The number of the kind of rule that caused the level."""
    given: NDArray[np.int8] = column(np.int8, 0)
    """The last evaluation: the level before quiet panes are counted."""
    changes: Ints = column(np.int64, 0)
    """Whether each of the last 20 steps changed `given`; the newest is the lowest bit."""
    flapping: Ints = column(np.int64, NEVER)
    """End of the pane with which flapping began; NEVER if the sensor is not flapping."""

    @property
    def counts(self) -> tuple[int, int, int]:
        """The number of sensors that are NORMAL, WARN and CRITICAL."""
        normal, warn, critical = np.bincount(self.level, minlength=len(Level)).tolist()
        return normal, warn, critical

    def step(
        self, panes: Panes, verdicts: Verdicts, rules: Rules, sensors: int
    ) -> tuple[list[Transition], list[Flapping]]:
        """Evaluate closed panes in order; `verdicts` are what `rules` call for."""
        self.grow(sensors)
        awake = (self.level > 0) | (self.changes > 0) | (self.given > 0)
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
        given = self.given[row]
        changed = (asked > given) | ((asked < given) & (verdicts.held[pane] < given))
        self.given[row] = np.where(changed, asked, given)
        changes = (self.changes[row] << 1 | changed) & (2**_STEPS - 1)
        self.changes[row] = changes
        share = _SHARE_NEW[changes & 1023] + _SHARE_OLD[changes >> 10]
        flaps = self.flapping[row] != NEVER
        turns = np.where(flaps, share < FLAPPING_OUT, share > FLAPPING_IN)
        flappings = []
        for index in np.flatnonzero(turns).tolist():
            r, end = int(row[index]), int(panes.end[pane[index]])
            begins = not flaps[index]
            since = end if begins else int(self.flapping[r])
            flappings.append(Flapping(int(pane[index]), begins, since, Level(self.level[r])))
            self.flapping[r] = end if begins else NEVER
        return flappings

    def _move(
        self, pane: NDArray[np.intp], panes: Panes, verdicts: Verdicts, rules: Rules
    ) -> list[Transition]:
        row = panes.row[pane]
        level, asked = self.level[row], verdicts.asked[pane]
        quiet = (asked < level) & (verdicts.held[pane] < level)
        self.quiet[row] = np.where(quiet, self.quiet[row] + 1, 0)
        changes = (asked > level) | (quiet & (self.quiet[row] >= self.clear_after[row]))
        transitions = []
        for index in np.flatnonzero(changes).tolist():
            p, r = int(pane[index]), int(row[index])
            before, after, end = Level(level[index]), Level(asked[index]), int(panes.end[p])
            rule = NO_RULE if after is Level.NORMAL else int(verdicts.rule[p])
            kind = int(rules.kind[rule]) if rule >= 0 else 0
            kind = DETECTOR.number if rule == BY_DETECTOR else kind
            clear_after = int(rules.clear_after[rule]) if rule >= 0 else CLEAR_AFTER
            since = end if before is Level.NORMAL else int(self.since[r])
            transitions.append(
                Transition(
                    pane=p, before=before, after=after, since=since,
                    changed_at=int(self.changed_at[r]), kind_before=int(self.kind[r]),
                    kind=kind, rule=rule, quiet=int(self.quiet[r]),
                    clear_after=int(self.clear_after[r]), silent=bool(self.flapping[r] != NEVER),
                )
            )  # fmt: skip
            self.level[r], self.quiet[r], self.clear_after[r] = after, 0, clear_after
            self.since[r], self.changed_at[r], self.kind[r] = since, end, kind
        return transitions
