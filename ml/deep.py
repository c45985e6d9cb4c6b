"""Finds what a sensor has not done before: no stretch of its past looks like the last few panes.

For each lag the squared difference between the last panes and those that came so many panes
earlier is kept up as an exponentially weighted mean, so a new pane costs one pass over the lags,
and the stretches need no search. The smallest of them is the distance to the nearest neighbour, as
in Burnaev and Ishimtsev, "Conformalized density- and distance-based anomaly detection in
time-series data" (2016), and in the matrix profile (Yeh and others, 2016). A season needs no model
of its own: where there is one, its length is the lag that fits.

A level shift is strange until it has lasted for as long as the stretches that may not be compared
(`4 * window` panes); then it looks like itself. After missing panes what came before them counts for
as much less as time has passed.
"""

from typing import Any

import numpy as np

from contract.columns import Floats, Ints
from ml import pace, tail

_VERSION = 1
_SEEN, _MEAN, _VARIANCE = range(3)
_PACE = slice(3, 3 + pace.FIELDS)
_TAIL = slice(_PACE.stop, _PACE.stop + tail.FIELDS)
_NUMBERS = _TAIL.stop
_LARGEST = 1e150
"""Values are cut to it: their squares must be finite."""
_MOST = 1e300
_FINEST, _SMALLEST = 1e-3, 1e-9
"""Differences below these shares of a sensor's standard deviation, and of its value, are none."""


class DeepDetector:
    """For each sensor the last `memory` panes, and how well the newest fit to each lag.

    Args:
        window: how many panes a stretch is long, about: the weight of a pane falls by 1/window
            with each that follows.
        memory: how many panes back neighbours are looked for.
        grace_period: how many panes of a sensor are learnt from before any is scored.
        tails: how distances become shares.
    """

    def __init__(
        self,
        *,
        window: int = 8,
        memory: int = 1024,
        grace_period: int = 128,
        tails: tail.Tail | None = None,
    ) -> None:
        self.grace_period = grace_period
        self._apart = 2 * window
        self._keep = 1.0 - 1.0 / window
        self._memory = memory
        self._tails = tails or tail.Tail()
        self._lag = np.arange(1.0, memory + 1)
        self._numbers = np.zeros((_NUMBERS, 0))
        self._past = np.zeros((0, memory))
        """(S, memory) the last values, newest first."""
        self._unlike = np.zeros((0, memory))
        """(S, memory) mean squared difference at the lags 1, 2, ..."""

    def grow(self, sensors: int) -> None:
        """Make room for so many sensors in all, new ones after those that are there."""
        if new := sensors - len(self._past):
            more = np.zeros((new, self._memory))
            self._past = np.concatenate((self._past, more))
            self._unlike = np.concatenate((self._unlike, more))
            self._numbers = np.concatenate((self._numbers, np.zeros((_NUMBERS, new))), axis=1)

    def score_then_learn(self, row: Ints, end: Ints, value: Floats) -> Floats:
        """(P,) -log10 of the share of the sensor's normal panes that are as strange as each pane;
        0 in the grace period. At most one pane a sensor; `row` ascends, `end` is in ms.
        """
        value = np.clip(value, -_LARGEST, _LARGEST)
        every = len(row) == len(self._past)
        numbers = self._numbers if every else self._numbers[:, row]
        past = self._past if every else self._past[row]
        unlike = self._unlike if every else self._unlike[row]
        seen = numbers[_SEEN].copy()
        gap = pace.missing(numbers[_PACE], seen, end.astype(np.float64))
        self._compare(past, unlike, value, gap, seen)
        nearest = self._nearest(unlike, seen)
        floor = self._floor(numbers, seen, value)
        distance = 0.5 * np.log(np.maximum(nearest, floor))
        compared = np.maximum(seen - 2 * self._apart + 1, 0.0)
        score = self._tails.score_then_learn(numbers[_TAIL], np.maximum(compared - 1, 0), distance)
        score[seen < max(self.grace_period, 2 * self._apart)] = 0.0
        past[:, 1:] = past[:, :-1]
        past[:, 0] = value
        numbers[_SEEN] += 1
        if not every:
            self._numbers[:, row], self._past[row], self._unlike[row] = numbers, past, unlike
        return score

    def snapshot(self) -> tuple[Any, ...]:
        """The state as plain arrays, after the version of its form."""
        return (_VERSION, self._numbers.copy(), self._past.copy(), self._unlike.copy())

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Take over the state that `snapshot` was taken of.

        Raises:
            ValueError: it is of another version, or was made with another memory.
        """
        version, numbers, past, unlike = snapshot
        if version != _VERSION or past.shape[1] != self._memory:
            raise ValueError(f"no state of version {_VERSION} and {self._memory} panes")
        self._numbers, self._past, self._unlike = numbers.copy(), past.copy(), unlike.copy()

    def _compare(
        self, past: Floats, unlike: Floats, value: Floats, gap: Floats, seen: Floats
    ) -> None:
        """Add the newest pane to the differences at each lag."""
        change = value[:, None] - past
        change *= change
        change *= 1.0 - self._keep
        if gap.any():
            keep = np.where(gap > 0, self._keep ** (1.0 + gap), self._keep)
            unlike *= keep[:, None]
        else:
            unlike *= self._keep
        unlike += change
        if seen.min() < self._memory:
            unlike[self._lag > seen[:, None]] = 0.0

    def _nearest(self, unlike: Floats, seen: Floats) -> Floats:
        """(S,) the smallest difference, of lags that are long enough and filled for long enough."""
        first = self._apart - 1
        if seen.min() < self._memory + self._apart:
            known = self._lag[first:] <= (seen - self._apart)[:, None]
            return np.where(known, unlike[:, first:], _MOST).min(axis=1)
        return unlike[:, first:].min(axis=1)

    def _floor(self, numbers: Floats, seen: Floats, value: Floats) -> Floats:
        """(S,) the squared difference that is none; `value` is learnt from."""
        mean, variance = numbers[_MEAN], numbers[_VARIANCE]
        floor = np.maximum(_FINEST**2 * variance, (_SMALLEST * mean) ** 2)
        rate = np.maximum(1.0 / (seen + 1.0), 1.0 / self._memory)
        change = value - mean
        mean += rate * change
        variance += rate * change * change
        variance *= 1.0 - rate
        return np.maximum(floor, 1.0 / _MOST)
