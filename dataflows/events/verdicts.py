"""The level that the rules and the detector call for at each closed pane."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.level import Level
from contract.table import ROWS, Table, column, single
from dataflows.events.detector import Detector
from dataflows.segments import begins, lengths
from rules.columns import Rules
from rules.kind import RAISE_AFTER_SLOWLY, Closed, Group, Judged, Memory, Rule
from rules.panes import Panes, Windows
from rules.tables import KINDS, RuleSet, kind_of

BY_DETECTOR = -2
"""In place of a rule's index: the detector calls for the level."""
NO_RULE = -1
"""In place of a rule's index: no rule calls for a level."""
_NOTED = 4
"""The number of figures that a kind may note for a pane."""


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
    """(4, P) figures that the kind of that rule noted for the event."""


class VerdictState(Table):
    """The streak of each rule's condition, and the memories of kinds."""

    seen: Ints = column(np.int64, 0)
    """(S,) number of readings in closed panes."""
    unusual: Ints = column(np.int64, 0, shape=(2, ROWS))
    """(2, S) consecutive panes that the detector scored as WARN or above, and as CRITICAL."""
    streaks: dict[tuple[str, str, int], int] = single({})
    """Rule key -> consecutive panes that met its condition. For rules in use, the value is that of
    the last snapshot."""

    def __init__(self, detector: Detector | None = None) -> None:
        super().__init__()
        self._detector = detector
        self._rules = Rules(RuleSet())
        self._streak: Ints = np.empty(0, np.int64)
        """(all rules,) consecutive panes that met the condition."""
        self.memories: dict[int, Memory] = {
            kind.number: memory for kind in KINDS if (memory := kind.memory()) is not None
        }
        """Memories by the number of their kind."""

    def settle(self) -> None:
        """Merge the streaks of the rules in use into those of rules that are not."""
        running = {
            _key(rule): n for rule, n in zip(self._rules.rule, self._streak.tolist(), strict=True)
        }
        absent = {key: n for key, n in self.streaks.items() if key not in running}
        self.streaks = absent | {key: n for key, n in running.items() if n}

    def step(self, panes: Panes, windows: Windows, sensor_id: Ints, rules: Rules) -> Verdicts:
        """Judge closed panes by `rules`; `sensor_id` (S,) is the sensor of each row."""
        self.grow(len(sensor_id))
        if rules is not self._rules:
            self._use(rules)
        closed = Closed(panes, windows, self._readings_before(panes))
        verdicts = Verdicts(
            closed=closed,
            asked=np.zeros(len(panes.row), np.int8),
            held=np.zeros(len(panes.row), np.int8),
            rule=np.full(len(panes.row), NO_RULE),
            streak=np.zeros(len(panes.row), np.int64),
            noted=np.full((_NOTED, len(panes.row)), np.nan),
        )
        sensors = sensor_id[panes.row]
        for kind, group in rules.groups:
            memory = self.memories.get(kind.number)
            first = np.searchsorted(group.sensor_id, sensors, "left")
            count = np.searchsorted(group.sensor_id, sensors, "right") - first
            for turn in range(int(count.max(initial=0))):  # the n-th rule of every sensor at once
                pane = np.flatnonzero(count > turn)
                rule = first[pane] + turn
                judged = kind.judge(group.bounds[:, rule], pane, rule, closed, memory)
                self._add(verdicts, group, pane, rule, judged)
        np.add.at(self.seen, panes.row, panes.count)
        if self._detector is not None and len(panes.row):
            self._detect(verdicts, panes, sensors)
        return verdicts

    def _readings_before(self, panes: Panes) -> Ints:
        before = np.cumsum(panes.count) - panes.count
        starts = np.flatnonzero(begins(panes.row))
        before -= np.repeat(before[starts], lengths(starts, len(panes.row)))
        return before + self.seen[panes.row]

    def _add(
        self,
        verdicts: Verdicts,
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
        run, last = _runs(met, number, self._streak)
        self._streak[number[last]] = run[last]
        more = met & (run >= group.raise_after[rule]) & (level > verdicts.asked[pane])
        verdicts.asked[pane[more]] = level[more]
        verdicts.rule[pane[more]] = number[more]
        verdicts.streak[pane[more]] = run[more]
        if judged.noted is not None:
            verdicts.noted[: len(judged.noted), pane[more]] = judged.noted[:, more]

    def _detect(self, verdicts: Verdicts, panes: Panes, sensors: Ints) -> None:
        assert self._detector is not None
        findings = self._detector.step(sensors, panes.end, panes.mean)
        verdicts.held[:] = np.maximum(verdicts.held, findings.level)
        for index, wanted in enumerate((Level.WARN, Level.CRITICAL)):
            met = findings.level >= wanted
            run, last = _runs(met, panes.row, self.unusual[index])
            self.unusual[index, panes.row[last]] = run[last]
            more = met & (run >= RAISE_AFTER_SLOWLY) & (verdicts.asked < wanted)
            verdicts.asked[more] = wanted
            verdicts.rule[more] = BY_DETECTOR
            verdicts.streak[more] = run[more]
            noted = (findings.usual, findings.score, findings.bound[index], findings.view)
            verdicts.noted[:, more] = [values[more] for values in noted]

    def _use(self, rules: Rules) -> None:
        """Replace the rules. Rules that stay keep their streaks."""
        if self._detector is not None:
            self._detector.use(rules.deep, rules.unusual, rules.deep_since)
        self.settle()
        self._rules = rules
        self._streak = np.array([self.streaks.get(_key(rule), 0) for rule in rules.rule], np.int64)
        self.streaks = {}
        groups = {kind.number: group.number for kind, group in rules.groups}
        for number, memory in self.memories.items():
            memory.use([rules.rule[index] for index in groups.get(number, ())])


def _runs(met: NDArray[np.bool_], key: Ints, before: Ints) -> tuple[Ints, NDArray[np.intp]]:
    """(N,) the streak of met conditions up to each element, continued from `before` (by key); and
    the index of the last element of each key. Equal keys are consecutive.
    """
    place = np.arange(len(met))
    first = begins(key)
    starts = np.flatnonzero(first)
    broken = np.maximum.accumulate(np.where(met, np.where(first, place - 1, -1), place))
    run = place - broken
    start = np.repeat(starts, lengths(starts, len(met)))
    run += np.where(broken < start, before[key], 0)
    return run, np.r_[starts[1:] - 1, len(met) - 1]


def _key(rule: Rule) -> tuple[str, str, int]:
    return kind_of(rule).key(rule)
