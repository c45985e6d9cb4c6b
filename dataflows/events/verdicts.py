"""The level that the rules and the detector call for at each closed pane."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.level import Level
from contract.table import ROWS, Table, column, single
from dataflows.events.detector import Detector
from dataflows.segments import begins, lengths
from rules.columns import Rules
from rules.kind import Closed, Group, Judged, Kind, Memory, Rule
from rules.panes import PANE_MS, Panes, Windows
from rules.tables import KINDS, RuleSet, kind_numbered, kind_of

BY_DETECTOR = -2
"""In place of a rule's index: the detector calls for the level."""
NO_RULE = -1
"""In place of a rule's index: no rule calls for a level."""
NEVER_DUE = 2**62
"""In place of a time: the value may stand for as long as it likes."""
_UNKNOWN = 2**61
"""When a streak began that a state of an earlier version has: only its panes count."""
_NOTED = 7
"""The number of figures that a kind may note for a pane."""
_LARGEST = 1e300
"""Limit of the means that are learned from, so that differences are finite."""
_USUAL_PANES = 1_000
"""The number of panes over which the slow mean is taken."""
_USUAL_KNOWN = 10
"""The number of panes from which it is known."""

_Key = tuple[str, str, int]
_Pairs = tuple[Kind[Any], Group, NDArray[np.intp], Ints]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One verdict for each closed pane. P panes."""

    closed: Closed
    """The panes, and their context."""
    asked: NDArray[np.int8]
    """(P,) the highest level that a rule calls for."""
    held: NDArray[np.int8]
    """(P,) the highest level that a rule holds."""
    rule: Ints
    """(P,) the first rule that calls for that level: an index into `Rules.rule`, `NO_RULE` or
    `BY_DETECTOR`."""
    streak: Ints
    """(P,) consecutive panes up to this one that met that rule's condition."""
    noted: Floats
    """(7, P) figures that the kind of that rule noted for the event."""
    due: Ints
    """(2, P) event time from which a rule calls for WARN, and for CRITICAL, if the pane's value
    stands until then; `NEVER_DUE` if none will."""
    due_rule: Ints
    """(2, P) that rule."""
    breached: NDArray[np.bool_]
    """(P,) whether a bound of a user's is breached."""
    accepted: Floats
    """(P,) the value that the detector accepted as normal instead of reporting it any longer; NaN
    if its last report ended otherwise."""

    @classmethod
    def none(cls, closed: Closed, breached: NDArray[np.bool_]) -> "Verdicts":
        """No rule calls for a level, or holds one."""
        panes = len(closed.panes.row)
        return cls(
            closed=closed,
            asked=np.zeros(panes, np.int8),
            held=np.zeros(panes, np.int8),
            rule=np.full(panes, NO_RULE),
            streak=np.zeros(panes, np.int64),
            noted=np.full((_NOTED, panes), np.nan),
            due=np.full((2, panes), NEVER_DUE),
            due_rule=np.full((2, panes), NO_RULE),
            breached=breached,
            accepted=np.full(panes, np.nan),
        )


