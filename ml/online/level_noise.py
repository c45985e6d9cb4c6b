"""Detects panes with an unusual level or unusual noise, with a few numbers of state per sensor.

Two quantities are tracked: a short mean of the values, and a short mean of the size of their steps.
Each is compared with its own slow mean, in units of its own slow mean deviation. Deviations are
clipped before they are learned from (Huber, "Robust estimation of a location parameter", 1964), so
that one outlier hardly changes what is normal. The higher of the two scores counts; because two
quantities are tested, its share is doubled.

A sensor that stays unusual for `settle` panes has a new normal: its slow means are reset, and it
scores 0 for 16 panes. A level shift of any size is therefore unusual for about `settle` panes. The
former normal is remembered: when a value is near it again and not near the present one, the two
change places at once, so that neither is unusual.

A sensor that moves in steps of one size, such as a contact or a sensor of whole degrees, cannot be
unusual by less than such a step. The smallest step is known after a few.
"""

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.table import Table, block, fields_of
from ml.online import cadence, calibration, tail
from ml.online.calibration import Calibration

_SEEN, _BEFORE, _SHORT, _STEPS, _UNUSUAL, _SETTLED = range(6)
_CADENCE = slice(6, 6 + len(cadence.FIELDS))
_LEVEL = slice(_CADENCE.stop, _CADENCE.stop + 2 + len(tail.FIELDS))
_NOISE = slice(_LEVEL.stop, _LEVEL.stop + 2 + len(tail.FIELDS))
_CALIBRATION = slice(_NOISE.stop, _NOISE.stop + len(calibration.FIELDS))
_LEARNT = slice(_LEVEL.start, _NOISE.stop)
"""What is normal."""
_QUANTUM, _MOVES = range(_CALIBRATION.stop, _CALIBRATION.stop + 2)
_NORMAL = (_LEVEL.start, _LEVEL.start + 1, _NOISE.start, _NOISE.start + 1, 5)
_FORMER = slice(_MOVES + 1, _MOVES + 1 + len(_NORMAL))
"""A copy of `_NORMAL` before the last reset; its last field is 0 if there was none."""
_NUMBERS = (
    *("seen", "before", "short", "steps", "unusual", "settled"),
    *fields_of(cadence=cadence.FIELDS),
    *fields_of(level=("mean", "size", *tail.FIELDS), noise=("mean", "size", *tail.FIELDS)),
    *fields_of(calibration=calibration.FIELDS),
    *("quantum", "moves"),
    *fields_of(former=("mean", "size", "noise", "noise_size", "settled")),
)
_BY_LEVEL, _BY_NOISE, _BY_QUIET = range(3)
_AT_ONCE = 2_000
"""Number of sensors per chunk, so that their numbers fit in the processor's cache."""
_LARGEST = 1e150
_SMALLEST = 1e-9
"""A deviation below this share of the level counts as zero."""
_TINY = 1e-150
_TWICE = float(np.log10(2.0))
_UNUSUAL_FROM = 1.5
"""Lowest score at which a pane counts towards `settle`."""
_QUIET, _QUIETEST = 0.1, 0.01
"""Steps below the first share of the usual ones score higher the smaller they are, down to the
second share: a stuck sensor is more unusual than any burst of noise."""
_CUT = 3.0
"""Deviations are clipped at this multiple of the mean deviation before they are learned from."""
_FEW, _UNCUT = 16, 30
"""Number of first deviations that are not scored, and of those that are not clipped."""
_MOVED = 4.0
"""Number of steps after which the smallest one is known."""
_LARGER = 1.01
"""The smallest step grows by this factor with each larger one, in case it was an exception."""
_RECOVERED = 5
"""Number of consecutive normal values that end an episode at once."""
CLEAR = 6.0
"""A level with this score is what is unusual, even if its step made the noise score higher."""
_STILL = 0.02
"""The forgetting rate of a pane without a step, as a share: it says little about how the sensor
moves."""
_NOISE_QUANTA = 0.25
"""Noise is unusual from this share of the smallest step per pane."""
_NEAR, _OF_GAP = 4.0, 0.02
"""A value is near a normal within this multiple of its usual deviation and of its usual step, and
within this share of the distance between both normals."""


