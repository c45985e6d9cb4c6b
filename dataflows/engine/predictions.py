"""Predicts each sensor by its moving average or its model, and compares predictions with readings.

At the end of each period of event time, the prediction for `HORIZON_MS` later is the sensor's mean
over the period, extrapolated by the slope of its model if it has one. It is compared with w10 of
the first pane that reaches that time, within a minute. A sensor is off if the error passes the
limits of the old system and is more than twice the standard deviation of w10, so that noise does
not count. Only changes between "as predicted" and "off" are reported.
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
from rules.panes import Windows

TOLERANCE_MS = 60_000
"""How long after its target time a prediction can be compared."""
_OFF_ABS = 0.5
_OFF_REL = 0.2
_FAR_REL = 0.5
_NOISE = 2.0 * (1.0 + 1e-9)
"""An error of exactly two deviations is noise, whichever way its last bit was rounded."""
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
    """The predictions of one partition's sensors, and which sensors are off."""

    since: Ints = column(np.int64, NEVER)
    """(S,) end of the pane since which a sensor is off; NEVER if it is not."""

    def __init__(self, period_ms: int) -> None:
        super().__init__()
        self._period = period_ms
        self.rollups = RollupState(period_ms, flush=False)
        self.open = OpenPredictions(period_ms)

    def step(
        self, closed: PaneResult, windows: Windows, arrival: int, sensor_id: Ints, trends: Trends
    ) -> tuple[RollupRows, list[Deviation]]:
        """The periods that ended, each with its prediction as the mean; and the sensors that
        started or stopped being off. `sensor_id` (S,) is the sensor of each row.
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
        target = made.start + self._period + HORIZON_MS
        deviations = self._compare(closed, windows, made, target)
        order = np.lexsort((target, made.row))
        self.open.add(made.row[order], target[order], made.mean[order])
        return made, deviations

    def _compare(
        self, closed: PaneResult, windows: Windows, made: RollupRows, made_for: Ints
    ) -> list[Deviation]:
        panes = closed.panes
        target = (panes.end - HORIZON_MS) // self._period * self._period + HORIZON_MS
        due = np.flatnonzero((target > windows.end_before) & (target > panes.end - TOLERANCE_MS))
        row, target = panes.row[due], target[due]
        known, value = self.open.of(row, target)
        if len(made.row) and len(due):  # predicted and due in the same piece
            of_row = {
                (r, t): v
                for r, t, v in zip(
                    made.row.tolist(), made_for.tolist(), made.mean.tolist(), strict=True
                )
            }
            for index, key in enumerate(zip(row.tolist(), target.tolist(), strict=True)):
                if key in of_row:
                    known[index], value[index] = True, of_row[key]
        due, row, target, value = due[known], row[known], target[known], value[known]
        seen, noise = windows.w10.mean[due], windows.w10.std[due]
        with np.errstate(over="ignore"):
            error = np.abs(seen - value)
            relative = error / np.maximum(np.abs(value), _NO_LESS)
        off = ((error >= _OFF_ABS) | (relative >= _OFF_REL)) & (error > _NOISE * noise)
        before = np.where(begins(row), self.since[row] != NEVER, np.roll(off, 1))
        deviations = []
        for index in np.flatnonzero(off != before).tolist():
            r, end = int(row[index]), int(panes.end[due[index]])
            since = end if off[index] else int(self.since[r])
            deviations.append(
                Deviation(
                    pane=int(due[index]),
                    begins=bool(off[index]),
                    far=bool(relative[index] >= _FAR_REL),
                    seen=float(seen[index]),
                    value=float(value[index]),
                    error=float(error[index]),
                    relative=float(relative[index]),
                    predicted_at=int(target[index]) - HORIZON_MS,
                    since=since,
                )
            )
            self.since[r] = end if off[index] else NEVER
        return deviations
