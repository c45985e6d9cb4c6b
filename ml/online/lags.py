"""How similar the last few values of each sensor are to its earlier values, at every lag.

For each lag, an exponentially weighted mean of the squared difference between the newest values and
the values one lag earlier is maintained. A new value costs one pass over the lags; there is no
search. The smallest means are the distances from the last stretch to its nearest neighbours, as in
Burnaev and Ishimtsev, "Conformalized density- and distance-based anomaly detection in time-series
data" (2016), and in the matrix profile (Yeh and others, 2016).
"""

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.table import ROWS, Table, column

LARGEST = 1e150
"""Limit of absolute values, so that their squares are finite."""
_MOST, _NONE = 1e300, 1e149
"""Stands for an unknown squared difference; a value just below its square root."""
_APART = 16
_NEIGHBOURS = 3
"""Number of neighbours averaged: a stretch that occurred only once before is still unusual."""


class Lags(Table):
    """The last `memory` values of each sensor.

    Args:
        window: approximate length of a stretch in values: the weight of a value falls by 1/window
            with each following value.
        memory: number of earlier stretches to compare with; a multiple of 16.

    Raises:
        ValueError: `memory` is not a multiple of 16 or is too short.
    """

    count: Floats = column(np.float64, 0.0)
    """(S,) number of earlier values."""
    past: Floats = column(np.float64, 0.0)
    """(S, lags) newest first."""
    unlike: Floats = column(np.float64, 0.0)
    """(S, lags) mean squared difference at the lags 1, 2, ..."""

    def __init__(self, window: int, memory: int) -> None:
        if memory % _APART or memory < _NEIGHBOURS * _APART:
            raise ValueError(f"memory: {memory} is not a multiple of {_APART}, or is below 48")
        self.memory = memory
        self.apart = 2 * window
        """Stretches whose starts are closer than this count as the same."""
        self._keep = 1.0 - 1.0 / window
        self._lags = memory + self.apart - 1
        self._lag = np.arange(1.0, self._lags + 1)
        super().__init__(past=(ROWS, self._lags), unlike=(ROWS, self._lags))

    def add(
        self, row: Ints, value: Floats, age: Floats | None = None, most: Floats | None = None
    ) -> tuple[Floats, Floats]:
        """Add one value to each sensor of `row`, which is ascending.

        `age` is the number of values missing before it; the weight of earlier values decays by as
        many steps. Squared differences are capped at `most`, so that a large one decays in
        reasonable time.

        Returns the number of stretches available for comparison (P,), and the differences at each
        lag (P, lags), which the caller must not keep or modify.
        """
        every = len(row) == len(self.past)
        past = self.past if every else self.past[row]
        unlike = self.unlike if every else self.unlike[row]
        count = self.count[row]
        change = value[:, None] - past
        change *= change
        if most is not None:
            np.minimum(change, most[:, None], out=change)
        change *= 1.0 - self._keep
        unlike *= self._keep
        if age is not None and len(late := np.flatnonzero(age)):
            unlike[late] *= (self._keep ** age[late])[:, None]
        unlike += change
        if count.min() < self._lags:
            unlike[self._lag > count[:, None]] = 0.0
        longer = np.empty_like(past)
        longer[:, 0], longer[:, 1:] = value, past[:, :-1]
        if every:
            self.past = longer
        else:
            self.past[row], self.unlike[row] = longer, unlike
        self.count[row] = count + 1.0
        return np.maximum(count - 2.0 * self.apart + 1.0, 0.0), unlike

    def repeat(self, row: int, times: int, period: int) -> None:
        """Fill `times` missing values of a sensor by repeating its last `period` values, or its
        last value if it has fewer. The filled values are not compared with earlier ones.
        """
        times = min(times, self._lags)
        period = period if self.count[row] >= period <= self._lags else 1
        missing = self.past[row, -np.arange(times, 0, -1) % period]
        self.past[row, times:] = self.past[row, : self._lags - times].copy()
        self.past[row, :times] = missing
        self.unlike[row] *= self._keep**times
        self.count[row] += times

    def nearest(self, unlike: Floats, neighbours: Floats, most: float = np.inf) -> Floats:
        """(P,) the mean distance to the nearest neighbours among the `most` oldest stretches.

        Meaningless for a sensor that has no neighbours.
        """
        far = unlike[:, self.apart - 1 :]
        if neighbours.max() > most:
            place = neighbours[:, None] - self._lag[: self.memory]
            far = np.where((place >= 0) & (place < most), far, _MOST)
        elif neighbours.min() < self.memory:
            far = np.where(self._lag[: self.memory] <= neighbours[:, None], far, _MOST)
        # neighbours are adjacent lags: keep only the best of each 16 lags that are far apart
        near = far.reshape(len(far), _APART, -1).min(axis=1)
        near.partition(_NEIGHBOURS - 1, axis=1)
        near = np.sqrt(near[:, :_NEIGHBOURS])
        near.sort(axis=1)
        first, second, third = near.T
        second = np.where(second < _NONE, second, first)
        third = np.where(third < _NONE, third, second)
        mean: Floats = (first + second + third) / _NEIGHBOURS
        return mean

    def nearest_of(
        self, lag: Ints, unlike: Floats, neighbours: Floats
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """(P,) the smallest distance at each sensor's own lags, `lag` (P, lags), and (P,) whether
        there is one.
        """
        known = (lag < (neighbours + self.apart)[:, None]) & (lag <= self._lags)
        at = np.take_along_axis(unlike, np.minimum(lag, self._lags) - 1, axis=1)
        least = np.where(known, at, _MOST).min(axis=1)
        return np.sqrt(least), np.asarray(known.any(axis=1))
