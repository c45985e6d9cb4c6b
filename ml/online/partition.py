"""The detectors of a partition's sensors: light for all, and deep for those that are given it.

The deep one does not see what is too quiet (a stuck sensor looks like its past), the light one does
not see what is only out of place; so a sensor that is given the deep one keeps the light one.

It has the verbs of the flow's `Detector`: sensors by their ids, several panes of a sensor at once,
levels instead of scores. A bound is how many panes a day may be called unusual while nothing is
wrong; what score that is follows from how often the sensor's panes come.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.level import Level
from contract.table import Table, column
from ml.online.level_noise import LevelNoise
from ml.online.self_similarity import SelfSimilarity
from rules.detector import Bounds

_DAY_MS = 86_400_000.0
_NOBODY = -1
_TWICE = float(np.log10(2.0))


class PartitionDetector(Table):
    """The state of all sensors of one partition.

    Args:
        light: scores every sensor; fresh.
        deep: scores those that `give` names as well, once it is out of its grace period; fresh.
        bounds: which scores are WARN and CRITICAL.
    """

    sensor_id: Ints = column(np.int64, 0)
    """(S,) ascending."""
    row: Ints = column(np.int64, 0, stored=np.int32)
    """(S,) the row of each sensor; rows are in the order of appearance."""
    deep_row: Ints = column(np.int64, _NOBODY, stored=np.int32)
    """(S,) by row; `_NOBODY` where a sensor has no deep detector."""

    def __init__(
        self,
        light: LevelNoise | None = None,
        deep: SelfSimilarity | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        super().__init__()
        self.bounds = bounds or Bounds()
        self._light, self._deep = light or LevelNoise(), deep or SelfSimilarity()
        self._given = np.empty(0, np.int64)

    def use(self, deep: Sequence[int] | Ints, bounds: Bounds) -> None:
        """From now on these bounds hold, and the sensors `deep`, and no others, have the deep
        detector. One that had it keeps what it knows; one that loses it loses that.
        """
        self.bounds = bounds
        self._given = np.unique(np.asarray(deep, np.int64))
        self._light.grow(self.rows)  # after a restart they may lack what is new in this version
        self._deep.grow(int((self.deep_row >= 0).sum()))
        kept = np.flatnonzero((self.deep_row >= 0) & np.isin(self._ids_by_row(), self._given))
        self._deep.keep(self.deep_row[kept])
        self.deep_row[:] = _NOBODY
        self.deep_row[kept] = np.arange(len(kept))
        self._add_deep(np.flatnonzero(np.isin(self._ids_by_row(), self._given)))

    def step(self, sensor_id: Ints, end: Ints, mean: Floats) -> tuple[NDArray[np.int8], Floats]:
        """(P,) the level that each pane would deserve, scored before it is learnt from; (P,) the
        value about which the sensor usually is. The panes of a sensor stand together, by their
        ends.
        """
        level, usual = np.zeros(len(sensor_id), np.int8), np.zeros(len(sensor_id))
        if not len(sensor_id):
            return level, usual
        starts = np.flatnonzero(np.r_[True, sensor_id[1:] != sensor_id[:-1]])
        count = np.diff(np.r_[starts, len(sensor_id)])
        row = self._rows(sensor_id[starts])
        order = np.argsort(row, kind="stable")
        starts, count, row = starts[order], count[order], row[order]
        bounds = np.log10(self.bounds.of(sensor_id[starts]))
        for turn in range(int(count.max())):  # the n-th pane of every sensor at once
            on = count > turn
            pane, rows = starts[on] + turn, row[on]
            usual[pane] = self._light.usual(rows)
            score = self._score(rows, end[pane], mean[pane])
            panes_a_day = np.log10(_DAY_MS / np.maximum(self._light.interval(rows), 1.0))
            reached = score >= np.maximum(panes_a_day - bounds[:, on], 1.0)
            level[pane] = np.where(
                reached[1], Level.CRITICAL, np.where(reached[0], Level.WARN, Level.NORMAL)
            )
        return level, usual

    @property
    def tables(self) -> dict[str, Table]:
        """Everything that lives longer than a piece, by name."""
        return {"detector": self, "level_noise": self._light} | self._deep.tables

    def _score(self, row: Ints, end: Ints, value: Floats) -> Floats:
        """Where both detectors score, the higher score; as there are two chances, its share counts
        twice.
        """
        score = self._light.score_then_learn(row, end, value)
        deep_row = self.deep_row[row]
        if len(on := np.flatnonzero(deep_row >= 0)):
            on = on[np.argsort(deep_row[on])]
            ready = self._deep.ready(deep_row[on])
            deep = self._deep.score_then_learn(deep_row[on], end[on], value[on])
            on, deep = on[ready], deep[ready]
            score[on] = np.maximum(np.maximum(score[on], deep) - _TWICE, 0.0)
        return score

    def _rows(self, sensor_id: Ints) -> Ints:
        """The rows of sensors, all different; new ones are made for those that have none."""
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
            self._add_deep(rows[np.isin(new, self._given)])
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
