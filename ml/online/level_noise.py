"""Finds what is unusual by its level or by its noise, in a few numbers for each sensor.

Two things are followed: a short mean of the values, and the short mean size of their steps. Each is
compared with its own slow mean, in units of its own slow mean deviation; deviations are cut before
they are learnt from (Huber, "Robust estimation of a location parameter", 1964), so that one strange
pane hardly moves what is normal. The stranger of the two counts, and as there are two chances, its
share counts twice.

A sensor that stays unusual for `settle` panes has a new normal: its slow means begin anew, and for
16 panes nothing is said. So long does a level shift stay strange, however great it is.
"""

import numpy as np

from contract.columns import Floats, Ints
from contract.table import Table, block, fields_of
from ml.online import cadence, calibration, tail
from ml.online.calibration import Calibration

_SEEN, _BEFORE, _SHORT, _STEPS, _UNUSUAL, _SETTLED = range(6)
_CADENCE = slice(6, 6 + len(cadence.FIELDS))
_LEVEL = slice(_CADENCE.stop, _CADENCE.stop + 2 + len(tail.FIELDS))
_NOISE = slice(_LEVEL.stop, _LEVEL.stop + 2 + len(tail.FIELDS))
_CALIBRATION = slice(_NOISE.stop, _NOISE.stop + len(calibration.FIELDS))
_NUMBERS = (
    *("seen", "before", "short", "steps", "unusual", "settled"),
    *fields_of(cadence=cadence.FIELDS),
    *fields_of(level=("mean", "size", *tail.FIELDS), noise=("mean", "size", *tail.FIELDS)),
    *fields_of(calibration=calibration.FIELDS),
)
_AT_ONCE = 2_000
"""Sensors whose numbers stay in the processor's cache together."""
_LARGEST = 1e150
_SMALLEST = 1e-9
"""A deviation below this share of the level is none."""
_TINY = 1e-150
_TWICE = float(np.log10(2.0))
_UNUSUAL_FROM = 1.5
"""From this score on a pane is unusual enough to count."""
_NOTHING = 0.1
"""A deviation below this share of the usual one is as good as none."""
_QUIET, _QUIETEST = 0.1, 0.01
"""Steps below the first share of the usual ones tell more the smaller they are, down to the
second: a stuck sensor is stranger than any burst of noise."""
_CUT = 3.0
"""So many mean deviations are the most that is learnt from."""
_FEW, _UNCUT = 16, 30
"""So many deviations at the beginning tell nothing, and so many are learnt from as they are."""


