"""Finds what a sensor has not done before: no stretch of its past looks like the last one.

Three things are asked at once. Do the last panes look like any others? Do the last hours, in means
of a quarter of an hour? And do these look like those at the same time of an earlier day? A
season needs no model of its own: where there is one, its length is a lag that fits.

Each question has its own distances, and its own record of what is usual. The answers are shares of
normal panes; where there are three chances, the least share counts three times. A mean of many
panes is one chance in so many panes, and its answer holds until the next.

A level shift is strange until it looks like itself: after `16 * window` panes at most, however
great it is, and after five to eight for most. After missing panes what came before them counts for
as much less as time has passed; missing means are taken to be those of the day before.

A stuck sensor looks like its past, so this detector is no use against it; the light one is.
"""

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.table import Table, block, fields_of
from ml.online import cadence, calibration, tail
from ml.online.calibration import Calibration
from ml.online.lags import LARGEST, Lags

_DAY_MS = 86_400_000
_MEANS_MS = np.array([15, 30, 60, 120, 180, 240, 360, 720, 1440], np.float64) * 60_000.0
"""Over so much time values are averaged: the shortest that is no shorter than a sensor's usual
interval, so that there are whole numbers of them in a day."""
_CHOSEN_AFTER = 16
"""So many panes tell the usual interval."""
_DAYS = 10
_THRICE = float(np.log10(3.0))
_CUT, _UNCUT = 10.0, 30
"""So many usual steps are the most that is learnt from, after the first panes."""
_GREATEST, _FINEST, _SMALLEST = 1e3, 1e-3, 1e-9
"""Differences above so many usual steps of a sensor are all the same, so that they are forgotten in
time; those below so many, or below that share of its value, are none."""

_SEEN, _VALUE, _STEP, _LENGTH, _BUCKET, _SUM, _COUNT, _HELD = range(8)
"""`_LENGTH`, `_BUCKET`, `_SUM`, `_COUNT`: of the mean that is being taken. `_HELD`: the answer of
the last one."""
_CADENCE = slice(8, 8 + len(cadence.FIELDS))
_USUAL = (*tail.FIELDS, *fields_of(calibration=calibration.FIELDS))
_PANES = slice(_CADENCE.stop, _CADENCE.stop + len(_USUAL))
_HOURS = slice(_PANES.stop, _PANES.stop + len(_USUAL))
_TODAY = slice(_HOURS.stop, _HOURS.stop + len(_USUAL))
_NUMBERS = (
    *("seen", "value", "step", "length", "bucket", "sum", "count", "held"),
    *fields_of(cadence=cadence.FIELDS, panes=_USUAL, hours=_USUAL, today=_USUAL),
)


