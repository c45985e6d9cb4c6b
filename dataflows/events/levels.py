"""The level of each sensor: raised at once, lowered after enough quiet panes, with flap detection.

The first pane for which a rule calls for a higher level raises it. A pane is quiet when rules call
for less and no rule of that level or above holds it. After `clear_after` consecutive quiet panes,
or as many seconds of them, the level becomes what the last one calls for, so CRITICAL may fall to
WARN.

Between panes, the value of the last one stands. A level that is due to clear or to be raised while
it stands changes at that time: before the next pane, or once the sensor has been silent for that
long. A sensor that reports only changes needs this.

Flapping is measured as in Kapacitor: the weighted share of the last 20 steps between evaluations
that changed the level. The newest step weighs half as much again as the oldest. An evaluation is
the level that the rules call for in one pane, with hysteresis, before quiet panes are counted.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Ints
from contract.level import Level
from contract.table import ROWS, Table, column
from dataflows.events.changes import BY_FLAPPING, Flapping, Incident, Standing, Transition
from dataflows.events.verdicts import BY_DETECTOR, NEVER_DUE, NO_RULE, Verdicts
from dataflows.segments import begins, lengths
from rules.columns import Rules
from rules.detector import DETECTOR
from rules.kind import CLEAR_AFTER
from rules.panes import PANE_MS, Panes

_STEPS = 20
_WEIGHT = 118 - 2 * np.arange(_STEPS)
"""The newest step first, in hundredths so that sums are exact."""
FLAPPING_IN = 0.50 * 100 * _STEPS
FLAPPING_OUT = 0.25 * 100 * _STEPS
_BITS = (np.arange(1024)[:, None] >> np.arange(10)) & 1
_SHARE_NEW = _BITS @ _WEIGHT[:10]
_SHARE_OLD = _BITS @ _WEIGHT[10:]


@dataclass(frozen=True, slots=True)
class Silence:
    """Times in which sensors sent nothing, sorted by row and time."""

    row: Ints
    """The sensor's row."""
    after: Ints
    """End of the sensor's newest pane by then."""
    until: Ints
    """Event time up to which the value of that pane has stood."""


class Silences(Protocol):
    """The times in which sensors sent nothing, as far as they are asked for."""

    def of(self, sensors: NDArray[np.bool_]) -> Silence:
        """Those of some sensors, a mask (S,)."""


class NoSilences:
    """Panes that follow each other in event time alone."""

    def of(self, sensors: NDArray[np.bool_]) -> Silence:
        """None."""
        nothing = np.empty(0, np.int64)
        return Silence(nothing, nothing, nothing)


