"""How well the last few values of each sensor fit to what came so many values earlier.

For each lag the squared difference between the newest values and those before them is kept up as an
exponentially weighted mean, so a new value costs one pass over the lags, and nothing is searched.
The smallest are the distances to the nearest neighbours of the last stretch, as in Burnaev and
Ishimtsev, "Conformalized density- and distance-based anomaly detection in time-series data" (2016),
and in the matrix profile (Yeh and others, 2016).
"""

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.table import ROWS, Table, column

LARGEST = 1e150
"""Values must not be beyond it: their squares must be finite."""
_MOST, _NONE = 1e300, 1e149
"""In place of a squared difference that is not known, and below its root."""
_APART = 16
_NEIGHBOURS = 3
"""How many neighbours a stretch should have: what happened once before is not yet usual."""


class Lags(Table):
    """For each sensor the last `memory` values.

    Args:
        window: how many values a stretch is long, about: the weight of a value falls by 1/window
            with each that follows.
        memory: how many stretches it may look like; a multiple of 16.

    Raises:
        ValueError: the memory is not, or is too short.
    """

    count: Floats = column(np.float64, 0.0)
    """(S,) values before."""
    past: Floats = column(np.float64, 0.0)
    """(S, lags) newest first."""
    unlike: Floats = column(np.float64, 0.0)
    """(S, lags) mean squared difference at the lags 1, 2, ..."""

    def __init__(self, window: int, memory: int) -> None:
        if memory % _APART or memory < _NEIGHBOURS * _APART:
            raise ValueError(f"memory: {memory} is no multiple of {_APART}, or below 48")
        self.memory = memory
        self.apart = 2 * window
        """Stretches that begin nearer to each other than this are the same."""
        self._keep = 1.0 - 1.0 / window
        self._lags = memory + self.apart - 1
        self._lag = np.arange(1.0, self._lags + 1)
        super().__init__(past=(ROWS, self._lags), unlike=(ROWS, self._lags))

    def add(
        self, row: Ints, value: Floats, age: Floats | None = None, most: Floats | None = None
    ) -> tuple[Floats, Floats]:
        """Add one value to each sensor of `row`, which ascends; `age` is how many values are
        missing before it, and by so much less what came before counts; a squared difference counts
        for no more than `most`, so that it can be forgotten.

        Gives how many stretches it could look like (P,), and the differences at each lag (P, lags),
        to be read and not kept.
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
        """Let a sensor's last `period` values, or the last one where there are not so many, stand
        for so many that are missing. They are not compared with those before.
        """
        times = min(times, self._lags)
        period = period if self.count[row] >= period <= self._lags else 1
        missing = self.past[row, -np.arange(times, 0, -1) % period]
        self.past[row, times:] = self.past[row, : self._lags - times].copy()
        self.past[row, :times] = missing
        self.unlike[row] *= self._keep**times
        self.count[row] += times

    def nearest(self, unlike: Floats, neighbours: Floats, most: float = np.inf) -> Floats:
        """(P,) the mean distance to the nearest neighbours, of the `most` first stretches of all;
        of no meaning where there are none.
        """
        far = unlike[:, self.apart - 1 :]
        if neighbours.max() > most:
            place = neighbours[:, None] - self._lag[: self.memory]
            far = np.where((place >= 0) & (place < most), far, _MOST)
        elif neighbours.min() < self.memory:
            far = np.where(self._lag[: self.memory] <= neighbours[:, None], far, _MOST)
        # neighbours stand next to each other: of 16 lags far apart only the best is looked at
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
        """(P,) the least distance at each sensor's own lags, `lag` (P, lags), and whether there is
        one.
        """
        known = (lag < (neighbours + self.apart)[:, None]) & (lag <= self._lags)
        at = np.take_along_axis(unlike, np.minimum(lag, self._lags) - 1, axis=1)
        least = np.where(known, at, _MOST).min(axis=1)
        return np.sqrt(least), np.asarray(known.any(axis=1))
