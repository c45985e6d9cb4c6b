"""The plainest opponent: deviations from an exponentially weighted mean, in standard deviations."""

from typing import Any

import numpy as np

from contract.columns import Floats, Ints

_VERSION = 1
_LARGEST = 1e150
_TINY = 1e-150


class EwmaDetector:
    """For each sensor a mean and a variance (Finch, "Incremental calculation of weighted mean and
    variance", 2009).

    Args:
        rate: by how much the newest value counts.
        grace_period: how many panes of a sensor are learnt from before any is scored.
    """

    def __init__(self, rate: float = 0.005, grace_period: int = 128) -> None:
        self.grace_period = grace_period
        self._rate = rate
        self._numbers = np.zeros((3, 0))
        """(3, S) panes seen, mean, variance."""

    def grow(self, sensors: int) -> None:
        """Make room for so many sensors in all, new ones after those that are there."""
        new = sensors - self._numbers.shape[1]
        self._numbers = np.concatenate((self._numbers, np.zeros((3, new))), axis=1)

    def score_then_learn(self, row: Ints, end: Ints, value: Floats) -> Floats:
        """(P,) the deviation of each pane from its sensor's mean, in standard deviations; 0 in the
        grace period. At most one pane a sensor.
        """
        value = np.clip(value, -_LARGEST, _LARGEST)
        seen, mean, variance = self._numbers[:, row]
        mean = np.where(seen == 0, value, mean)
        change = value - mean
        score: Floats = np.abs(change) / np.sqrt(variance + (1e-9 * mean) ** 2 + _TINY**2)
        score[seen < self.grace_period] = 0.0
        variance = (1 - self._rate) * (variance + self._rate * change * change)
        self._numbers[:, row] = seen + 1, mean + self._rate * change, variance
        return score

    def snapshot(self) -> tuple[Any, ...]:
        """The state as plain arrays, after the version of its form."""
        return (_VERSION, self._numbers.copy())

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Take over the state that `snapshot` was taken of.

        Raises:
            ValueError: it is of another version.
        """
        version, numbers = snapshot
        if version != _VERSION:
            raise ValueError(f"no state of version {_VERSION}")
        self._numbers = numbers.copy()