class LevelState(Table):
    """The levels of one partition's sensors, one row per sensor. Without `flaps`, flapping is not
    detected.
    """

    level: NDArray[np.int8] = column(np.int8, 0)
    quiet: Ints = column(np.int64, 0, stored=np.int32)
    """Consecutive quiet panes."""
    quiet_since: Ints = column(np.int64, NEVER)
    """End of the first of them."""
    clear_after: Ints = column(np.int64, CLEAR_AFTER, stored=np.int32)
    """The number of quiet panes, or of seconds, that lower the level."""
    since: Ints = column(np.int64, NEVER)
    """End of the pane that moved the sensor away from NORMAL."""
    changed_at: Ints = column(np.int64, NEVER)
    """When the level was set."""
    kind: Ints = column(np.int64, 0, stored=np.int8)
    """The number of the kind of rule that caused the level."""
    incident_since: Ints = column(np.int64, NEVER)
    """When the sensor left NORMAL or began to flap; see `Incident`."""
    incident_kind: Ints = column(np.int64, 0, stored=np.int8)
    """See `Incident`."""
    rung: NDArray[np.int8] = column(np.int8, 0)
    """The highest level that somebody was notified of in the incident."""
    given: NDArray[np.int8] = column(np.int8, 0)
    """The last evaluation: the level before quiet panes are counted."""
    changes: Ints = column(np.int64, 0, stored=np.int32)
    """Whether each of the last 20 steps changed `given`; the newest is the lowest bit."""
    flapping: Ints = column(np.int64, NEVER)
    """End of the pane with which flapping began; NEVER if the sensor is not flapping."""

    def __init__(self, *, flaps: bool = True) -> None:
        super().__init__()
        self._flaps = flaps
        self._rules: Rules | None = None
        self.timers = Timers()

    @property
    def counts(self) -> tuple[int, int, int]:
        """The number of sensors that are NORMAL, WARN and CRITICAL."""
        normal, warn, critical = np.bincount(self.level, minlength=len(Level)).tolist()
        return normal, warn, critical

    def step(
        self, panes: Panes, verdicts: Verdicts, rules: Rules, sensors: int, silences: Silences
    ) -> tuple[list[Transition], list[Flapping]]:
        """Evaluate closed panes in order; `verdicts` are what `rules` call for."""
        self.grow(sensors)
        if rules is not self._rules:
            self._rules = rules
            self.timers.keep_due(rules)
        awake = (self.level > 0) | (self.changes > 0) | (self.given > 0)
        awake[self.timers.row] = True
        awake[panes.row[(verdicts.asked > 0) | (verdicts.due < NEVER_DUE).any(axis=0)]] = True
        transitions: list[Transition] = []
        flappings: list[Flapping] = []
        if not awake.any():
            return transitions, flappings
        todo = np.flatnonzero(awake[panes.row])
        silence = silences.of(awake)
        # panes and silences of a sensor in order; a silence follows the pane that it is after
        row = np.concatenate((panes.row[todo], silence.row))
        if not len(row):
            return transitions, flappings
        at = np.concatenate((panes.end[todo], silence.after))
        is_pane = np.arange(len(row)) < len(todo)
        index = np.concatenate((todo, np.arange(len(silence.row))))
        order = np.lexsort((~is_pane, at, row))
        row, is_pane, index = row[order], is_pane[order], index[order]
        starts = np.flatnonzero(begins(row))
        rank = np.arange(len(row)) - np.repeat(starts, lengths(starts, len(row)))
        by_rank = np.argsort(rank, kind="stable")
        for turn in np.split(by_rank, np.cumsum(np.bincount(rank))[:-1]):
            # the n-th pane or silence of every sensor at once
            of_pane, of_silence = turn[is_pane[turn]], turn[~is_pane[turn]]
            pane = index[of_pane]
            until = np.concatenate((panes.end[pane] - PANE_MS, silence.until[index[of_silence]]))
            transitions += self._fire(row[np.concatenate((of_pane, of_silence))], until, rules)
            if self._flaps:
                flappings += self._flap(pane, panes, verdicts)
            transitions += self._move(pane, panes, verdicts, rules)
        return transitions, flappings

    def end(self, panes: Panes, last: NDArray[np.intp]) -> list[Transition]:
        """Lower the raised levels of sensors with their last panes, given by index."""
        transitions = []
        for pane in last[self.level[panes.row[last]] > 0].tolist():
            row, at = int(panes.row[pane]), int(panes.end[pane])
            change = self._change(row, at, Level.NORMAL, NO_RULE, None)
            transitions.append(replace(change, pane=pane, cut=True))
        return transitions

    def _fire(self, row: Ints, until: Ints, rules: Rules) -> list[Transition]:
        """The changes that were due while the values of sensors stood, up to `until` (N,)."""
        timers = self.timers
        if not timers.rows:
            return []
        place = timers.place(row)
        due = np.minimum(timers.due[:, place].min(axis=0), self._clears_at(row))
        transitions = []
        for index in np.flatnonzero((place >= 0) & (due <= until)).tolist():
            r, at, horizon = int(row[index]), int(place[index]), int(until[index])
            while True:
                raises = timers.due[:, at].tolist()
                due_at = min(*raises, int(self._clears_at(row[[index]])[0]))
                if due_at > horizon:
                    break
                if due_at in raises:
                    level = Level(2 if raises[1] == due_at else 1)
                    if not timers.fire(at, level, rules) or level <= self.level[r]:
                        continue
                level, rule = timers.calls_for(at, rules)
                change = self._change(r, due_at, level, rule, rules, timers.standing(at))
                transitions.append(change)
        return transitions

    def _clears_at(self, row: Ints) -> Ints:
        """(N,) event time at which the levels of quiet sensors clear; `NEVER_DUE` for others."""
        waits = (self.level[row] > 0) & (self.quiet[row] > 0)
        at = self.quiet_since[row] + (self.clear_after[row] - 1) * PANE_MS
        return np.where(waits, at, NEVER_DUE)

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
            level = Level(self.level[r])
            if begins and level is Level.NORMAL:
                self._begin(r, Incident(end, BY_FLAPPING))
            rings = self._rings(r, max(level, Level.WARN) if begins else level)
            flapping = Flapping(int(pane[index]), begins, since, level, self.incident(r), rings)
            flappings.append(flapping)
            self.flapping[r] = end if begins else NEVER
        return flappings

    def _move(
        self, pane: NDArray[np.intp], panes: Panes, verdicts: Verdicts, rules: Rules
    ) -> list[Transition]:
        row, end = panes.row[pane], panes.end[pane]
        level, asked = self.level[row], verdicts.asked[pane]
        quiet = (asked < level) & (verdicts.held[pane] < level)
        self.quiet[row] = np.where(quiet, self.quiet[row] + 1, 0)
        first = quiet & (self.quiet[row] == 1)
        self.quiet_since[row[first]] = end[first]
        lowers = quiet & (self.quiet[row] >= self.clear_after[row])
        lowers |= quiet & (self._clears_at(row) <= end)
        transitions = []
        for index in np.flatnonzero((asked > level) | lowers).tolist():
            after, p = Level(asked[index]), int(pane[index])
            rule = NO_RULE if after is Level.NORMAL else int(verdicts.rule[p])
            change = self._change(int(row[index]), int(end[index]), after, rule, rules)
            transitions.append(replace(change, pane=p))
        self.timers.set(
            row,
            panes=panes,
            pane=pane,
            verdicts=verdicts,
            rules=rules,
            waits=(self.level[row] > 0) & (self.quiet[row] > 0),
        )
        return transitions

    def _change(  # noqa: PLR0917 - the change
        self,
        row: int,
        at: int,
        after: Level,
        rule: int,
        rules: Rules | None,
        standing: Standing | None = None,
    ) -> Transition:
        """Change the level of a sensor."""
        before, flaps = Level(self.level[row]), self.flapping[row] != NEVER
        kind = int(rules.kind[rule]) if rules and rule >= 0 else 0
        kind = DETECTOR.number if rule == BY_DETECTOR else kind
        clear_after = int(rules.clear_after[rule]) if rules and rule >= 0 else CLEAR_AFTER
        if before is Level.NORMAL and not flaps:
            self._begin(row, Incident(at, kind))
        change = Transition(
            row=row, at=at, pane=-1, standing=standing, before=before, after=after,
            since=at if before is Level.NORMAL else int(self.since[row]),
            changed_at=int(self.changed_at[row]), kind_before=int(self.kind[row]), kind=kind,
            incident=self.incident(row), rings=not flaps and self._rings(row, after),
            rule=rule, quiet=int(self.quiet[row]), clear_after=int(self.clear_after[row]),
        )  # fmt: skip
        self.level[row], self.quiet[row], self.clear_after[row] = after, 0, clear_after
        self.since[row], self.changed_at[row], self.kind[row] = change.since, at, kind
        return change

    def incident(self, row: int) -> Incident:
        """The incident that a sensor is in, or was in last."""
        return Incident(int(self.incident_since[row]), int(self.incident_kind[row]))

    def set_incident(self, row: int, incident: Incident) -> None:
        """Rename the incident that a sensor is in."""
        self.incident_since[row], self.incident_kind[row] = incident

    def _begin(self, row: int, incident: Incident) -> None:
        self.set_incident(row, incident)
        self.rung[row] = Level.NORMAL

    def _rings(self, row: int, level: Level) -> bool:
        """Whether the level has to be notified; notes that it is."""
        rings = bool(level > self.rung[row])
        if rings:
            self.rung[row] = level
        return rings