class LevelNoise(Table):
    """Two short means per sensor, and what is normal for each.

    Args:
        level_window: approximate number of panes that the level is averaged over.
        noise_window: approximate number of panes that the step size is averaged over.
        memory: number of panes that what is normal is learned from.
        settle: number of consecutive unusual panes after which what is normal is learned again.
        grace_period: number of panes of a sensor that are learned from before the first one is
            scored.
        learn_for: number of panes after which what is normal is frozen; None: learn forever.
        tails: converts deviations to shares.
        calibrations: corrects the shares.

    One sensor with a pane every second:

    >>> detector = LevelNoise()
    >>> detector.grow(1)
    >>> for second in range(1, 500):
    ...     usual = np.array([20.0 + second % 7])
    ...     score = detector.score_then_learn(np.array([0]), np.array([1000 * second]), usual)
    >>> bool(score[0] < 2)  # more than 1 pane in 100 looks like the last one
    True
    >>> score = detector.score_then_learn(np.array([0]), np.array([500_000]), np.array([90.0]))
    >>> bool(score[0] > 4)  # fewer than 1 pane in 10 000 look like this
    True
    """

    view: NDArray[np.int8]
    """(P,) what was most unusual of each pane of the last call, an index into
    `rules.detector.VIEWS`."""
    numbers: Floats = block(dict.fromkeys(_NUMBERS, 0.0) | {"quantum": np.inf})
    """(30, S) see `_NUMBERS`."""

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

    def score_then_learn(
        self, row: Ints, end: Ints, value: Floats, held: NDArray[np.bool_] | None = None
    ) -> Floats:
        """(P,) -log10 of the share of the sensor's normal panes that are as unusual as each pane; 0
        in the grace period. Where `held` (P,), what is normal is not learned from the pane.

        Takes at most one pane per sensor. `row` is ascending, `end` is in ms.
        """
        value = np.minimum(np.maximum(value, -_LARGEST), _LARGEST)
        time = end.astype(np.float64)
        score = np.empty(len(row))
        self.view = np.empty(len(row), np.int8)
        for first in range(0, len(row), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            rows = row[part]
            still = None if held is None or not held[part].any() else held[part]
            if rows[-1] - rows[0] == len(rows) - 1:
                numbers = self.numbers[:, rows[0] : rows[-1] + 1]
                score[part], self.view[part] = self._step(numbers, time[part], value[part], still)
            else:
                numbers = self.numbers.take(rows, axis=1)
                score[part], self.view[part] = self._step(numbers, time[part], value[part], still)
                self.numbers[:, rows] = numbers
        return score

    def interval(self, row: Ints) -> Floats:
        """(P,) the usual interval between the panes of each sensor, in ms; 0 before the second."""
        interval: Floats = self.numbers[_CADENCE.stop - 1, row]
        return interval

    def seen(self, row: Ints) -> Floats:
        """(P,) the number of earlier panes of each sensor."""
        seen: Floats = self.numbers[_SEEN, row]
        return seen

    def moves(self, row: Ints) -> Floats:
        """(P,) the number of panes that differed from the one before."""
        moves: Floats = self.numbers[_MOVES, row]
        return moves

    def compared(self, row: Ints, view: NDArray[np.int8]) -> Floats:
        """(3, P) what the last pane of each sensor was scored by in that view: the short mean of
        its values or of its steps, what is normal for it, and the usual deviation from that.
        """
        of_level = view == _BY_LEVEL
        numbers = self.numbers
        return np.stack(
            (
                np.where(of_level, numbers[_SHORT, row], numbers[_STEPS, row]),
                np.where(of_level, numbers[_LEVEL.start, row], numbers[_NOISE.start, row]),
                np.where(of_level, numbers[_LEVEL.start + 1, row], numbers[_NOISE.start + 1, row]),
            )
        )

    def accept(self, row: Ints) -> Floats:
        """Take what the sensors do now as their normal, and return their (P,) values."""
        numbers = self.numbers[:, row]
        _reset(numbers, np.arange(len(row)))
        self.numbers[:, row] = numbers
        value: Floats = numbers[_SHORT]
        return value

    def usual(self, row: Ints) -> Floats:
        """(P,) the slow mean of each sensor's level."""
        usual: Floats = self.numbers[_LEVEL.start, row]
        return usual

    def _step(
        self, numbers: Floats, end: Floats, value: Floats, held: NDArray[np.bool_] | None
    ) -> tuple[Floats, NDArray[np.int8]]:
        seen, before, short, steps, unusual, settled = numbers[:6]
        gap = cadence.missing(numbers[_CADENCE], seen, end)
        if not seen.all():
            new = seen == 0
            before[new] = short[new] = value[new]
        if (known := numbers[_FORMER.stop - 1] > 0).any():
            gap[_return(numbers, np.flatnonzero(known), value)] = 1.0
        if held is not None:
            _recover(numbers, np.flatnonzero(held), value)
        quantum, pace = self._move(numbers, value, gap)
        normal = numbers
        if self._learn_for is not None and (done := seen >= self._learn_for).any():
            normal = numbers.copy()
        learnt_before = None if held is None else normal[_LEARNT, held]
        least = np.abs(short)
        least *= _SMALLEST
        least += _TINY
        np.maximum(least, quantum, out=least)
        moves = np.where(steps < _QUIET * normal[_NOISE.start], _BY_QUIET, _BY_NOISE)
        score = self._compare(normal[_LEVEL], settled, short, least, pace)
        least -= (1.0 - _NOISE_QUANTA) * quantum
        of_noise = self._compare(normal[_NOISE], settled, steps, least, pace, quiet=True)
        view = np.where(np.minimum(of_noise, CLEAR) > score, moves, _BY_LEVEL).astype(np.int8)
        np.maximum(score, of_noise, out=score)
        score -= _TWICE
        np.maximum(score, 0.0, out=score)
        score = self._calibrations.score_then_learn(normal[_CALIBRATION], score)
        seen += 1
        settled += 1
        if held is not None:
            normal[_LEARNT, held] = learnt_before
            settled[held] -= 1
        if normal is not numbers:
            learnt = ~done
            numbers[_LEVEL.start :, learnt] = normal[_LEVEL.start :, learnt]
        unusual += 1
        if held is None:
            unusual *= score >= _UNUSUAL_FROM
        else:
            unusual -= held
            unusual *= held | (score >= _UNUSUAL_FROM)
        if normal is not numbers:
            unusual *= learnt
        if (over := unusual >= self._settle).any():
            _reset(numbers, np.flatnonzero(over))
        score[seen <= self.grace_period] = 0.0
        return score, view

    def _move(self, numbers: Floats, value: Floats, gap: Floats) -> tuple[Floats, Floats | None]:
        """Move the short means. Returns (S,) the smallest step of each sensor, 0 if it is not
        known, and (S,) how much the pane teaches; None if every pane teaches all.
        """
        _, before, short, steps = numbers[:4]
        change = value - short
        change *= self._level_rate
        short += change
        np.subtract(value, before, out=change)
        before[:] = value
        np.abs(change, out=change)
        quantum, moves = numbers[_QUANTUM], numbers[_MOVES]
        known = np.where(moves >= _MOVED, quantum, 0.0)
        moved, pace = change > 0, None
        moves += moved
        if moved.all():
            quantum *= _LARGER
            np.minimum(quantum, change, out=quantum)
        else:
            pace = np.where(moved | (numbers[_SETTLED] < _UNCUT), 1.0, _STILL)
            quantum *= np.where(moved, _LARGER, 1.0)
            np.minimum(quantum, change, out=quantum, where=moved)
        change -= steps
        change *= self._noise_rate
        if gap.any():
            change *= gap == 0  # a step across missing panes is not representative
        steps += change
        return known, pace

    def _compare(  # noqa: PLR0917 - columns of the panes
        self,
        normal: Floats,
        settled: Floats,
        short: Floats,
        least: Floats,
        pace: Floats | None,
        quiet: bool = False,
    ) -> Floats:
        """Score a short mean, then learn from it. Deviations below `least` count as zero. With
        `quiet`, for the noise, a very low mean is unusual too.
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
        np.maximum(value, 1.0, out=value)  # usual deviations are alike
        np.log(value, out=value)
        unit *= _CUT
        if settled.min() < _UNCUT:
            np.copyto(unit, away, where=settled < _UNCUT)
        rate = np.maximum(1.0 / (settled + 1.0), self._rate)
        np.minimum(away, unit, out=away)
        cut = np.copysign(away, off)
        cut *= rate
        mean += cut
        if pace is not None:
            rate *= pace
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


def _reset(numbers: Floats, at: NDArray[np.intp]) -> None:
    """Learn again what is normal for the sensors `at`, and remember what was."""
    for former, normal in zip(range(_FORMER.start, _FORMER.stop), _NORMAL, strict=True):
        numbers[former, at] = numbers[normal, at]
    numbers[_UNUSUAL, at] = numbers[_SETTLED, at] = 0


def _recover(numbers: Floats, at: NDArray[np.intp], value: Floats) -> None:
    """End what short means still say of an episode for those sensors `at` whose last values and
    steps are normal. Meanwhile, `unusual` counts these.
    """
    now, value = numbers[:, at], value[at]
    mean, size, noise, *_ = (now[index] for index in _NORMAL)
    near = np.abs(value - mean) <= _NEAR * (size + noise) + _SMALLEST * np.abs(mean)
    near &= np.abs(value - now[_BEFORE]) <= _NEAR * noise + _SMALLEST * np.abs(mean)
    near &= now[_STEPS] >= _QUIET * noise
    count = np.where(near, now[_UNUSUAL] + 1, 0.0)
    over = count >= _RECOVERED
    numbers[_UNUSUAL, at] = np.where(over, 0.0, count)
    numbers[_SHORT, at[over]] = mean[over]
    numbers[_STEPS, at[over]] = noise[over]


def _return(numbers: Floats, at: NDArray[np.intp], value: Floats) -> NDArray[np.intp]:
    """Exchange the present and the former normal of those sensors `at` whose value is near the
    former one and not near the present one, and return them. The short mean and the step start
    again there.
    """
    now, value = numbers[:, at], value[at]
    mean, size, noise, _, settled = (now[index] for index in _NORMAL)
    former = now[_FORMER]
    apart = _OF_GAP * np.abs(mean - former[0])
    near = np.abs(value - mean) <= _NEAR * (size + noise) + apart
    near_former = np.abs(value - former[0]) <= _NEAR * (former[1] + former[2]) + apart
    back = np.flatnonzero(near_former & ~near & (settled > 0))
    if not len(back):
        return back
    rows = at[back]
    for index, old in zip(_NORMAL, range(_FORMER.start, _FORMER.stop), strict=True):
        numbers[index, rows], numbers[old, rows] = now[old, back], now[index, back]
    numbers[_SHORT, rows], numbers[_BEFORE, rows] = former[0, back], value[back]
    numbers[_STEPS, rows] = former[2, back]
    numbers[_UNUSUAL, rows] = 0
    return rows
