"""Detects behaviour that is new for a sensor: no stretch of its past looks like the last one.

Three comparisons are made: the last panes with all earlier panes; the last hours, in means of 15
minutes, with all earlier hours; and the last hours with the same time of earlier days. Seasonality
needs no model: its period is one of the lags.

Each comparison has its own distances and its own history of usual distances. The results are shares
of normal panes. Because three comparisons are made, the smallest share is tripled. A mean covers
many panes, so its share is divided by that number, and its result holds until the next mean.

A level shift is unusual until enough of the new level has been seen: for at most `16 * window`
panes, whatever its size, and usually for five to eight. After missing panes, the weight of earlier
panes decays with the time that has passed. Missing means are filled with those of the day before.

A stuck sensor looks like its past, so this detector does not detect it; `level_noise` does.
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
"""Averaging periods; each divides a day. A sensor gets the shortest that is not shorter than its
usual interval."""
_CHOSEN_AFTER = 16
"""Number of panes after which the usual interval is known."""
_DAYS = 10
_THRICE = float(np.log10(3.0))
_CUT, _UNCUT = 10.0, 30
"""After the first panes, steps are clipped at this multiple of the usual step."""
_GREATEST, _FINEST, _SMALLEST = 1e3, 1e-3, 1e-9
"""Differences above the first multiple of a sensor's usual step are capped, so that they decay in
reasonable time. Differences below the second multiple, or below the third as a share of the value,
count as zero."""

_SEEN, _VALUE, _STEP, _LENGTH, _BUCKET, _SUM, _COUNT, _HELD = range(8)
"""`_LENGTH`, `_BUCKET`, `_SUM`, `_COUNT`: the mean in progress. `_HELD`: the result of the last
complete mean."""
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
    """The last `memory` panes and the last `memory` means of each sensor.

    Args:
        window: approximate length of a stretch in panes: the weight of a pane falls by 1/window
            with each following pane.
        mean_window: the same for stretches of means.
        memory: number of earlier stretches, of panes and of means, to compare with; a multiple of
            16.
        grace_period: number of panes of a sensor that are learned from before the first one is
            scored.
        learn_for: number of panes after which what is normal is frozen and means are no longer
            compared; None: learn forever. At most `memory`.
        tails: converts distances to shares.
        calibrations: corrects the shares.
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
        """All tables that are kept between pieces, by name."""
        return {
            "self_similarity": self,
            "self_similarity_panes": self.panes,
            "self_similarity_means": self.means,
        }

    def grow(self, rows: int) -> None:
        """Grow to `rows` sensors; new sensors are appended."""
        super().grow(rows)
        self.panes.grow(rows)
        self.means.grow(rows)

    def score_then_learn(self, row: Ints, end: Ints, value: Floats) -> Floats:
        """(P,) -log10 of the share of the sensor's normal panes that are as unusual as each pane; 0
        in the grace period.

        Takes at most one pane per sensor. `row` is ascending, `end` is in ms.
        """
        value = np.minimum(np.maximum(value, -LARGEST), LARGEST)
        time = end.astype(np.float64)
        numbers = self.numbers[:, row]
        seen = numbers[_SEEN].copy()
        missing = cadence.missing(numbers[_CADENCE], seen, time)
        none, most = self._sizes(numbers, value)
        neighbours, unlike = self.panes.add(row, value, missing, most)
        score = np.zeros(len(row))
        if (ready := neighbours > 0).all():
            near = self.panes.nearest(unlike, neighbours, self._learn_for)
            score = self._score(numbers[_PANES], np.maximum(near, none))
        elif ready.any():
            near = self.panes.nearest(unlike[ready], neighbours[ready], self._learn_for)
            state = numbers[_PANES, ready]
            score[ready] = self._score(state, np.maximum(near, none[ready]))
            numbers[_PANES, ready] = state
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
        """(P,) whether the next pane of each sensor is past the grace period."""
        return np.asarray(self.numbers[_SEEN, row] >= self.grace_period)

    def keep(self, rows: Ints | NDArray[np.intp] | NDArray[np.bool_]) -> None:
        """Drop all other sensors. The kept ones are renumbered in the given order."""
        super().keep(rows)
        self.panes.keep(rows)
        self.means.keep(rows)

    def _score(self, state: Floats, distance: Floats) -> Floats:
        """-log10 of the share of each distance; then learn from them."""
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
        """Add the panes to their means, and compare each mean that is complete."""
        length, bucket = numbers[_LENGTH], numbers[_BUCKET]
        if (starts := numbers[_SEEN] == _CHOSEN_AFTER).any():
            interval = numbers[_CADENCE][1, starts]
            choice = np.searchsorted(_MEANS_MS, 0.9 * interval).clip(max=len(_MEANS_MS) - 1)
            length[starts] = _MEANS_MS[choice]
            bucket[starts] = (end[starts] - 1) // length[starts]
        on = length > 0
        now = np.floor_divide(end - 1, length, out=bucket.copy(), where=on)
        if len(index := np.flatnonzero(on & (now != bucket))):
            numbers[_HELD, index] = self._compare_means(numbers, index, row[index], none)
            for place in index[now[index] - bucket[index] > 1].tolist():
                missing = int(now[place] - bucket[place]) - 1
                self.means.repeat(int(row[place]), missing, int(_DAY_MS / length[place]))
            bucket[index] = now[index]
            numbers[_SUM, index] = numbers[_COUNT, index] = 0.0
        numbers[_SUM] += np.where(on, value, 0.0)
        numbers[_COUNT] += on

    def _compare_means(self, numbers: Floats, index: Ints, row: Ints, none: Floats) -> Floats:
        """The scores of complete means, corrected for the number of panes in a mean."""
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
        both = self._score(state, np.maximum(distance, np.concatenate((none, none[has_day]))))
        numbers[_HOURS, of_hours] = state[:, : len(of_hours)]
        numbers[_TODAY, of_today] = state[:, len(of_hours) :]
        least = both[: len(of_hours)].copy()
        least[has_day] = np.maximum(least[has_day], both[len(of_hours) :])
        answer[known] = least
        panes = length / np.maximum(numbers[_CADENCE][1, index], 1.0)
        return np.where(answer > 0, answer + np.log10(np.maximum(panes, 1.0)), 0.0)

    def _sizes(self, numbers: Floats, value: Floats) -> tuple[Floats, Floats]:
        """(P,) the difference below which values count as equal, and the squared difference at
        which it is capped. Then learn from `value`.
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