class LevelNoise(Table):
    """For each sensor two short means, and what is normal for them.

    Args:
        level_window: over about how many panes the level is taken.
        noise_window: over about how many panes the size of steps is taken.
        memory: how many panes what is normal is learnt from.
        settle: after how many unusual panes in a row what is normal is learnt anew.
        grace_period: how many panes of a sensor are learnt from before any is scored.
        learn_for: after how many panes what is normal stays as it is; None: it is always learnt.
        tails: how deviations become shares.
        calibrations: how shares are corrected.

    One sensor, whose panes end every second:

    >>> detector = LevelNoise()
    >>> detector.grow(1)
    >>> for second in range(1, 500):
    ...     usual = np.array([20.0 + second % 7])
    ...     score = detector.score_then_learn(np.array([0]), np.array([1000 * second]), usual)
    >>> bool(score[0] < 2)  # more than one pane in 100 is like the last
    True
    >>> score = detector.score_then_learn(np.array([0]), np.array([500_000]), np.array([90.0]))
    >>> bool(score[0] > 4)  # not one in 10 000 is like this
    True
    """

    numbers: Floats = block(dict.fromkeys(_NUMBERS, 0.0))
    """(23, S) see `_NUMBERS`."""

    def __init__(
        self,
        *,
        level_window: int = 12,
        noise_window: int = 12,
        memory: int = 2000,
        settle: int = 128,
        grace_period: int = 128,
        learn_for: int | None = None,
        tails: tail.Tail | None = None,
        calibrations: Calibration | None = None,
    ) -> None:
        super().__init__()
        self.grace_period = grace_period
        self._level_rate, self._noise_rate = 1.0 / level_window, 1.0 / noise_window
        self._rate = 1.0 / memory
        self._settle = settle
        self._learn_for = learn_for
        self._tails, self._calibrations = (
            tails or tail.Tail(),
            calibrations or Calibration(),
        )

    def score_then_learn(self, row: Ints, end: Ints, value: Floats) -> Floats:
        """(P,) -log10 of the share of the sensor's normal panes that are as strange as each pane;
        0 in the grace period. At most one pane a sensor; `row` ascends, `end` is in ms.
        """
        value = np.minimum(np.maximum(value, -_LARGEST), _LARGEST)
        time = end.astype(np.float64)
        score = np.empty(len(row))
        for first in range(0, len(row), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            rows = row[part]
            if rows[-1] - rows[0] == len(rows) - 1:
                numbers = self.numbers[:, rows[0] : rows[-1] + 1]
                score[part] = self._step(numbers, time[part], value[part])
            else:
                numbers = self.numbers.take(rows, axis=1)
                score[part] = self._step(numbers, time[part], value[part])
                self.numbers[:, rows] = numbers
        return score

    def interval(self, row: Ints) -> Floats:
        """(P,) how often the panes of each sensor come, in ms; 0 before the second."""
        interval: Floats = self.numbers[_CADENCE.stop - 1, row]
        return interval

    def usual(self, row: Ints) -> Floats:
        """(P,) the slow mean of each sensor's level."""
        usual: Floats = self.numbers[_LEVEL.start, row]
        return usual

    def _step(self, numbers: Floats, end: Floats, value: Floats) -> Floats:
        seen, before, short, steps, unusual, settled = numbers[:6]
        gap = cadence.missing(numbers[_CADENCE], seen, end)
        if not seen.all():
            new = seen == 0
            before[new] = short[new] = value[new]
        change = value - short
        change *= self._level_rate
        short += change
        np.subtract(value, before, out=change)
        before[:] = value
        np.abs(change, out=change)
        change -= steps
        change *= self._noise_rate
        if gap.any():
            change *= gap == 0  # a step over missing panes is no usual one
        steps += change
        normal = numbers
        if self._learn_for is not None and (done := seen >= self._learn_for).any():
            normal = numbers.copy()
        least = np.abs(short)
        least *= _SMALLEST
        least += _TINY
        score = self._compare(normal[_LEVEL], settled, short, least)
        np.maximum(
            score, self._compare(normal[_NOISE], settled, steps, least, quiet=True), out=score
        )
        score -= _TWICE
        np.maximum(score, 0.0, out=score)
        score = self._calibrations.score_then_learn(normal[_CALIBRATION], score)
        seen += 1
        settled += 1
        if normal is not numbers:
            learnt = ~done
            numbers[_LEVEL.start :, learnt] = normal[_LEVEL.start :, learnt]
        unusual += 1
        unusual *= score >= _UNUSUAL_FROM
        if normal is not numbers:
            unusual *= learnt
        if (over := unusual >= self._settle).any():
            unusual[over] = settled[over] = 0
        score[seen <= self.grace_period] = 0.0
        return score

    def _compare(
        self, normal: Floats, settled: Floats, short: Floats, least: Floats, quiet: bool = False
    ) -> Floats:
        """Score a short mean, and learn from it what is normal; deviations below `least` are none,
        and where it tells of noise, `quiet` is strange too.
        """
        mean, size = normal[:2]
        if not settled.all():
            new = settled == 0
            mean[new] = short[new]
        off = short - mean
        away = np.abs(off)
        if quiet:
            low = np.flatnonzero(short < _QUIET * mean)
            usual, now = mean[low], short[low]
            away[low] *= _QUIET * usual / (now + _QUIETEST * usual)
        unit = np.maximum(size, least)
        value = away / unit
        value += _NOTHING
        np.log(value, out=value)
        unit *= _CUT
        if settled.min() < _UNCUT:
            np.copyto(unit, away, where=settled < _UNCUT)
        rate = np.maximum(1.0 / (settled + 1.0), self._rate)
        np.minimum(away, unit, out=away)
        cut = np.copysign(away, off)
        cut *= rate
        mean += cut
        away -= size
        away *= rate
        size += away
        if settled.min() >= _FEW:
            return self._tails.score_then_learn(normal[2:], value)
        score, known = np.zeros(len(short)), np.flatnonzero(settled >= _FEW)
        if len(known):
            state = normal[2:, known]
            score[known] = self._tails.score_then_learn(state, value[known])
            normal[2:, known] = state
        return score
