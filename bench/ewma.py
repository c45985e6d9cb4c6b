"""The simplest baseline: deviations from an exponentially weighted mean, in standard deviations."""

import numpy as np

from contract.columns import Floats, Ints
from contract.table import Table, block

_LARGEST = 1e150
_TINY = 1e-150


class EwmaDetector(Table):
    """A mean and a variance per sensor (Finch, "Incremental calculation of weighted mean and
    variance", 2009).

    Args:
        rate: weight of the newest value.
        grace_period: number of panes of a sensor that are learned from before the first one is
            scored.
    """

    numbers: Floats = block({"seen": 0.0, "mean": 0.0, "variance": 0.0})

    def __init__(self, rate: float = 0.005, grace_period: int = 128) -> None:
        self.grace_period = grace_period
        self._rate = rate
        super().__init__()

    def score_then_learn(self, row: Ints, end: Ints, value: Floats) -> Floats:
        """(P,) the deviation of each pane from its sensor's mean, in standard deviations; 0 in the
        grace period. Takes at most one pane per sensor.
        """
        value = np.clip(value, -_LARGEST, _LARGEST)
        seen, mean, variance = self.numbers[:, row]
        mean = np.where(seen == 0, value, mean)
        change = value - mean
        score: Floats = np.abs(change) / np.sqrt(variance + (1e-9 * mean) ** 2 + _TINY**2)
        score[seen < self.grace_period] = 0.0
        variance = (1 - self._rate) * (variance + self._rate * change * change)
        self.numbers[:, row] = seen + 1, mean + self._rate * change, variance
        return score
