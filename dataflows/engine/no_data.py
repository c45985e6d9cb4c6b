"""Detects sensors and devices that stop sending data and resume, in the log's arrival time.

A sensor or device with a rhythm is silent after five times its longest recent interval without
data, and at least 30 s. Its intervals are the last eight gaps between the seconds with data, except
for the gap of a silence. It has a rhythm

- with two gaps, if they differ by at most a twentieth, or a second;
- with three to seven, if they differ by at most a quarter, or two seconds;
- with eight, if all but one are near the median, or near twice or three times the median, as they
  are when packets are lost.

A sender without a rhythm, such as a contact that reports changes, is never silent. If two silences
have ended, one that is not twice as long as the shorter of the last two is part of the rhythm, up
to a day.

A device is checked with every record and heartbeat of the partition. A sensor is checked only when
its device sends data without it, and its time restarts when the device returns. So a device that
stops sending is reported once, not once for each of its sensors.

Where a user has set how long a sensor or a device may be silent, that is all that counts. Such a
sensor is checked with every record and heartbeat of the partition, whatever its device does.

Usually no sensor or device is silent, and a piece of the sequence is processed at once. The few
that may be silent are processed record by record.
"""

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Ints
from contract.table import ROWS, Table, column
from dataflows.engine.rows import ReadingRows
from dataflows.events.changes import NoDataChange
from dataflows.segments import begins, lengths
from rules.silences import NOT_SET

LEAST_MS = 30_000
FACTOR = 5
_GAPS = 4
_ALL_GAPS = 2 * _GAPS
_FOREVER = 2**62
_FEW = (0.05, 1), (0.25, 2)
"""How much two gaps, and three to seven, may differ: a share of the shortest, or seconds."""
_NEAR, _SECOND = 1.35, 1
"""A gap is near the median within this factor, and a second."""
_MULTIPLES = (2, 3)
_OF_MULTIPLE = 0.15
"""A gap is near a multiple of the median within this share of the median."""
_MOST_S = 2**31 - 1
_LONGEST_S = 86_400
"""A silence that is longer than this never becomes part of a rhythm."""


def limit_of(gaps: Ints, silences: NDArray[np.int32]) -> Ints:
    """(N,) the time in ms after which senders without data are silent; `_FOREVER` without a rhythm.
    `gaps` (8, N) in seconds, 0 where there was none; `silences` (2, N) the last two, in seconds.
    """
    count = (gaps > 0).sum(axis=0)
    longest = gaps.max(axis=0, initial=0)
    shortest = np.where(gaps > 0, gaps, _FOREVER).min(axis=0, initial=_FOREVER)
    rhythm = np.zeros(len(count), np.bool_)
    for counted, (share, seconds) in zip((count == 2, count > 2), _FEW, strict=True):
        rhythm |= counted & (longest - shortest <= np.maximum(share * shortest, seconds))
    if (full := count == _ALL_GAPS).any():
        of = gaps[:, full]
        median = np.sort(of, axis=0)[_GAPS - 1]
        near = (of >= median / _NEAR - _SECOND) & (of <= median * _NEAR + _SECOND)
        for times in _MULTIPLES:
            near |= np.abs(of - times * median) <= _OF_MULTIPLE * median
        rhythm[full] = near.sum(axis=0) >= _ALL_GAPS - 1
    ended = np.minimum(2 * silences.min(axis=0), _LONGEST_S)
    limit = np.maximum(1000 * np.maximum(FACTOR * longest, ended), LEAST_MS)
    return np.where(rhythm, limit, _FOREVER)


