"""The offline baseline: an isolation forest of a sensor's last values, refitted periodically.

Liu, Ting and Zhou, "Isolation forest", 2008. scikit-learn fits the trees. They are kept as arrays,
so that the trees of all sensors are traversed at once.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest  # type: ignore[import-untyped]

from contract.columns import Floats, Ints
from contract.table import ROWS, Table, column

_SAMPLE = 256
_DEPTH = 8
"""Maximum depth of a tree of 256 values."""
_NODES = 2 * _SAMPLE
_LARGEST = 1e30
"""scikit-learn uses float32."""


class IsolationForestDetector(Table):
    """The last `memory` values and `trees` trees of each sensor.

    Args:
        memory: number of values that a forest is fitted to.
        refit: number of values after which it is refitted.
        lags: number of consecutive values in one point of the forest.
        trees: number of trees in a forest.
        grace_period: number of panes of a sensor that are learned from before the first one is
            scored.
        seed: seed of the trees.
    """

    seen: Ints = column(np.int64, 0)
    values: Floats = column(np.float64, 0.0)
    """(S, memory) newest last."""
    cut: Floats = column(np.float64, 0.0)
    """(S, trees, nodes) the value that the node's lag is compared with; for a leaf, the length of
    the path to it."""
    lag: NDArray[np.int16] = column(np.int16, 0)
    """The lag that a node compares; -1 for a leaf."""
    left: NDArray[np.int16] = column(np.int16, 0)
    """The child node for values up to the cut; `right` has the one for larger values."""
    right: NDArray[np.int16] = column(np.int16, 0)

    def __init__(
        self,
        *,
        memory: int = 2000,
        refit: int = 500,
        lags: int = 4,
        trees: int = 50,
        grace_period: int = 128,
        seed: int = 0,
    ) -> None:
        self.grace_period = grace_period
        self._memory, self._refit, self._lags = memory, refit, lags
        self._trees, self._seed = trees, seed
        of_trees = (ROWS, trees, _NODES)
        super().__init__(
            values=(ROWS, memory), cut=of_trees, lag=of_trees, left=of_trees, right=of_trees
        )

    def score_then_learn(self, row: Ints, end: Ints, value: Floats) -> Floats:
        """(P,) at most 0.5 for usual panes, close to 1 for unusual ones; 0 in the grace period.

        Takes at most one pane per sensor.
        """
        self.values[row, :-1] = self.values[row, 1:]
        self.values[row, -1] = np.clip(value, -_LARGEST, _LARGEST)
        grown = self.seen[row] >= max(self.grace_period, self._lags)
        score = np.zeros(len(row))
        if grown.any():
            score[grown] = self._score(row[grown])
        self.seen[row] += 1
        seen = self.seen[row]
        due = (seen == self.grace_period) | ((seen % self._refit == 0) & (seen > self.grace_period))
        for sensor in row[due].tolist():
            self._fit(sensor)
        return score

    def _score(self, row: Ints) -> Floats:
        point = self.values[row, -self._lags :].astype(np.float32).astype(np.float64)
        sensor, tree = row[:, None], np.arange(self._trees)
        of_point = np.arange(len(row))[:, None]
        node = np.zeros((len(row), self._trees), np.int64)
        for _ in range(_DEPTH):
            lag = self.lag[sensor, tree, node]
            low = point[of_point, lag] <= self.cut[sensor, tree, node]
            below = np.where(low, self.left[sensor, tree, node], self.right[sensor, tree, node])
            node = np.where(lag < 0, node, below)
        path = self.cut[sensor, tree, node].mean(axis=1)
        return np.asarray(2.0 ** (-path / _usual_path(np.array([_SAMPLE]))))

    def _fit(self, row: int) -> None:
        values = self.values[row, -min(int(self.seen[row]), self._memory) :]
        points = np.lib.stride_tricks.sliding_window_view(values, self._lags)
        forest = IsolationForest(
            n_estimators=self._trees, max_samples=min(_SAMPLE, len(points)), random_state=self._seed
        )
        forest.fit(points)
        for index, grown in enumerate(forest.estimators_):
            tree = grown.tree_
            size, leaf = tree.node_count, tree.children_left < 0
            length = _depth(tree.children_left, tree.children_right)
            length += _usual_path(tree.n_node_samples)
            self.cut[row, index, :size] = np.where(leaf, length, tree.threshold)
            self.lag[row, index, :size] = np.where(leaf, -1, tree.feature)
            self.left[row, index, :size] = tree.children_left
            self.right[row, index, :size] = tree.children_right


def _depth(left: Ints, right: Ints) -> Floats:
    """Depth of each node; children come after their parents."""
    depth = np.zeros(len(left))
    for node in np.flatnonzero(left >= 0).tolist():
        depth[left[node]] = depth[right[node]] = depth[node] + 1
    return depth


def _usual_path(points: Ints) -> Floats:
    """Mean length of the path to a point in a tree of `points` points."""
    most = np.maximum(points - 1.0, 1.0)
    long = 2.0 * (np.log(most) + np.euler_gamma) - 2.0 * most / np.maximum(points, 1)
    return np.where(points > 2, long, np.where(points == 2, 1.0, 0.0))
