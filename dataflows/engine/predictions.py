"""Predicts each sensor by its moving average or its model, and compares predictions with readings.

At the end of each period of event time, the prediction for `HORIZON_MS` later is the sensor's mean
over the period, extrapolated by the slope of its model if it has one. It is compared with w10 of
the first pane that reaches that time, within a minute.

A sensor is off when the error is beyond its band: `_WIDTH` times the largest error of its past. The
largest error sinks in a straight line, to 0 in `_SINK_DAYS`, but not below `_USUAL` times the
sensor's usual large error, an expectile. So a sensor is never off by an error that it often has,
whatever its signal. The band is known after a day of at least `_KNOWN` errors. While a sensor is
off its largest error waits; then it rises to the error, at most fourfold. After a report, the next
is due no sooner than `_APART_MS`. Together, that keeps deviations within their half of the alarms
that are allowed.

A prediction that was made from abnormal panes is not compared, nor is any with an abnormal pane;
`dataflows.events.abnormal` says which those are. Only changes between "as predicted" and
"off" are reported.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Floats, Ints
from contract.predictions import HORIZON_MS, LARGEST
from contract.table import ROWS, Table, column
from dataflows.engine.panes import PaneResult
from dataflows.engine.rollups import RollupRows, RollupState
from dataflows.events.changes import Deviation
from dataflows.segments import begins
from rules.models import Trends
from rules.panes import Panes, Windows

TOLERANCE_MS = 60_000
"""How long after its target time a prediction can be compared."""
_WIDTH = 1.5
_SINK_DAYS = 20.0
_USUAL = 2.0
_KNOWN = 200
_DAY_MS = 86_400_000
_KNOWN_MS = _DAY_MS
_APART_MS = 2 * _DAY_MS
_GROWTH, _CUT = 4.0, 10.0
"""The largest error grows at most by the first factor with one error; the usual one learns from
errors of at most the second multiple of itself, once the band is known."""
_ENOUGH = 1_000_000
"""Errors are not counted beyond this."""
_SECONDS = 2**38
"""Above any time in seconds: row * this + time is one sortable number."""
_UP, _RATE = 0.95, 0.002
"""The expectile, and its forgetting rate once enough errors were seen."""
_NO_LESS = 1e-6
"""The smallest divisor of a relative error."""


class OpenPredictions(Table):
    """The predictions whose target time has not come: `slots` per sensor, by target."""

    newest: Ints = column(np.int64, NEVER)
    """(S,) the newest target, epoch milliseconds UTC."""
    age: NDArray[np.uint16] = column(np.uint16, 0)
    """(slots, S) periods between a target and the newest one; `slots` if there is none."""
    value: Floats = column(np.float64, 0.0)
    """(slots, S)"""

    def __init__(self, period_ms: int) -> None:
        self._period = period_ms
        self._slots = HORIZON_MS // period_ms + 2
        super().__init__(age=(self._slots, ROWS), value=(self._slots, ROWS))

    def of(self, row: Ints, target: Ints) -> tuple[NDArray[np.bool_], Floats]:
        """(N,) whether each target has a prediction, and (N,) the predicted values."""
        slot = target // self._period % self._slots
        age = self.age[slot, row].astype(np.int64)
        known = (age < self._slots) & (self.newest[row] - age * self._period == target)
        return known, self.value[slot, row]

    def add(self, row: Ints, target: Ints, value: Floats) -> None:
        """Add predictions, sorted by row and target. Each target is after the existing ones."""
        if not len(row):
            return
        last = np.append(begins(row)[1:], True)
        rows, newest = row[last], target[last]
        passed = newest - np.maximum(self.newest[rows], newest - self._slots * self._period)
        age = self.age[:, rows] + passed // self._period
        age[:, self.newest[rows] == NEVER] = self._slots
        self.age[:, rows] = np.minimum(age, self._slots)
        self.newest[rows] = newest
        age = (self.newest[row] - target) // self._period
        fits = age < self._slots
        slot = target // self._period % self._slots
        self.age[slot[fits], row[fits]] = age[fits]
        self.value[slot[fits], row[fits]] = value[fits]


class PredictionState(Table):
    """The predictions of one partition's sensors, their errors, and which sensors are off."""

    since: Ints = column(np.int64, NEVER)
    """(S,) end of the pane since which a sensor is off; NEVER if it is not."""
    errors: NDArray[np.int32] = column(np.int32, 0)
    """(S,) number of errors."""
    first: Ints = column(np.int64, NEVER)
    """(S,) end of the pane of the first error."""
    usual: Floats = column(np.float64, 0.0)
    """(S,) expectile of the errors."""
    largest: Floats = column(np.float64, 0.0)
    """(S,) the largest error, as it was at `largest_at`."""
    largest_at: Ints = column(np.int64, NEVER)
    worst: Floats = column(np.float64, 0.0)
    """(S,) the largest error since the sensor is off."""
    told_at: Ints = column(np.int64, NEVER)
    """(S,) end of the pane of the last deviation."""
    abnormal_at: Ints = column(np.int64, NEVER)
    """(S,) end of the last abnormal pane."""

    def __init__(self, period_ms: int) -> None:
        super().__init__()
        self._period = period_ms
        self.rollups = RollupState(period_ms, flush=False)
        self.open = OpenPredictions(period_ms)

    def step(  # noqa: PLR0917 - one for each source
        self,
        closed: PaneResult,
        windows: Windows,
        arrival: int,
        sensor_id: Ints,
        trends: Trends,
        abnormal: NDArray[np.bool_],
        watched: NDArray[np.bool_],
    ) -> tuple[RollupRows, list[Deviation]]:
        """The periods that ended, each with its prediction as the mean; and the sensors that
        started or stopped being off. `sensor_id` (S,) is the sensor of each row, `abnormal` (P,)
        are panes that say nothing about predictions, `watched` (S,) the sensors whose deviations
        are reported.
        """
        sensors = len(sensor_id)
        self.grow(sensors)
        self.open.grow(sensors)
        made = self.rollups.step(closed, arrival, sensors)
        at = made.start + self._period
        _, slope, until = trends.of(sensor_id[made.row], at)
        if slope.any():
            middle = at - self._period / 2
            minutes = (np.minimum(at + HORIZON_MS, until) - middle) / 60_000
            value = (made.mean + slope * minutes).clip(-LARGEST, LARGEST)
            made = replace(made, mean=np.where(slope == 0.0, made.mean, value))
        fit = np.flatnonzero(~self._from_abnormal(closed.panes, made, abnormal))
        row, value = made.row[fit], made.mean[fit]
        target = made.start[fit] + self._period + HORIZON_MS
        deviations = self._compare(closed, windows, (row, target, value), abnormal, watched)
        order = np.lexsort((target, row))
        self.open.add(row[order], target[order], value[order])
        np.maximum.at(self.abnormal_at, closed.panes.row[abnormal], closed.panes.end[abnormal])
        return made, deviations

    def _from_abnormal(
        self, panes: Panes, made: RollupRows, abnormal: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """(B,) whether a period of predictions has an abnormal pane."""
        found = self.abnormal_at[made.row] > made.start
        row, end = panes.row[abnormal], panes.end[abnormal]
        if len(row):
            keys = row * _SECONDS + end // 1000
            until = made.row * _SECONDS + (made.start + self._period) // 1000
            last = np.searchsorted(keys, until, "right") - 1
            found |= (last >= 0) & (keys[last] > until - self._period // 1000)
        return np.asarray(found)

    def _compare(
        self,
        closed: PaneResult,
        windows: Windows,
        made: tuple[Ints, Ints, Floats],
        abnormal: NDArray[np.bool_],
        watched: NDArray[np.bool_],
    ) -> list[Deviation]:
        """Compare the predictions that are due; `made` are the row, target and value of new ones.

        One by one: they are few, and each depends on the sensor's errors before it.
        """
        panes = closed.panes
        target = (panes.end - HORIZON_MS) // self._period * self._period + HORIZON_MS
        due = np.flatnonzero(
            (target > windows.end_before) & (target > panes.end - TOLERANCE_MS) & ~abnormal
        )
        row, target = panes.row[due], target[due]
        known, value = self.open.of(row, target)
        if len(made[0]) and len(due):  # predicted and due in the same piece
            of_row = {(r, t): v for r, t, v in zip(*(c.tolist() for c in made), strict=True)}
            for index, key in enumerate(zip(row.tolist(), target.tolist(), strict=True)):
                if key in of_row:
                    known[index], value[index] = True, of_row[key]
        due, row, target, value = due[known], row[known], target[known], value[known]
        deviations: list[Deviation] = []
        if len(due):
            seen = windows.w10.mean[due]
            with np.errstate(over="ignore"):
                error = np.minimum(np.abs(seen - value), LARGEST)
            rank = np.arange(len(row)) - np.searchsorted(row, row)
            for turn in range(int(rank.max()) + 1):  # the n-th of every sensor at once
                on = np.flatnonzero(rank == turn)
                band, changes = self._learn(
                    row[on], panes.end[due[on]], error[on], watched[row[on]]
                )
                for index in changes.tolist():
                    one = int(on[index])
                    deviations.append(
                        self._deviation(
                            int(row[one]), int(due[one]), int(panes.end[due[one]]),
                            float(seen[one]), float(value[one]), float(band[index]),
                            int(target[one]),
                        )
                    )  # fmt: skip
        return deviations

    def _learn(
        self, row: Ints, end: Ints, error: Floats, watched: NDArray[np.bool_]
    ) -> tuple[Floats, NDArray[np.intp]]:
        """(N,) the band before each error of distinct sensors, and which sensors start or stop
        being off by it.
        """
        count, usual = self.errors[row], self.usual[row]
        new = count == 0
        self.first[row[new]] = end[new]
        days = (end - self.largest_at[row]) / _DAY_MS
        largest = np.where(new, 0.0, self.largest[row] * np.maximum(1.0 - days / _SINK_DAYS, 0.0))
        band = _WIDTH * np.maximum(largest, _USUAL * usual)
        known = (count >= _KNOWN) & (end - self.first[row] >= _KNOWN_MS)
        was = self.since[row] != NEVER
        off = watched & known & (error > band)
        off &= was | (end - self.told_at[row] >= _APART_MS)
        worst = np.where(off, np.maximum(np.where(was, self.worst[row], 0.0), error), error)
        worst = np.where(was & ~off, np.maximum(self.worst[row], error), worst)
        limit = np.where(known & (band > 0), _GROWTH * np.maximum(largest, usual), np.inf)
        risen = np.minimum(worst, limit)
        rises = ~off & (risen >= largest)
        self.largest[row[rises]], self.largest_at[row[rises]] = risen[rises], end[rises]
        self.worst[row] = np.where(off, worst, 0.0)
        learnt = np.where(known & (usual > 0), np.minimum(error, _CUT * usual), error)
        weight = np.where(learnt > usual, _UP, 1.0 - _UP)
        rate = np.maximum(1.0 / (count + 1.0), _RATE)
        self.usual[row] = np.where(new, error, usual + rate * weight * (learnt - usual))
        self.errors[row] = np.minimum(count + 1, _ENOUGH)
        return band, np.flatnonzero(off != was)

    def _deviation(  # noqa: PLR0917 - the fields of a change
        self, row: int, pane: int, end: int, seen: float, value: float, band: float, target: int
    ) -> Deviation:
        """Note that a sensor starts or stops being off."""
        begins = bool(self.since[row] == NEVER)
        since = end if begins else int(self.since[row])
        self.since[row] = end if begins else NEVER
        if begins:
            self.told_at[row] = end
        error = abs(seen - value)
        return Deviation(
            pane=pane, begins=begins, seen=seen, value=value, error=error,
            relative=error / max(abs(value), _NO_LESS), band=band,
            predicted_at=target - HORIZON_MS, since=since,
        )  # fmt: skip
