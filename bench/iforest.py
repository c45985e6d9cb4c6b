"""The offline opponent: an isolation forest of a sensor's last values, grown anew now and then.

Liu, Ting and Zhou, "Isolation forest", 2008. scikit-learn grows the trees; they are kept as arrays,
so that the trees of all sensors are walked at once.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest  # type: ignore[import-untyped]

from contract.columns import Floats, Ints

_VERSION = 1
_SAMPLE = 256
_DEPTH = 8
"""Trees of 256 values are grown so far."""
_NODES = 2 * _SAMPLE
_LARGEST = 1e30
"""scikit-learn takes float32."""


class IsolationForestDetector:
    """For each sensor its last `memory` values and `trees` trees.

    Args:
        memory: how many values a forest is grown of.
        refit: after how many values it is grown anew.
        lags: how many values in a row are one point of the forest.
        trees: how many trees it has.
        grace_period: how many panes of a sensor are learnt from before any is scored.
        seed: of the trees.
    """

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
        self._seen = np.zeros(0, np.int64)
        self._values = np.zeros((0, memory))
        """(S, memory) newest last."""
        self._cut = np.zeros((0, trees, _NODES))
        """(S, trees, nodes) what the node's lag is compared with; of a leaf, the length of the
        path to it."""
        self._lag = np.zeros((0, trees, _NODES), np.int16)
        """The lag that a node looks at; -1 of a leaf."""
        self._left = np.zeros((0, trees, _NODES), np.int16)
        """The node for values up to the cut; the one for greater ones stands in `right`."""
        self._right = np.zeros((0, trees, _NODES), np.int16)

    def grow(self, sensors: int) -> None:
        """Make room for so many sensors in all, new ones after those that are there."""
        new = sensors - len(self._seen)

        def longer(array: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate((array, np.zeros((new, *array.shape[1:]), array.dtype)))

        self._seen, self._values = longer(self._seen), longer(self._values)
        self._cut, self._lag = longer(self._cut), longer(self._lag)
        self._left, self._right = longer(self._left), longer(self._right)

    def score_then_learn(self, row: Ints, end: Ints, value: Floats) -> Floats:
        """(P,) 0.5 and less for usual panes, near 1 for strange ones; 0 in the grace period. At
        most one pane a sensor.
        """
        self._values[row, :-1] = self._values[row, 1:]
        self._values[row, -1] = np.clip(value, -_LARGEST, _LARGEST)
        grown = self._seen[row] >= max(self.grace_period, self._lags)
        score = np.zeros(len(row))
        if grown.any():
            score[grown] = self._score(row[grown])
        self._seen[row] += 1
        seen = self._seen[row]
        due = (seen == self.grace_period) | ((seen % self._refit == 0) & (seen > self.grace_period))
        for one in row[due].tolist():
            self._fit(one)
        return score

    def snapshot(self) -> tuple[Any, ...]:
        """The state as plain arrays, after the version of its form."""
        arrays = (self._seen, self._values, self._cut, self._lag, self._left, self._right)
        return (_VERSION, *(array.copy() for array in arrays))

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Take over the state that `snapshot` was taken of.

        Raises:
            ValueError: it is of another version, or was made with other parameters.
        """
        version, *arrays = snapshot
        if version != _VERSION or arrays[2].shape[1] != self._trees:
            raise ValueError(f"no state of version {_VERSION} and {self._trees} trees")
        self._seen, self._values, self._cut, self._lag, self._left, self._right = (
            array.copy() for array in arrays
        )

    def _score(self, row: Ints) -> Floats:
        point = self._values[row, -self._lags :].astype(np.float32).astype(np.float64)
        sensor, tree = row[:, None], np.arange(self._trees)
        of_point = np.arange(len(row))[:, None]
        node = np.zeros((len(row), self._trees), np.int64)
        for _ in range(_DEPTH):
            lag = self._lag[sensor, tree, node]
            low = point[of_point, lag] <= self._cut[sensor, tree, node]
            below = np.where(low, self._left[sensor, tree, node], self._right[sensor, tree, node])
            node = np.where(lag < 0, node, below)
        path = self._cut[sensor, tree, node].mean(axis=1)
        return np.asarray(2.0 ** (-path / _usual_path(np.array([_SAMPLE]))))

    def _fit(self, row: int) -> None:
        values = self._values[row, -min(int(self._seen[row]), self._memory) :]
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
            self._cut[row, index, :size] = np.where(leaf, length, tree.threshold)
            self._lag[row, index, :size] = np.where(leaf, -1, tree.feature)
            self._left[row, index, :size] = tree.children_left
            self._right[row, index, :size] = tree.children_right


def _depth(left: Ints, right: Ints) -> Floats:
    """How deep each node lies; children stand after their parents."""
    depth = np.zeros(len(left))
    for node in np.flatnonzero(left >= 0).tolist():
        depth[left[node]] = depth[right[node]] = depth[node] + 1
    return depth


def _usual_path(points: Ints) -> Floats:
    """The mean length of the path to one of so many points in a tree of them."""
    most = np.maximum(points - 1.0, 1.0)
    long = 2.0 * (np.log(most) + np.euler_gamma) - 2.0 * most / np.maximum(points, 1)
    return np.where(points > 2, long, np.where(points == 2, 1.0, 0.0))