class HeardTable(Table):
    """When each sensor or device last sent data, one row each."""

    heard_at: Ints = column(np.int64, NEVER)
    gaps: Ints = column(np.int64, 0, shape=(_GAPS, ROWS))
    """The last gaps in seconds, newest last; 0 if there were fewer."""
    older: NDArray[np.int32] = column(np.int32, 0, shape=(_GAPS, ROWS))
    """The gaps before those, newest last."""
    silences: NDArray[np.int32] = column(np.int32, 0, shape=(2, ROWS))
    """The last two silences that ended, in seconds, newest last."""
    since: Ints = column(np.int64, NEVER)
    """The arrival time since which it is silent; NEVER if it is not."""
    set_ms: Ints
    """The user's setting for each row; `NOT_SET`, or 0: never. Not state: part of the rules."""

    def use(self, set_ms: Ints) -> None:
        """Apply the user's settings, one for each row."""
        self.set_ms = set_ms

    def least(self) -> Ints:
        """(rows,) the time without data, in ms, before which no row becomes silent."""
        return np.where(self.set_ms > 0, self.set_ms, LEAST_MS)

    def due(self, since: Ints, rows: Ints) -> Ints:
        """The time at which rows without data after `since` become silent; `_FOREVER` without a
        rhythm.
        """
        every = np.concatenate((self.older[:, rows], self.gaps[:, rows]))
        limit = limit_of(every.astype(np.int64), self.silences[:, rows])
        given = self.set_ms[rows]
        limit = np.where(given > 0, given, np.where(given == 0, _FOREVER, limit))
        return np.where((limit < _FOREVER) & (since > NEVER), since + limit, _FOREVER)

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
        # the old gaps of each row, oldest first, then its new ones: keep the last eight
        place = np.arange(len(g_row)) + np.repeat(_ALL_GAPS * np.arange(1, len(rows) + 1), count)
        oldest = starts + _ALL_GAPS * np.arange(len(rows))
        slots = np.arange(_ALL_GAPS)[:, None]
        every = np.empty(len(g_row) + _ALL_GAPS * len(rows), np.int64)
        every[oldest + slots] = np.concatenate((self.older[:, rows], self.gaps[:, rows]))
        every[place] = gap
        kept = every[oldest + count + slots]
        self.older[:, rows], self.gaps[:, rows] = _short(kept[:_GAPS]), kept[_GAPS:]

    def enter(self, row: int, at: int, *, counts: bool) -> None:
        """Note data of one row."""
        gap = at // 1000 - int(self.heard_at[row]) // 1000
        if counts and gap > 0 and self.heard_at[row] != NEVER:
            self.older[:, row] = np.r_[self.older[1:, row], _short(self.gaps[0, row])]
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

    def step(
        self, readings: ReadingRows, device_of: Ints, set_ms: tuple[Ints, Ints]
    ) -> list[NoDataChange]:
        """Process the next piece. `device_of` (S,) is each sensor's device before it, -1 if it had
        none; `set_ms` (S,), (D,) how long sensors and devices may be silent, see `rules.silences`.
        """
        self.sensors.grow(len(device_of))
        self.devices.grow(len(set_ms[1]))
        self.sensors.use(set_ms[0])
        self.devices.use(set_ms[1])
        returned = self.devices.returned.copy()
        changes: list[NoDataChange] = []
        before, returns = self._hear_devices(readings, changes)
        if len(readings.row) or returns:
            self._hear_sensors(readings, device_of, before, returned, returns, changes)
        device = device_of.copy()
        device[readings.row] = readings.device[readings.record]
        sensors, now = self.sensors, self.devices.heard_at[device]
        since = np.maximum(sensors.heard_at, self.devices.returned[device])
        by_rhythm = sensors.set_ms == NOT_SET
        rows = np.flatnonzero((since <= now - LEAST_MS) & (sensors.since == NEVER) & by_rhythm)
        due = sensors.due(since[rows], rows)
        for row, at in zip(rows.tolist(), due.tolist(), strict=True):
            if at <= now[row]:
                _fall_silent(sensors, row, at, changes, int(device[row]))
        if not by_rhythm.all():
            self._hear_set(readings, np.flatnonzero(~by_rhythm), device_of, changes)
        return changes

    def _hear_set(
        self, readings: ReadingRows, rows: Ints, device_of: Ints, changes: list[NoDataChange]
    ) -> None:
        """Process the sensors whose silence a user has set, by their own records alone. `device_of`
        (S,) is each sensor's device before the piece.
        """
        state = self.sensors
        row, record = readings.row[readings.order], readings.record[readings.order]
        for r in rows.tolist():
            first, end = np.searchsorted(row, [r, r + 1])
            device = int(device_of[r])
            for index in np.unique(record[first:end]).tolist():
                at = int(readings.arrival[index])
                self._check_set(r, at, device, changes)
                device = int(readings.device[index])
                if silent := state.since[r] != NEVER:
                    _return(state, r, at, changes, device)
                state.enter(r, at, counts=not silent)
            self._check_set(r, int(readings.arrival[-1]), device, changes)

    def _check_set(self, row: int, now: int, device: int, changes: list[NoDataChange]) -> None:
        state = self.sensors
        if state.since[row] == NEVER != state.heard_at[row]:
            due = int(state.due(state.heard_at[[row]], np.array([row]))[0])
            if due <= now:
                _fall_silent(state, row, due, changes, device)

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
            least = state.least()
            known = before[record] != NEVER
            doubtful[row[known & (at - before[record] >= least[row])]] = True
            slow = doubtful[row]
            state.enter_all(row[~slow], at[~slow])
            for r, a, index in zip(*(c[slow].tolist() for c in (row, at, record)), strict=True):
                if state.since[r] == NEVER and a - state.heard_at[r] >= least[r]:
                    silent_at = int(state.due(state.heard_at[[r]], np.array([r]))[0])
                    if silent_at <= a:
                        _fall_silent(state, r, silent_at, changes)
                if silent := state.since[r] != NEVER:
                    _return(state, r, a, changes)
                    self.devices.returned[r] = a
                    returns.setdefault(r, {})[index] = a
                state.enter(r, a, counts=not silent)
        now = readings.arrival[-1]
        rows = np.flatnonzero((state.heard_at <= now - state.least()) & (state.since == NEVER))
        rows = rows[state.heard_at[rows] != NEVER]
        due = state.due(state.heard_at[rows], rows)
        for r, at_due in zip(rows.tolist(), due.tolist(), strict=True):
            if at_due <= now:
                _fall_silent(state, r, at_due, changes)
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
        by_rhythm = state.set_ms[row] == NOT_SET
        row, record = row[by_rhythm], record[by_rhythm]
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
        doubtful &= state.set_ms == NOT_SET
        slow = doubtful[row]
        state.enter_all(row[~slow], at[~slow])
        todo = set(row[slow].tolist())
        if returns:
            todo |= set(np.flatnonzero(np.isin(device_of, list(returns)) & doubtful).tolist())
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


def _short(gaps: Ints) -> NDArray[np.int32]:
    """Gaps in 32 bits."""
    return np.minimum(gaps, _MOST_S).astype(np.int32)


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
    state.silences[:, row] = state.silences[1, row], min((at - heard_at) // 1000, _MOST_S)
    changes.append(NoDataChange(row, of, device is None, False, at, heard_at, since))
    state.since[row] = NEVER
