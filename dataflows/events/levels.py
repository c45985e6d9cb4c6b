"""The level of each sensor: raised at once, lowered after enough quiet panes, and told apart from
flapping.

A level is raised by the first pane for which a rule asks for a higher one. It is lowered when as
many panes in a row as its rule says ask for less while no rule of that level or above holds; it
then becomes what the last of them asks for, so CRITICAL may fall to WARN.

Flapping is Kapacitor's measure: the share of the last 20 steps between evaluations that changed
the level, the newest weighing half as much again as the oldest. An evaluation here is the level as
the rules give it pane by pane, with hysteresis but before quiet panes are counted.
"""

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Ints
from contract.level import Level
from contract.table import Table, column
from dataflows.events.changes import Flapping, Transition
from dataflows.events.verdicts import BY_DETECTOR, NOBODY, Verdicts
from dataflows.segments import begins, lengths
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


class LevelState(Table):
    """The levels of one partition's sensors, a row each."""

    level: NDArray[np.int8] = column(np.int8, 0)
    quiet: Ints = column(np.int64, 0)
    """Panes in a row that ask for less."""
    clear_after: Ints = column(np.int64, CLEAR_AFTER)
    """How many of those lower the level."""
    since: Ints = column(np.int64, NEVER)
    """End of the pane with which the sensor left NORMAL."""
    changed_at: Ints = column(np.int64, NEVER)
    """End of the pane that brought the level."""
    kind: Ints = column(np.int64, 0)
    """The number of the kind of rule that asked for it."""
    given: NDArray[np.int8] = column(np.int8, 0)
    """The level as the rules gave it last, before quiet panes are counted."""
    changes: Ints = column(np.int64, 0)
    """The last 20 steps, the newest in the lowest bit: whether they changed `given`."""
    flapping: Ints = column(np.int64, NEVER)
    """Since when the sensor is flapping; NEVER where it is not."""

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many sensors are NORMAL, WARN and CRITICAL."""
        normal, warn, critical = np.bincount(self.level, minlength=len(Level)).tolist()
        return normal, warn, critical

    def step(
        self, panes: Panes, verdicts: Verdicts, rules: Rules, sensors: int
    ) -> tuple[list[Transition], list[Flapping]]:
        """Evaluate closed panes, in their order, by what `rules` asked for."""
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
        found = []
        for index in np.flatnonzero(turns).tolist():
            r, end = int(row[index]), int(panes.end[pane[index]])
            begins = not flaps[index]
            since = end if begins else int(self.flapping[r])
            found.append(Flapping(int(pane[index]), begins, since, Level(self.level[r])))
            self.flapping[r] = end if begins else NEVER
        return found

    def _move(
        self, pane: NDArray[np.intp], panes: Panes, verdicts: Verdicts, rules: Rules
    ) -> list[Transition]:
        row = panes.row[pane]
        level, asked = self.level[row], verdicts.asked[pane]
        quiet = (asked < level) & (verdicts.held[pane] < level)
        self.quiet[row] = np.where(quiet, self.quiet[row] + 1, 0)
        changes = (asked > level) | (quiet & (self.quiet[row] >= self.clear_after[row]))
        found = []
        for index in np.flatnonzero(changes).tolist():
            p, r = int(pane[index]), int(row[index])
            before, after, end = Level(level[index]), Level(asked[index]), int(panes.end[p])
            rule = NOBODY if after is Level.NORMAL else int(verdicts.rule[p])
            kind = int(rules.kind[rule]) if rule >= 0 else 0
            kind = DETECTOR.number if rule == BY_DETECTOR else kind
            clear_after = int(rules.clear_after[rule]) if rule >= 0 else CLEAR_AFTER
            since = end if before is Level.NORMAL else int(self.since[r])
            found.append(
                Transition(
                    pane=p, before=before, after=after, since=since,
                    changed_at=int(self.changed_at[r]), kind_before=int(self.kind[r]),
                    kind=kind, rule=rule, quiet=int(self.quiet[r]),
                    clear_after=int(self.clear_after[r]), silent=bool(self.flapping[r] != NEVER),
                )
            )  # fmt: skip
            self.level[r], self.quiet[r], self.clear_after[r] = after, 0, clear_after
            self.since[r], self.changed_at[r], self.kind[r] = since, end, kind
        return found
