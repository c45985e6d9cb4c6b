"""The detectors of a partition: the light one for every sensor, the deep one where it is enabled.

The deep detector (`self_similarity`) misses a stuck sensor, which looks like its past. The light
detector (`level_noise`) misses usual values at an unusual time. A sensor with the deep detector
therefore keeps the light one.

`PartitionDetector` has the interface of the flow's `Detector`: sensors by id, several panes of a
sensor per call, levels instead of scores. The number of alarms per day that are allowed while
nothing is wrong becomes a bound for scores in `budget`.

While an episode is reported, what is normal is not learned, so that the sensor stays unusual until
its values are normal again, or until what it does is accepted as normal.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Floats, Ints
from contract.table import Table, column
from ml.online.budget import MOST, Budget
from ml.online.level_noise import CLEAR, LevelNoise
from ml.online.self_similarity import SelfSimilarity
from rules.detector import VIEWS, Bounds, Findings

_NO_ROW = -1
_BY_NOISE = list(VIEWS).index("noise")
_OF_NOISE = 0.8
"""Scores of the noise are multiplied by this: a short mean of steps has the longer tail."""
_BY_SHAPE = list(VIEWS).index("shape")
_TWICE = float(np.log10(2.0))
_SHARE = 0.5
"""The detector's share of the alarms that are allowed; the rest is for deviations from
predictions."""


class PartitionDetector(Table):
    """The state of all sensors of one partition.

    Args:
        light: scores every sensor; without state yet.
        deep: also scores the sensors that `use` names, once it is past its grace period; without
            state yet.
        bounds: the alarms per day that are allowed.
        budget: turns scores into levels; without state yet.
    """

    sensor_id: Ints = column(np.int64, 0)
    """(S,) in ascending order."""
    row: Ints = column(np.int64, 0, stored=np.int32)
    """(S,) the row of each sensor; rows are in order of first appearance."""
    deep_row: Ints = column(np.int64, _NO_ROW, stored=np.int32)
    """(S,) by row; `_NO_ROW` where a sensor has no deep detector."""

    def __init__(
        self,
        light: LevelNoise | None = None,
        deep: SelfSimilarity | None = None,
        bounds: Bounds | None = None,
        budget: Budget | None = None,
    ) -> None:
        super().__init__()
        self.bounds = bounds or Bounds()
        self._budget = budget or Budget()
        self._light, self._deep = light or LevelNoise(), deep or SelfSimilarity()
        self._deep_ids = np.empty(0, np.int64)
        self._deep_since = np.empty(0, np.int64)
        """The event time from which each of `_deep_ids` has the deep detector."""

    def use(self, deep: Sequence[int] | Ints, bounds: Bounds, since: Ints | None = None) -> None:
        """Apply these bounds, and enable the deep detector for exactly the sensors `deep`, each
        from the event time `since` on; None: always. Before that it sees nothing of the sensor.

        A sensor that already had it keeps its state; a sensor that loses it loses its state.
        """
        self.bounds = bounds
        self._deep_ids, place = np.unique(np.asarray(deep, np.int64), return_index=True)
        self._deep_since = np.full(len(place), NEVER) if since is None else since[place]
        self._light.grow(self.rows)  # a snapshot of an older version may lack these tables
        self._budget.grow(self.rows)
        self._deep.grow(int((self.deep_row >= 0).sum()))
        kept = np.flatnonzero((self.deep_row >= 0) & np.isin(self._ids_by_row(), self._deep_ids))
        self._deep.keep(self.deep_row[kept])
        self.deep_row[:] = _NO_ROW
        self.deep_row[kept] = np.arange(len(kept))
        self._add_deep(np.flatnonzero(np.isin(self._ids_by_row(), self._deep_ids)))

    def step(
        self,
        sensor_id: Ints,
        end: Ints,
        mean: Floats,
        breached: NDArray[np.bool_] | None = None,
    ) -> Findings:
        """What is found in P panes, each scored before it is learned from.

        The panes of a sensor are contiguous and sorted by end. Where `breached` (P,), a threshold
        of the user's is met: the pane is neither scored nor learned from.
        """
        findings = Findings.nothing(len(sensor_id))
        if not len(sensor_id):
            return findings
        starts = np.flatnonzero(np.r_[True, sensor_id[1:] != sensor_id[:-1]])
        count = np.diff(np.r_[starts, len(sensor_id)])
        row = self._rows(sensor_id[starts])
        order = np.argsort(row, kind="stable")
        starts, count, row = starts[order], count[order], row[order]
        allowed = _SHARE * self.bounds.of(sensor_id, end)
        deep_from = self._deep_from(sensor_id[starts])
        for turn in range(int(count.max())):  # the n-th pane of every sensor at once
            on = count > turn
            pane, rows, deep = starts[on] + turn, row[on], deep_from[on]
            if breached is not None and (outside := breached[pane]).any():
                self._skip(findings, pane[outside], rows[outside])
                pane, rows, deep = pane[~outside], rows[~outside], deep[~outside]
            if len(pane):
                at = end[pane]
                self._judge(findings, pane, rows, at, mean[pane], allowed[:, pane], at >= deep)
        return findings

    def unjudged(self, sensor_id: Ints, end: Ints) -> NDArray[np.bool_]:
        """(P,) whether no pane of each sensor, however unusual, can reach WARN at the time `end`
        (P,): its signal raised too many alarms, and its bound is out of reach until it sinks.
        """
        place = np.searchsorted(self.sensor_id, sensor_id)
        known = place < self.rows
        known[known] = self.sensor_id[place[known]] == sensor_id[known]
        row, unjudged = self.row[place[known]], np.zeros(len(sensor_id), np.bool_)
        allowed = _SHARE * self.bounds.of(sensor_id[known], end[known])
        interval = self._light.interval(row)
        unjudged[known] = self._budget.unreachable(row, end[known], interval, allowed)
        return unjudged

    def _judge(  # noqa: PLR0917 - the columns of the panes
        self,
        findings: Findings,
        pane: NDArray[np.intp],
        row: Ints,
        end: Ints,
        mean: Floats,
        allowed: Floats,
        is_deep: NDArray[np.bool_],
    ) -> None:
        light, budget = self._light, self._budget
        findings.usual[pane] = light.usual(row)
        seen = light.seen(row)
        held = budget.reporting(row)
        score, view = self._score(row, end, mean, held if held.any() else None, is_deep)
        judged = budget.step(row, end, score, seen, light.moves(row), light.interval(row), allowed)
        findings.score[pane], findings.view[pane], findings.bound[:, pane] = (
            score,
            view,
            judged.bound,
        )
        findings.level[pane], findings.told[pane] = judged.level, judged.told
        if len(at := np.flatnonzero(judged.told)):
            findings.compared[:, pane[at]] = light.compared(row[at], view[at])
        if len(at := judged.accepted):
            budget.accept(row[at], light.accept(row[at]))
        findings.accepted[pane] = budget.normal(row)

    def _skip(self, findings: Findings, pane: NDArray[np.intp], row: Ints) -> None:
        """A breached pane keeps the level that is reported."""
        findings.usual[pane] = self._light.usual(row)
        findings.level[pane] = findings.told[pane] = self._budget.level(row)
        findings.accepted[pane] = self._budget.normal(row)

    @property
    def tables(self) -> dict[str, Table]:
        """All tables that are kept between pieces, by name."""
        light = {"detector": self, "level_noise": self._light, "alarm_budget": self._budget}
        return light | self._deep.tables

    def _score(
        self,
        row: Ints,
        end: Ints,
        value: Floats,
        held: NDArray[np.bool_] | None,
        is_deep: NDArray[np.bool_],
    ) -> tuple[Floats, NDArray[np.int8]]:
        """The score and its view; where both detectors score, the higher one. Because there are two
        detectors, its share is doubled. The deep one sees only the panes that are marked.
        """
        score = self._light.score_then_learn(row, end, value, held)
        view = self._light.view
        score *= np.where(view == _BY_NOISE, _OF_NOISE, 1.0)
        deep_row = self.deep_row[row]
        if len(on := np.flatnonzero((deep_row >= 0) & is_deep)):
            on = on[np.argsort(deep_row[on])]
            ready = self._deep.ready(deep_row[on])
            deep = self._deep.score_then_learn(deep_row[on], end[on], value[on])
            on, deep = on[ready], deep[ready]
            view[on[np.minimum(deep, CLEAR) > score[on]]] = _BY_SHAPE
            score[on] = np.maximum(np.maximum(score[on], deep) - _TWICE, 0.0)
        return np.minimum(score, MOST), view

    def _deep_from(self, sensor_id: Ints) -> Ints:
        """The event time from which each sensor has the deep detector, if it has it."""
        since = np.full(len(sensor_id), NEVER)
        if len(self._deep_ids):
            place = np.searchsorted(self._deep_ids, sensor_id).clip(max=len(self._deep_ids) - 1)
            deep = self._deep_ids[place] == sensor_id
            since[deep] = self._deep_since[place[deep]]
        return since

    def _rows(self, sensor_id: Ints) -> Ints:
        """The rows of distinct sensors. Sensors without a row get a new one."""
        place = np.searchsorted(self.sensor_id, sensor_id)
        known = place < len(self.sensor_id)
        known[known] = self.sensor_id[place[known]] == sensor_id[known]
        if not known.all():
            new = np.sort(sensor_id[~known])
            rows = np.arange(self.rows, self.rows + len(new))
            self.append(sensor_id=new, row=rows)
            order = np.argsort(self.sensor_id)
            self.sensor_id, self.row = self.sensor_id[order], self.row[order]
            self._light.grow(self.rows)
            self._budget.grow(self.rows)
            self._add_deep(rows[np.isin(new, self._deep_ids)])
            place = np.searchsorted(self.sensor_id, sensor_id)
        return self.row[place]

    def _add_deep(self, row: Ints) -> None:
        new = row[self.deep_row[row] < 0]
        deep = int((self.deep_row >= 0).sum())
        self.deep_row[new] = np.arange(deep, deep + len(new))
        self._deep.grow(deep + len(new))

    def _ids_by_row(self) -> Ints:
        ids = np.empty(len(self.row), np.int64)
        ids[self.row] = self.sensor_id
        return ids
