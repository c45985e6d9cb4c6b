"""Detects sensors and devices that stop sending data and resume, in the log's arrival time.

A sensor or device is silent after five times its usual interval without data, and at least 30 s.
The usual interval is the longest of the last four gaps between the seconds with data. It is known
after four gaps. The gap of a silence does not count.

A device is checked with every record and heartbeat of the partition. A sensor is checked only when
its device sends data without it, and its time restarts when the device returns. So a device that
stops sending is reported once, not once for each of its sensors.

Usually no sensor or device is silent, and a piece of the sequence is processed at once. The few
that may be silent are processed record by record.
"""

import numpy as np

from contract.columns import NEVER, Ints
from contract.table import ROWS, Table, column
from dataflows.engine.rows import ReadingRows
from dataflows.events.changes import NoDataChange
from dataflows.segments import begins, lengths

LEAST_MS = 30_000
FACTOR = 5
_GAPS = 4
_FOREVER = 2**62


class HeardTable(Table):
    """When each sensor or device last sent data, one row each."""

    heard_at: Ints = column(np.int64, NEVER)
    gaps: Ints = column(np.int64, 0, shape=(_GAPS, ROWS))
    """The last gaps in seconds, newest last; 0 if there were fewer."""
    since: Ints = column(np.int64, NEVER)
    """The arrival time since which it is silent; NEVER if it is not."""

    def due(self, since: Ints, rows: Ints | slice = slice(None)) -> Ints:
        """The time at which rows without data after `since` become silent; `_FOREVER` if the usual
        interval is unknown.
        """
        gaps = self.gaps[:, rows]
        limit = np.maximum(FACTOR * 1000 * gaps.max(axis=0, initial=0), LEAST_MS)
        return np.where(gaps[0] > 0, since + limit, _FOREVER)

    def enter_all(self, row: Ints, at: Ints) -> None:
        """Note data of rows, sorted by row and time. None of them is silent or becomes silent."""
        if not len(row):
            return
        new_row = begins(row)
        before = np.where(new_row, self.heard_at[row], np.roll(at, 1))
        gap = at // 1000 - before // 1000
        counts = (gap > 0) & (before != NEVER)
        g_row, gap = row[counts], gap[counts]
        last = np.r_[new_row[1:], True]
        self.heard_at[row[last]] = at[last]
        if not len(g_row):
            return
        starts = np.flatnonzero(begins(g_row))
        count = lengths(starts, len(g_row))
        rows = g_row[starts]
        # the old gaps of each row, oldest first, then its new ones: keep the last four
        place = np.arange(len(g_row)) + np.repeat(_GAPS * np.arange(1, len(rows) + 1), count)
        oldest = starts + _GAPS * np.arange(len(rows))
        slots = np.arange(_GAPS)[:, None]
        every = np.empty(len(g_row) + _GAPS * len(rows), np.int64)
        every[oldest + slots] = self.gaps[:, rows]
        every[place] = gap
        self.gaps[:, rows] = every[oldest + count + slots]

    def enter(self, row: int, at: int, *, counts: bool) -> None:
        """Note data of one row."""
        gap = at // 1000 - int(self.heard_at[row]) // 1000
        if counts and gap > 0 and self.heard_at[row] != NEVER:
            self.gaps[:, row] = np.r_[self.gaps[1:, row], gap]
        self.heard_at[row] = at


class HeardDevices(HeardTable):
    """When each device last sent data."""

    returned: Ints = column(np.int64, NEVER)
    """The arrival time at which the device last returned from a silence."""


