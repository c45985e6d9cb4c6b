"""NAB's own baseline: deviations from the mean of a long window, renewed now and then.

The window is NAB's (Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms: the
Numenta anomaly benchmark", 2015): 6400 values, renewed every 100.
"""

from typing import Any

import numpy as np

from contract.columns import Floats, Ints

_VERSION = 1
_LARGEST = 1e150
_TINY = 1e-150
_NUMBERS = 3


class WindowedGaussianDetector:
    """For each sensor its last `window` values.

    Args:
        window: how many values mean and deviation are taken of.
        renew: after how many values they are taken again.
        grace_period: how many panes of a sensor are learnt from before any is scored.
    """

    def __init__(self, window: int = 6400, renew: int = 100, grace_period: int = 128) -> None:
        self.grace_period = grace_period
        self._window, self._renew = window, renew
        self._numbers = np.zeros((_NUMBERS, 0))
        """(3, S) panes seen, mean, standard deviation."""
        self._values = np.zeros((0, window))
        """(S, window) value number n of a sensor stands at n modulo the window."""

    def grow(self, sensors: int) -> None:
        """Make room for so many sensors in all, new ones after those that are there."""
        new = sensors - len(self._values)
        self._values = np.concatenate((self._values, np.zeros((new, self._window))))
        self._numbers = np.concatenate((self._numbers, np.zeros((_NUMBERS, new))), axis=1)

    def score_then_learn(self, row: Ints, end: Ints, value: Floats) -> Floats:
        """(P,) the deviation of each pane from its sensor's mean, in standard deviations; 0 in the
        grace period. At most one pane a sensor.
        """
        value = np.clip(value, -_LARGEST, _LARGEST)
        seen, mean, deviation = self._numbers[:, row]
        score: Floats = np.abs(value - mean) / (deviation + 1e-9 * np.abs(mean) + _TINY)
        score[seen < self.grace_period] = 0.0
        self._values[row, seen.astype(np.int64) % self._window] = value
        self._numbers[0, row] += 1
        for one in row[(seen + 1) % self._renew == 0].tolist():
            values = self._values[one, : int(self._numbers[0, one])]
            self._numbers[1:, one] = values.mean(), values.std()
        return score

    def snapshot(self) -> tuple[Any, ...]:
        """The state as plain arrays, after the version of its form."""
        return (_VERSION, self._numbers.copy(), self._values.copy())

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Take over the state that `snapshot` was taken of.

        Raises:
            ValueError: it is of another version, or was made with another window.
        """
        version, numbers, values = snapshot
        if version != _VERSION or values.shape[1] != self._window:
            raise ValueError(f"no state of version {_VERSION} and {self._window} panes")
        self._numbers, self._values = numbers.copy(), values.copy()