class VerdictState(Table):
    """The streak of each rule's condition, what is usual for each sensor, and the memories of
    kinds.

    Args:
        detector: also calls for levels.
        late: whether the panes are those of late readings, which only some kinds judge.
    """

    seen: Ints = column(np.int64, 0)
    """(S,) number of readings in closed panes."""
    unusual: Ints = column(np.int64, 0, shape=(2, ROWS), stored=np.int32)
    """(2, S) consecutive panes that the detector scored as WARN or above, and as CRITICAL."""
    usual: Floats = column(np.float64, 0.0)
    """(S,) the slow mean of the sensor's panes in which no bound of a user was breached."""
    learned: Ints = column(np.int64, 0, stored=np.int32)
    """(S,) the number of those panes, up to `_USUAL_PANES`."""
    streaks: dict[_Key, int] = single({})
    """Rule key -> consecutive panes that met its condition. For rules in use, the value is that of
    the last snapshot."""
    since: dict[_Key, int] = single({})
    """Rule key -> end of the first of those panes, likewise."""

    def __init__(self, detector: Detector | None = None, *, late: bool = False) -> None:
        super().__init__()
        self._detector = detector
        self._late = late
        self._rules = Rules(RuleSet())
        self._keys: list[_Key] = []
        """(all rules,) identity of each rule across editions."""
        self._streak: Ints = np.empty(0, np.int64)
        """(all rules,) consecutive panes that met the condition."""
        self._since: Ints = np.empty(0, np.int64)
        """(all rules,) end of the first of those panes."""
        self.memories: dict[int, Memory] = {
            kind.number: memory
            for kind in KINDS
            if (kind.judges_late or not late) and (memory := kind.memory()) is not None
        }
        """Memories by the number of their kind."""

    @property
    def tables(self) -> dict[str, Table]:
        """The memories of kinds, by name."""
        return {f"{kind_numbered(n).name}_memory": table for n, table in self.memories.items()}

    def settle(self) -> None:
        """Merge the streaks of the rules in use into those of rules that are not."""
        running = np.flatnonzero(self._streak)
        keys = [self._keys[index] for index in running.tolist()]
        self.streaks = self._of_others(self.streaks) | dict(
            zip(keys, self._streak[running].tolist(), strict=True)
        )
        self.since = self._of_others(self.since) | dict(
            zip(keys, self._since[running].tolist(), strict=True)
        )

    def _of_others(self, values: Mapping[_Key, int]) -> dict[_Key, int]:
        """Those of rules that are not in use."""
        used = set(self._keys) if values else set()
        return {key: value for key, value in values.items() if key not in used}

    def step(
        self, panes: Panes, value: Floats, windows: Windows, sensor_id: Ints, rules: Rules
    ) -> Verdicts:
        """Judge closed panes by `rules`. `value` has the readings of the panes, in their order;
        `sensor_id` (S,) is the sensor of each row.
        """
        self.grow(len(sensor_id))
        if rules is not self._rules:
            self._use(rules)
        sensors = sensor_id[panes.row]
        usual = np.full(len(panes.row), np.nan)
        closed = Closed(panes, windows, value, self._readings_before(panes), usual)
        pairs = list(self._pairs(rules, sensors))
        breached = self._learn(closed, pairs)
        verdicts = Verdicts.none(closed, breached)
        for kind, group, pane, rule in pairs:
            memory = self.memories.get(kind.number)
            judged = kind.judge(group.bounds[:, rule], pane, rule, closed, memory)
            self._add(verdicts, kind, group, pane, rule, judged)
        np.add.at(self.seen, panes.row, panes.count)
        if self._detector is not None and len(panes.row):
            self._detect(verdicts, panes, sensors, rules.bound(sensors))
        return verdicts

    def unjudged(self, sensor_id: Ints, end: Ints) -> int:
        """The number of sensors (S,) that the detector cannot report at the times `end` (S,)."""
        if self._detector is None:
            return 0
        return int(self._detector.unjudged(sensor_id, end).sum())

    def forget(self, rows: NDArray[np.intp], sensor_id: Ints) -> None:
        """Drop all that is known of some sensors: of their `rows`, and of rules of `sensor_id`."""
        kept = np.ones(self.rows, bool)
        kept[rows] = False
        self.keep(kept)
        for kind, group in self._rules.groups:
            gone = np.isin(group.sensor_id, sensor_id)
            self._streak[group.number[gone]] = 0
            if kind.number in self.memories:
                self.memories[kind.number].forget(np.flatnonzero(gone))

    def _pairs(self, rules: Rules, sensors: Ints) -> Iterator[_Pairs]:
        """Pairs of panes and rules of one kind: (N,) indices of panes, and (N,) indices of rules in
        their group, at most one pair for each pane. `sensors` (P,) is the sensor of each pane.
        """
        for kind, group in rules.groups:
            if self._late and not kind.judges_late:
                continue
            first = np.searchsorted(group.sensor_id, sensors, "left")
            count = np.searchsorted(group.sensor_id, sensors, "right") - first
            for turn in range(int(count.max(initial=0))):  # the n-th rule of every sensor at once
                pane = np.flatnonzero(count > turn)
                yield kind, group, pane, first[pane] + turn

    def _readings_before(self, panes: Panes) -> Ints:
        before = np.cumsum(panes.count) - panes.count
        starts = np.flatnonzero(begins(panes.row))
        before -= np.repeat(before[starts], lengths(starts, len(panes.row)))
        return before + self.seen[panes.row]

    def _learn(self, closed: Closed, pairs: Sequence[_Pairs]) -> NDArray[np.bool_]:
        """Fill in what is usual before each pane, and learn from panes without a breach. Returns
        (P,) whether a bound of a user's is breached.
        """
        panes = closed.panes
        breached = np.zeros(len(panes.row), bool)
        for kind, group, pane, rule in pairs:
            if kind.breaches:
                breached[pane] |= kind.breached(group.bounds[:, rule], pane, closed)
        learns = ~breached
        mean = np.minimum(np.maximum(panes.mean, -_LARGEST), _LARGEST)
        starts = np.flatnonzero(begins(panes.row))
        count = lengths(starts, len(panes.row))
        for turn in range(int(count.max(initial=0))):  # the n-th pane of every sensor at once
            pane = starts[count > turn] + turn if turn else starts
            row, learn = panes.row[pane], learns[pane]
            usual, learned = self.usual[row], self.learned[row]
            known = learned >= _USUAL_KNOWN
            closed.usual[pane[known]] = usual[known]
            learned += learn
            np.minimum(learned, _USUAL_PANES, out=learned)
            change = mean[pane]
            change -= usual
            change /= np.maximum(learned, 1)
            change *= learn
            usual += change
            self.usual[row], self.learned[row] = usual, learned
        return breached

    def _add(  # noqa: PLR0917 - the pairs of panes and rules, and what was judged
        self,
        verdicts: Verdicts,
        kind: Kind[Any],
        group: Group,
        pane: NDArray[np.intp],
        rule: Ints,
        judged: Judged,
    ) -> None:
        """Update the streaks of the rules at `pane`, and raise levels."""
        level, met = group.level[rule], judged.met
        verdicts.held[pane] = np.maximum(verdicts.held[pane], np.where(judged.holds, level, 0))
        number = group.number[rule]
        if not met.any() and not self._streak[number].any():
            return
        end = verdicts.closed.panes.end[pane]
        run, since, last = _runs(met, number, end, self._streak, self._since)
        self._streak[number[last]], self._since[number[last]] = run[last], since[last]
        needed = group.raise_after[rule]
        due = np.where(kind.timed, since + (needed - 1) * PANE_MS, NEVER_DUE)
        asks = met & ((run >= needed) | (end >= due))
        more = asks & (level > verdicts.asked[pane])
        verdicts.asked[pane[more]] = level[more]
        verdicts.rule[pane[more]] = number[more]
        verdicts.streak[pane[more]] = run[more]
        if judged.noted is not None:
            verdicts.noted[: len(judged.noted), pane[more]] = judged.noted[:, more]
        if kind.stands and (waits := met & ~asks).any():
            for index in (0, 1):
                sooner = waits & (level == index + 1) & (due < verdicts.due[index, pane])
                verdicts.due[index, pane[sooner]] = due[sooner]
                verdicts.due_rule[index, pane[sooner]] = number[sooner]

    def _detect(
        self, verdicts: Verdicts, panes: Panes, sensors: Ints, watched: NDArray[np.bool_]
    ) -> None:
        """Add what the detector finds: WARN at most where a threshold watches (`watched`)."""
        assert self._detector is not None
        findings = self._detector.step(sensors, panes.end, panes.mean, verdicts.breached)
        most = np.where(watched, Level.WARN, Level.CRITICAL)
        level, told = np.minimum(findings.level, most), np.minimum(findings.told, most)
        verdicts.held[:] = np.maximum(verdicts.held, level)
        verdicts.accepted[:] = findings.accepted
        for index, wanted in enumerate((Level.WARN, Level.CRITICAL)):
            met = level >= wanted
            never = np.zeros(self.rows, np.int64)
            run, _, last = _runs(met, panes.row, panes.end, self.unusual[index], never)
            self.unusual[index, panes.row[last]] = run[last]
            more = (told >= wanted) & (verdicts.asked < wanted)
            verdicts.asked[more] = wanted
            verdicts.rule[more] = BY_DETECTOR
            verdicts.streak[more] = run[more]
            noted = (findings.usual, findings.score, findings.bound[index], findings.view)
            verdicts.noted[:, more] = [values[more] for values in (*noted, *findings.compared)]

    def _use(self, rules: Rules) -> None:
        """Replace the rules. Rules that stay keep their streaks."""
        if self._detector is not None:
            self._detector.use(rules.deep, rules.unusual, rules.deep_since)
        self.settle()
        self._rules = rules
        keys = self._keys = [rule_key(rule) for rule in rules.rule]
        self._streak = np.array([self.streaks.get(key, 0) for key in keys], np.int64)
        self._since = np.array([self.since.get(key, _UNKNOWN) for key in keys], np.int64)
        self.streaks, self.since = {}, {}  # a rule that returns starts over
        groups = {kind.number: group.number for kind, group in rules.groups}
        for number, memory in self.memories.items():
            memory.use([rules.rule[index] for index in groups.get(number, ())])


def _runs(
    met: NDArray[np.bool_], key: Ints, end: Ints, streak: Ints, since: Ints
) -> tuple[Ints, Ints, NDArray[np.intp]]:
    """(N,) the streak of met conditions up to each element, continued from `streak` (by key); (N,)
    the end of the first pane of it, continued from `since`; and the index of the last element of
    each key. Equal keys are consecutive.
    """
    place = np.arange(len(met))
    first = begins(key)
    starts = np.flatnonzero(first)
    broken = np.maximum.accumulate(np.where(met, np.where(first, place - 1, -1), place))
    run = place - broken
    start = np.repeat(starts, lengths(starts, len(met)))
    continues = broken < start
    begun = end[np.minimum(broken + 1, place)]
    begun = np.where(continues & (streak[key] > 0), since[key], begun)
    run += np.where(continues, streak[key], 0)
    return run, begun, np.r_[starts[1:] - 1, len(met) - 1]


def rule_key(rule: Rule) -> _Key:
    """The identity of a rule across editions."""
    return kind_of(rule).key(rule)