class NoDataState:
    """The silent sensors and devices of one partition."""

    def __init__(self) -> None:
        self.sensors = HeardTable()
        self.devices = HeardDevices()

    def step(self, readings: ReadingRows, device_of: Ints, devices: int) -> list[NoDataChange]:
        """Process the next piece. `device_of` (S,) is each sensor's device before it, -1 if it had
        none.
        """
        self.sensors.grow(len(device_of))
        self.devices.grow(devices)
        returned = self.devices.returned.copy()
        changes: list[NoDataChange] = []
        before, returns = self._hear_devices(readings, changes)
        if len(readings.row) or returns:
            self._hear_sensors(readings, device_of, before, returned, returns, changes)
        device = device_of.copy()
        device[readings.row] = readings.device[readings.record]
        sensors = self.sensors
        due = sensors.due(np.maximum(sensors.heard_at, self.devices.returned[device]))
        silent = (sensors.since == NEVER) & (due <= self.devices.heard_at[device])
        for row in np.flatnonzero(silent).tolist():
            _fall_silent(sensors, row, int(due[row]), changes, int(device[row]))
        return changes

    def _hear_devices(
        self, readings: ReadingRows, changes: list[NoDataChange]
    ) -> tuple[Ints, dict[int, dict[int, int]]]:
        """(R,) the arrival time of the previous data of each record's device; and for each device
        that returned: record index -> arrival time.
        """
        state = self.devices
        before = np.full(len(readings.device), NEVER)
        returns: dict[int, dict[int, int]] = {}
        record = np.flatnonzero(readings.device >= 0)
        if len(record):
            record = record[np.argsort(readings.device[record], kind="stable")]
            row, at = readings.device[record], readings.arrival[record]
            new_row = begins(row)
            before[record] = np.where(new_row, state.heard_at[row], np.roll(at, 1))
            doubtful = state.since != NEVER
            doubtful[row[at - before[record] >= LEAST_MS]] = True
            slow = doubtful[row]
            state.enter_all(row[~slow], at[~slow])
            for r, a, index in zip(*(c[slow].tolist() for c in (row, at, record)), strict=True):
                limit = int(state.due(state.heard_at[[r]], np.array([r]))[0])
                if state.since[r] == NEVER and limit <= a:
                    _fall_silent(state, r, limit, changes)
                if silent := state.since[r] != NEVER:
                    _return(state, r, a, changes)
                    self.devices.returned[r] = a
                    returns.setdefault(r, {})[index] = a
                state.enter(r, a, counts=not silent)
        due = state.due(state.heard_at)
        silent = (state.since == NEVER) & (due <= readings.arrival[-1])
        for r in np.flatnonzero(silent).tolist():
            _fall_silent(state, r, int(due[r]), changes)
        return before, returns

    def _hear_sensors(  # noqa: PLR0917 - the state before the piece, and its results
        self,
        readings: ReadingRows,
        device_of: Ints,
        before: Ints,
        returned: Ints,
        returns: dict[int, dict[int, int]],
        changes: list[NoDataChange],
    ) -> None:
        state = self.sensors
        row, record = readings.row[readings.order], readings.record[readings.order]
        once = begins(row, record)
        row, record = row[once], record[once]
        at, device = readings.arrival[record], readings.device[record]
        new_row = begins(row)
        last = np.where(new_row, state.heard_at[row], np.roll(at, 1))
        belongs = np.where(new_row, device_of[row], np.roll(device, 1))
        doubtful = state.since != NEVER
        doubtful[row[(before[record] - last >= LEAST_MS) & (last != NEVER)]] = True
        doubtful[row[(belongs != device) & (belongs >= 0)]] = True
        if returns:
            doubtful |= np.isin(device_of, list(returns))
            doubtful[row[np.isin(device, list(returns))]] = True
        slow = doubtful[row]
        state.enter_all(row[~slow], at[~slow])
        todo = set(row[slow].tolist())
        if returns:
            todo |= set(np.flatnonzero(np.isin(device_of, list(returns))).tolist())
        if not todo:
            return
        records: dict[int, list[int]] = {}
        for index in np.flatnonzero(readings.device >= 0).tolist():
            records.setdefault(int(readings.device[index]), []).append(index)
        for r in sorted(todo):
            first, end = np.searchsorted(row, [r, r + 1])
            mine = set(record[first:end].tolist())
            self._walk(r, int(device_of[r]), readings, records, mine, returned, returns, changes)

    def _walk(  # noqa: PLR0917 - as above
        self,
        row: int,
        device: int,
        readings: ReadingRows,
        records: dict[int, list[int]],
        mine: set[int],
        returned: Ints,
        returns: dict[int, dict[int, int]],
        changes: list[NoDataChange],
    ) -> None:
        """Process one sensor, record by record of its device and of the devices that it moves to.
        `mine` are the records that contain the sensor.
        """
        state = self.sensors
        devices = {device, *readings.device[list(mine)].tolist()} - {-1}
        for index in sorted(index for number in devices for index in records.get(number, ())):
            here, at = int(readings.device[index]), int(readings.arrival[index])
            if index in mine:
                device = here
            elif here != device:
                continue
            back = [a for i, a in returns.get(device, {}).items() if i <= index]
            since = back[-1] if back else int(returned[device])
            if index in mine:
                silent = state.since[row] != NEVER
                if silent:
                    _return(state, row, at, changes, device)
                counts = not silent and since <= state.heard_at[row]
                state.enter(row, at, counts=counts)
                continue
            since = max(since, int(state.heard_at[row]))
            due = int(state.due(np.array([since]), np.array([row]))[0])
            if state.since[row] == NEVER and due <= at:
                _fall_silent(state, row, due, changes, device)


def _fall_silent(
    state: HeardTable, row: int, at: int, changes: list[NoDataChange], device: int | None = None
) -> None:
    """Report a sensor of `device`, or a device, as silent."""
    of = row if device is None else device
    changes.append(NoDataChange(row, of, device is None, True, at, int(state.heard_at[row]), at))
    state.since[row] = at


def _return(
    state: HeardTable, row: int, at: int, changes: list[NoDataChange], device: int | None = None
) -> None:
    """Report that data of a sensor of `device`, or of a device, resumed."""
    of = row if device is None else device
    heard_at, since = int(state.heard_at[row]), int(state.since[row])
    changes.append(NoDataChange(row, of, device is None, False, at, heard_at, since))
    state.since[row] = NEVER