class Timers(Table):
    """The last panes of sensors whose level changes if their value stands, one row per sensor."""

    row: Ints = column(np.int64, 0)
    """The sensor's row, ascending."""
    due: Ints = column(np.int64, NEVER_DUE, shape=(2, ROWS))
    """Event time from which a rule calls for WARN, and for CRITICAL."""
    due_rule: Ints = column(np.int64, NO_RULE, shape=(2, ROWS))
    """The identity of that rule, see `Rules`."""
    asked: Ints = column(np.int64, 0)
    """The level that rules call for."""
    rule: Ints = column(np.int64, NO_RULE)
    """The identity of the rule that calls for it, `NO_RULE` or `BY_DETECTOR`."""
    device: Ints = column(np.int64, 0)
    """The device's row. This and the following columns are of the sensor's last pane."""
    end: Ints = column(np.int64, NEVER)
    count: Ints = column(np.int64, 0)
    mean: NDArray[np.float64] = column(np.float64, 0.0)
    minimum: NDArray[np.float64] = column(np.float64, 0.0)
    maximum: NDArray[np.float64] = column(np.float64, 0.0)

    def keep_due(self, rules: Rules) -> None:
        """Let only these rules be due: one that is dropped and returns starts over."""
        gone = ~np.isin(self.due_rule, rules.identity)
        self.due[gone], self.due_rule[gone] = NEVER_DUE, NO_RULE

    def rename(self, rows: Ints) -> None:
        """Replace row numbers by these; -1 drops the sensor."""
        self.row = rows[self.row]
        self.keep(self.row >= 0)
        self.keep(np.argsort(self.row, kind="stable"))

    def place(self, row: Ints) -> NDArray[np.intp]:
        """(N,) the place of each sensor here; -1 if it has no timer."""
        if not len(self.row):
            return np.full(len(row), -1)
        place = np.minimum(np.searchsorted(self.row, row), len(self.row) - 1)
        return np.where(self.row[place] == row, place, -1)

    def set(
        self,
        row: Ints,
        *,
        panes: Panes,
        pane: NDArray[np.intp],
        verdicts: Verdicts,
        rules: Rules,
        waits: NDArray[np.bool_],
    ) -> None:
        """Replace the timers of sensors, given their last panes; `waits` (N,) if their level clears
        when the value stands.
        """
        waits = waits | (verdicts.due[:, pane] < NEVER_DUE).any(axis=0)
        if len(old := self.place(row)) and (old >= 0).any():
            kept = np.ones(self.rows, bool)
            kept[old[old >= 0]] = False
            self.keep(kept)
        if not waits.any():
            return
        pane = pane[waits]
        self.append(
            row=row[waits],
            due=verdicts.due[:, pane],
            due_rule=_identities(verdicts.due_rule[:, pane], rules),
            asked=verdicts.asked[pane].astype(np.int64),
            rule=_identities(verdicts.rule[pane], rules),
            device=panes.device[pane],
            end=panes.end[pane],
            count=panes.count[pane],
            mean=panes.mean[pane],
            minimum=panes.minimum[pane],
            maximum=panes.maximum[pane],
        )
        self.keep(np.argsort(self.row, kind="stable"))

    def fire(self, place: int, level: Level, rules: Rules) -> bool:
        """Let the rule that is due call for its level. Whether there still is such a rule."""
        identity = int(self.due_rule[level - 1, place])
        self.due[level - 1, place] = NEVER_DUE
        if identity not in rules.place:
            return False
        if level > self.asked[place]:
            self.asked[place], self.rule[place] = level, identity
        return True

    def calls_for(self, place: int, rules: Rules) -> tuple[Level, int]:
        """The level that rules call for, and the index of the rule, `NO_RULE` or `BY_DETECTOR`."""
        identity = int(self.rule[place])
        rule = identity if identity < 0 else rules.place.get(identity, NO_RULE)
        return (Level.NORMAL, rule) if rule == NO_RULE else (Level(self.asked[place]), rule)

    def standing(self, place: int) -> Standing:
        """The last pane of the sensor at `place`."""
        return Standing(
            device=int(self.device[place]),
            end=int(self.end[place]),
            readings=int(self.count[place]),
            mean=float(self.mean[place]),
            minimum=float(self.minimum[place]),
            maximum=float(self.maximum[place]),
        )


def _identities(rule: Ints, rules: Rules) -> Ints:
    """The identities of rules, given by their indices; `NO_RULE` and `BY_DETECTOR` stay."""
    if not len(rules.identity):
        return rule
    return np.where(rule >= 0, rules.identity[np.maximum(rule, 0)], rule)