class SelfSimilarity(Table):
    """For each sensor the last `memory` panes and the last `memory` means.

    Args:
        window: how many panes a stretch is long, about: the weight of a pane falls by 1/window
            with each that follows.
        mean_window: how many means.
        memory: how many stretches, of panes and of means, are compared with; a multiple of 16.
        grace_period: how many panes of a sensor are learnt from before any is scored.
        learn_for: after how many panes what is normal stays as it is, and hours are not asked
            about any more; None: it is always learnt. Not more than `memory`.
        tails: how distances become shares.
        calibrations: how shares are corrected.
    """

    numbers: Floats = block(dict.fromkeys(_NUMBERS, 0.0))
    """(31, S) see `_NUMBERS`."""

    def __init__(
        self,
        *,
        window: int = 8,
        mean_window: int = 4,
        memory: int = 1024,
        grace_period: int = 128,
        learn_for: int | None = None,
        tails: tail.Tail | None = None,
        calibrations: Calibration | None = None,
    ) -> None:
        super().__init__()
        self.grace_period = grace_period
        self._learn_for = np.inf if learn_for is None else float(learn_for)
        self._tails, self._calibrations = (
            tails or tail.Tail(most=3.0),
            calibrations or Calibration(),
        )
        self.panes, self.means = Lags(window, memory), Lags(mean_window, memory)

    @property
    def tables(self) -> dict[str, Table]:
        """Everything that lives longer than a piece, by name."""
        return {
            "self_similarity": self,
            "self_similarity_panes": self.panes,
            "self_similarity_means": self.means,
        }

    def grow(self, rows: int) -> None:
        """Grow to `rows` sensors, new ones after those that are there."""
        super().grow(rows)
        self.panes.grow(rows)
        self.means.grow(rows)

    def score_then_learn(self, row: Ints, end: Ints, value: Floats) -> Floats:
        """(P,) -log10 of the share of the sensor's normal panes that are as strange as each pane;
        0 in the grace period. At most one pane a sensor; `row` ascends, `end` is in ms.
        """
        value = np.minimum(np.maximum(value, -LARGEST), LARGEST)
        time = end.astype(np.float64)
        numbers = self.numbers[:, row]
        seen = numbers[_SEEN].copy()
        missing = cadence.missing(numbers[_CADENCE], seen, time)
        none, most = self._sizes(numbers, value)
        neighbours, unlike = self.panes.add(row, value, missing, most)
        score = np.zeros(len(row))
        if (asked := neighbours > 0).all():
            near = self.panes.nearest(unlike, neighbours, self._learn_for)
            score = self._answer(numbers[_PANES], np.maximum(near, none))
        elif asked.any():
            near = self.panes.nearest(unlike[asked], neighbours[asked], self._learn_for)
            state = numbers[_PANES, asked]
            score[asked] = self._answer(state, np.maximum(near, none[asked]))
            numbers[_PANES, asked] = state
        self._take_means(numbers, row, time, value, none)
        np.maximum(score, numbers[_HELD], out=score)
        score -= np.where(numbers[_HOURS.start] > self._tails.grace_period, _THRICE, 0.0)
        np.maximum(score, 0.0, out=score)
        score[seen < self.grace_period] = 0.0
        numbers[_SEEN] += 1
        if (done := seen >= self._learn_for).any():
            numbers[_PANES.start :, done] = self.numbers[_PANES.start :, row[done]]
            numbers[_HELD, done] = 0.0
        self.numbers[:, row] = numbers
        return score

    def ready(self, row: Ints) -> NDArray[np.bool_]:
        """(P,) whether the next pane of each sensor is out of the grace period."""
        return np.asarray(self.numbers[_SEEN, row] >= self.grace_period)

    def keep(self, rows: Ints | NDArray[np.intp] | NDArray[np.bool_]) -> None:
        """Forget all sensors but these, which are numbered anew, in this order."""
        super().keep(rows)
        self.panes.keep(rows)
        self.means.keep(rows)

    def _answer(self, state: Floats, distance: Floats) -> Floats:
        """The shares that such distances have, -log10; learnt from."""
        tails, calibrations = state[: len(tail.FIELDS)], state[len(tail.FIELDS) :]
        ready = tails[0] >= self._tails.grace_period
        score = self._tails.score_then_learn(tails, np.log(distance))
        if ready.all():
            return self._calibrations.score_then_learn(calibrations, score)
        if ready.any():
            known = calibrations[:, ready]
            score[ready] = self._calibrations.score_then_learn(known, score[ready])
            calibrations[:, ready] = known
        return score

    def _take_means(
        self, numbers: Floats, row: Ints, end: Floats, value: Floats, none: Floats
    ) -> None:
        """Add the panes to their means, and ask about each mean that is complete."""
        length, bucket = numbers[_LENGTH], numbers[_BUCKET]
        if (starts := numbers[_SEEN] == _CHOSEN_AFTER).any():
            interval = numbers[_CADENCE][1, starts]
            choice = np.searchsorted(_MEANS_MS, 0.9 * interval).clip(max=len(_MEANS_MS) - 1)
            length[starts] = _MEANS_MS[choice]
            bucket[starts] = (end[starts] - 1) // length[starts]
        on = length > 0
        now = np.floor_divide(end - 1, length, out=bucket.copy(), where=on)
        if len(index := np.flatnonzero(on & (now != bucket))):
            numbers[_HELD, index] = self._ask(numbers, index, row[index], none)
            for one in index[now[index] - bucket[index] > 1].tolist():
                missing = int(now[one] - bucket[one]) - 1
                self.means.repeat(int(row[one]), missing, int(_DAY_MS / length[one]))
            bucket[index] = now[index]
            numbers[_SUM, index] = numbers[_COUNT, index] = 0.0
        numbers[_SUM] += np.where(on, value, 0.0)
        numbers[_COUNT] += on

    def _ask(self, numbers: Floats, index: Ints, row: Ints, none: Floats) -> Floats:
        """The answers of complete means, as chances in panes."""
        length = numbers[_LENGTH, index]
        mean = numbers[_SUM, index] / numbers[_COUNT, index]
        neighbours, unlike = self.means.add(row, mean)
        answer = np.zeros(len(row))
        if not (known := neighbours > 0).any():
            return answer
        days = (_DAY_MS / length[known]).astype(np.int64)[:, None] * np.arange(1, _DAYS + 1)
        lag = (days[:, :, None] + np.arange(-1, 2)).reshape(len(days), -1)
        unlike, none = unlike[known], none[index[known]]
        hours = self.means.nearest(unlike, neighbours[known])
        today, has_day = self.means.nearest_of(lag, unlike, neighbours[known])
        of_hours = index[known]
        of_today = of_hours[has_day]
        state = np.concatenate((numbers[_HOURS, of_hours], numbers[_TODAY, of_today]), axis=1)
        distance = np.concatenate((hours, today[has_day]))
        both = self._answer(state, np.maximum(distance, np.concatenate((none, none[has_day]))))
        numbers[_HOURS, of_hours] = state[:, : len(of_hours)]
        numbers[_TODAY, of_today] = state[:, len(of_hours) :]
        least = both[: len(of_hours)].copy()
        least[has_day] = np.maximum(least[has_day], both[len(of_hours) :])
        answer[known] = least
        panes = length / np.maximum(numbers[_CADENCE][1, index], 1.0)
        return np.where(answer > 0, answer + np.log10(np.maximum(panes, 1.0)), 0.0)

    def _sizes(self, numbers: Floats, value: Floats) -> tuple[Floats, Floats]:
        """(P,) the difference that is none, and the squared one above which all are the same;
        `value` is learnt from.
        """
        seen, before, usual = numbers[_SEEN], numbers[_VALUE], numbers[_STEP]
        none = np.maximum(_FINEST * usual, _SMALLEST * np.abs(before))
        most = np.where(usual > 0, (_GREATEST * usual) ** 2, np.inf)
        step = np.where(seen > 0, np.abs(value - before), 0.0)
        cut = np.where((seen > _UNCUT) & (usual > 0), _CUT * usual, np.inf)
        rate = 1.0 / np.minimum(np.maximum(seen, 1.0), self.panes.memory)
        usual += rate * (np.minimum(step, cut) - usual)
        before[:] = value
        return np.maximum(none, 1.0 / LARGEST), most
