"""NAB's own baseline: deviations from the mean of a long window, recomputed periodically.

The window is NAB's (Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms: the
Numenta anomaly benchmark", 2015): 6400 values, recomputed every 100.
"""

import numpy as np

from contract.columns import Floats, Ints
from contract.table import ROWS, Table, block, column

_LARGEST = 1e150
_TINY = 1e-150


class WindowedGaussianDetector(Table):
    """The last `window` values of each sensor.

    Args:
        window: number of values for the mean and the standard deviation.
        renew: number of values after which they are recomputed.
        grace_period: number of panes of a sensor that are learned from before the first one is
            scored.
    """

    numbers: Floats = block({"seen": 0.0, "mean": 0.0, "deviation": 0.0})
    values: Floats = column(np.float64, 0.0)
    """(S, window) value number n of a sensor is at n modulo the window."""

    def __init__(self, window: int = 6400, renew: int = 100, grace_period: int = 128) -> None:
        self.grace_period = grace_period
        self._window, self._renew = window, renew
        super().__init__(values=(ROWS, window))

    def score_then_learn(self, row: Ints, end: Ints, value: Floats) -> Floats:
        """(P,) the deviation of each pane from its sensor's mean, in standard deviations; 0 in the
        grace period. Takes at most one pane per sensor.
        """
        value = np.clip(value, -_LARGEST, _LARGEST)
        seen, mean, deviation = self.numbers[:, row]
        score: Floats = np.abs(value - mean) / (deviation + 1e-9 * np.abs(mean) + _TINY)
        score[seen < self.grace_period] = 0.0
        self.values[row, seen.astype(np.int64) % self._window] = value
        self.numbers[0, row] += 1
        for due in row[(seen + 1) % self._renew == 0].tolist():
            values = self.values[due, : int(self.numbers[0, due])]
            self.numbers[1:, due] = values.mean(), values.std()
        return score
