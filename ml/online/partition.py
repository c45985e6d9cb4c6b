"""The detectors of a partition: the light one for every sensor, the deep one where it is enabled.

The deep detector (`self_similarity`) misses a stuck sensor, which looks like its past. The light
detector (`level_noise`) misses usual values at an unusual time. A sensor with the deep detector
therefore keeps the light one.

`PartitionDetector` has the interface of the flow's `Detector`: sensors by id, several panes of a
sensor per call, levels instead of scores. A bound is the number of panes per day that may be
reported as unusual while nothing is wrong; the score for it follows from the interval between the
sensor's panes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Floats, Ints
from contract.level import Level
from contract.table import Table, column
from ml.online.level_noise import LevelNoise
from ml.online.self_similarity import SelfSimilarity
from rules.detector import VIEWS, Bounds, Findings

_DAY_MS = 86_400_000.0
_NO_ROW = -1
_BY_SHAPE = list(VIEWS).index("shape")
_TWICE = float(np.log10(2.0))


class PartitionDetector(Table):
    """The state of all sensors of one partition.

    Args:
        light: scores every sensor; without state yet.
        deep: also scores the sensors that `use` names, once it is past its grace period; without
            state yet.
        bounds: the scores for WARN and CRITICAL.
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
    ) -> None:
        super().__init__()
        self.bounds = bounds or Bounds()
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
        self._deep.grow(int((self.deep_row >= 0).sum()))
        kept = np.flatnonzero((self.deep_row >= 0) & np.isin(self._ids_by_row(), self._deep_ids))
        self._deep.keep(self.deep_row[kept])
        self.deep_row[:] = _NO_ROW
        self.deep_row[kept] = np.arange(len(kept))
        self._add_deep(np.flatnonzero(np.isin(self._ids_by_row(), self._deep_ids)))

    def step(self, sensor_id: Ints, end: Ints, mean: Floats) -> Findings:
        """What is found in P panes, each scored before it is learned from.

        The panes of a sensor are contiguous and sorted by end.
        """
        panes = len(sensor_id)
        findings = Findings(
            level=np.zeros(panes, np.int8),
            usual=np.zeros(panes),
            score=np.zeros(panes),
            bound=np.zeros((2, panes)),
            view=np.zeros(panes, np.int8),
        )
        if not panes:
            return findings
        starts = np.flatnonzero(np.r_[True, sensor_id[1:] != sensor_id[:-1]])
        count = np.diff(np.r_[starts, len(sensor_id)])
        row = self._rows(sensor_id[starts])
        order = np.argsort(row, kind="stable")
        starts, count, row = starts[order], count[order], row[order]
        bounds = np.log10(self.bounds.of(sensor_id, end))
        deep_from = self._deep_from(sensor_id[starts])
        for turn in range(int(count.max())):  # the n-th pane of every sensor at once
            on = count > turn
            pane, rows = starts[on] + turn, row[on]
            findings.usual[pane] = self._light.usual(rows)
            deep = end[pane] >= deep_from[on]
            score, findings.view[pane] = self._score(rows, end[pane], mean[pane], deep)
            panes_a_day = np.log10(_DAY_MS / np.maximum(self._light.interval(rows), 1.0))
            bound = np.maximum(panes_a_day - bounds[:, pane], 1.0)
            reached = score >= bound
            findings.score[pane], findings.bound[:, pane] = score, bound
            findings.level[pane] = np.where(
                reached[1], Level.CRITICAL, np.where(reached[0], Level.WARN, Level.NORMAL)
            )
        return findings

    @property
    def tables(self) -> dict[str, Table]:
        """All tables that are kept between pieces, by name."""
        return {"detector": self, "level_noise": self._light} | self._deep.tables

    def _score(
        self, row: Ints, end: Ints, value: Floats, is_deep: NDArray[np.bool_]
    ) -> tuple[Floats, NDArray[np.int8]]:
        """The score and its view; where both detectors score, the higher one. Because there are two
        detectors, its share is doubled. The deep one sees only the panes that are marked.
        """
        score = self._light.score_then_learn(row, end, value)
        view = self._light.view
        deep_row = self.deep_row[row]
        if len(on := np.flatnonzero((deep_row >= 0) & is_deep)):
            on = on[np.argsort(deep_row[on])]
            ready = self._deep.ready(deep_row[on])
            deep = self._deep.score_then_learn(deep_row[on], end[on], value[on])
            on, deep = on[ready], deep[ready]
            view[on[deep > score[on]]] = _BY_SHAPE
            score[on] = np.maximum(np.maximum(score[on], deep) - _TWICE, 0.0)
        return score, view

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
