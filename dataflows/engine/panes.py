"""One-second panes per sensor in event time: watermark, grace, late readings and the idle rule.

The contract defines the rules record by record, in the order of the partition:

1. The partition's arrival time becomes the maximum of itself and the record's.
2. A sensor whose last arrival + idle time <= the partition's arrival time closes its open panes.
3. Unless the record repeats an earlier packet, its readings are processed in order. A reading is
   late if its pane's end <= the sensor's `closed_until`. Otherwise it enters its pane, raises the
   watermark, and closes every pane with end + grace <= watermark.

This module processes a whole piece of the sequence at once, with the same result for every split
into pieces. This works because sensors share only the arrival time, which is a running maximum, and
a sensor's watermark is a running maximum of its own. `closed_until` before a reading is the maximum
of two values that follow from the watermark before it: the last pane end at or before watermark -
grace, and, for each idle gap, the end of the pane that contained the watermark. (A late reading may
count in that maximum: it lies before `closed_until`, so it cannot close an open pane.)

Sums are never carried over: the readings of an open pane are stored, and aggregated once when it
closes, in the order of (event time, arrival). A reading that repeats another one in its pane (same
sensor, event time, `seq` and value) is left out then, as in the database.

Event times of readings are in microseconds; watermarks and panes are in milliseconds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Floats, Ints
from contract.packet import FUTURE_MS
from contract.table import Table, column, single
from dataflows.engine.rows import ReadingRows
from dataflows.segments import begins, lengths
from rules.panes import Panes
from sinks.decimals import rounded

PANE_MS = 1_000
SECONDS = 2**38
"""Above any time in seconds: row * this + time is one sortable number."""
LARGE = 1e150
"""The square of a larger value may overflow; moments then use the values times `SMALL`."""
SMALL = 2.0**-600
"""A power of two, so that scaling large values is exact."""


@dataclass(frozen=True, slots=True)
class Late:
    """Readings that arrived after their pane closed."""

    row: Ints
    ts: Ints
    """Event time, epoch microseconds UTC."""
    value: Floats


@dataclass(frozen=True, slots=True)
class IdleSpells:
    """Times in which a sensor was idle and that have ended, sorted by row and time."""

    row: Ints
    end: Ints
    """End of the sensor's newest pane at that time."""
    until: Ints
    """The partition's arrival time when the sensor sent data again."""


@dataclass(frozen=True, slots=True)
class PaneResult:
    """The results of a piece of the sequence."""

    panes: Panes
    late: Late
    spells: IdleSpells
    idle: NDArray[np.bool_]
    """(S,) whether each sensor is idle at the end of the piece."""
    closings: "Closings"

    def closed_at(self, row: Ints, end: Ints) -> Ints:
        """(N,) the arrival time at which the pane of sensor `row` that ends at `end` was due to
        close. It closed in this piece.
        """
        return self.closings.of(row, end)


@dataclass(frozen=True, slots=True)
class Closings:
    """How far the panes of each sensor were closed by each reading of the piece. N readings, sorted
    by row and arrival; S sensors.
    """

    idle_ms: int
    row: Ints
    """(N,)"""
    by_idle: Ints
    """(N,) the end up to which panes were closed by the idle rule, before the reading."""
    by_reading: Ints
    """(N,) the end up to which panes were closed by the watermark, with the reading."""
    arrival: Ints
    """(N,) the partition's arrival time at the reading."""
    arrival_before: Ints
    """(N,) the same at the sensor's record before."""
    last_arrival: Ints
    """(S,) the same at the sensor's last record."""

    def of(self, row: Ints, end: Ints) -> Ints:
        """See `PaneResult.closed_at`. A sensor that is idle closes its panes when its idle time is
        over, whenever the next record or heartbeat shows that.
        """
        due: Ints = self.last_arrival[row] + self.idle_ms
        if not len(self.row):
            return due
        closed = np.maximum(np.maximum(self.by_idle, self.by_reading), 0) // PANE_MS
        place = np.searchsorted(self.row * SECONDS + closed, row * SECONDS + end // PANE_MS)
        place, known = place.clip(max=len(self.row) - 1), place < len(self.row)
        known &= self.row[place] == row
        by_idle = self.arrival_before[place] + self.idle_ms
        at = np.where(self.by_idle[place] >= end, by_idle, self.arrival[place])
        return np.where(known, at, due)


class OpenReadings(Table):
    """The readings of open panes, in order of arrival."""

    row: Ints = column(np.int64, 0, stored=np.int32)
    """The sensor's row."""
    device: Ints = column(np.int64, 0, stored=np.int32)
    """The device's row."""
    ts: Ints = column(np.int64, 0)
    """Event time, epoch microseconds UTC."""
    seq: Ints = column(np.int64, 0, stored=np.int32)
    value: Floats = column(np.float64, 0.0)


class PaneState(Table):
    """The open panes of one partition, one row per sensor."""

    last_arrival: Ints = column(np.int64, NEVER)
    """The partition's arrival time at the sensor's last record."""
    watermark: Ints = column(np.int64, NEVER)
    closed_until: Ints = column(np.int64, NEVER)
    late: int = single(0)
    """The number of late readings."""
    future: int = single(0)
    """The number of readings dated more than five minutes after their arrival."""
    repeated: int = single(0)
    """The number of readings that were already in their pane."""

    def __init__(self, grace_ms: int, idle_ms: int) -> None:
        super().__init__()
        self._grace = grace_ms
        self._idle = idle_ms
        self.open = OpenReadings()

    def step(self, readings: ReadingRows, sensors: int) -> PaneResult:
        """Process the next piece of the sequence. `sensors` is S."""
        self.grow(sensors)
        late, spells, closings = self._take(readings)
        idle = self.last_arrival + self._idle <= readings.arrival[-1]
        at_end = np.maximum(self.closed_until, _pane_end(self.watermark))
        self.closed_until = np.where(idle, at_end, self.closed_until)
        return PaneResult(self._close(), late, spells, idle, closings)

    def _take(self, readings: ReadingRows) -> tuple[Late, IdleSpells, Closings]:
        """Accept or reject readings, and advance watermarks and `closed_until`."""
        row, value, ts = readings.row, readings.value, readings.ts // 1000
        if not len(row):
            none = _ints()
            closings = Closings(self._idle, none, none, none, none, none, self.last_arrival)
            return (
                Late(_ints(), _ints(), np.empty(0)),
                IdleSpells(_ints(), _ints(), _ints()),
                closings,
            )
        future = readings.ts > (readings.own_arrival[readings.record] + FUTURE_MS) * 1000
        order = readings.order
        s_row, s_arrival = row[order], readings.arrival[readings.record[order]]
        s_future, s_ts = future[order], ts[order]
        if any_future := bool(future.any()):
            s_ts = np.where(s_future, NEVER, s_ts)
        first = begins(s_row)
        firsts = np.flatnonzero(first)
        lasts = np.r_[firsts[1:] - 1, len(s_row) - 1]
        rows = s_row[firsts]

        mark = _running_maximum(s_ts, first, self.watermark[rows])
        mark_before, arrival_before = np.roll(mark, 1), np.roll(s_arrival, 1)
        mark_before[firsts] = self.watermark[rows]
        arrival_before[firsts] = self.last_arrival[rows]
        was_idle = arrival_before + self._idle <= s_arrival
        closed = _floor(mark_before - self._grace)
        if was_idle.any():
            by_idle = np.where(was_idle, _pane_end(mark_before), NEVER)
            by_idle = _running_maximum(by_idle, first, self.closed_until[rows])
        else:
            by_idle = np.repeat(self.closed_until[rows], lasts - firsts + 1)
        late = _pane_end(s_ts) <= np.maximum(closed, by_idle)

        spell = np.flatnonzero(was_idle & (mark_before > NEVER))
        spells = IdleSpells(s_row[spell], _pane_end(mark_before[spell]), s_arrival[spell])

        self.watermark[rows] = mark[lasts]
        self.last_arrival[rows] = s_arrival[lasts]
        by_reading = _floor(mark - self._grace)
        self.closed_until[rows] = np.maximum(by_idle[lasts], by_reading[lasts])
        closings = Closings(
            self._idle, s_row, by_idle, by_reading, s_arrival, arrival_before, self.last_arrival
        )

        if any_future:
            late &= ~s_future
            self.future += int(s_future.sum())
        out = order[late]
        out.sort()
        self.late += len(out)
        enters = np.ones(len(row), bool)
        enters[out] = False
        if any_future:
            enters &= ~future
        self.open.append(
            row=row[enters],
            device=readings.device[readings.record[enters]],
            ts=readings.ts[enters],
            seq=readings.seq[enters],
            value=value[enters],
        )
        return Late(row[out], readings.ts[out], value[out]), spells, closings

    def _close(self) -> Panes:
        """Aggregate and drop the panes that end at or before their sensor's `closed_until`."""
        readings = self.open
        closing = _end_of_pane(readings.ts) <= self.closed_until[readings.row]
        row, device = readings.row[closing], readings.device[closing]
        ts, seq, value = readings.ts[closing], readings.seq[closing], readings.value[closing]
        if not len(row):
            return Panes(_ints(), _ints(), _ints(), _ints(), *(np.empty(0) for _ in range(9)))
        readings.keep(~closing)
        order = np.lexsort((ts, row))
        repeats = _repeats(row[order], ts[order], seq[order], value[order])
        if len(repeats):
            self.repeated += len(repeats)
            order = np.delete(order, repeats)
        return aggregate(row[order], device[order], ts[order], value[order])


def _repeats(row: Ints, ts: Ints, seq: Ints, value: Floats) -> NDArray[np.intp]:
    """Indices of readings that repeat an earlier one. The input is sorted by row and event time."""
    same = ~begins(row, ts)
    if not same.any():
        return np.empty(0, np.intp)
    place = np.flatnonzero(same | np.append(same[1:], False))
    row, ts, seq, stored = row[place], ts[place], seq[place], rounded(value[place])
    order = np.lexsort((place, stored, seq, ts, row))
    return place[order[~begins(row[order], ts[order], seq[order], stored[order])]]


def aggregate(row: Ints, device: Ints, ts: Ints, value: Floats) -> Panes:
    """Aggregate readings (at least one) into panes. They are sorted by row, event time
    (microseconds) and arrival.
    """
    end = _end_of_pane(ts)
    starts = np.flatnonzero(begins(row, end))
    count = lengths(starts, len(row))
    low, high = np.minimum.reduceat(value, starts), np.maximum.reduceat(value, starts)
    mean = _mean(value, starts, count, low, high)
    time = (ts - (end - PANE_MS) * 1000).astype(np.float64)
    mean_time = np.add.reduceat(time, starts) / count  # of whole numbers: exact for equal times
    time = (time - np.repeat(mean_time, count)) / 1e6
    scale = scale_of(low, high)
    if scale is None:
        deviation = value - np.repeat(mean, count)
    else:
        deviation = value * np.repeat(scale, count) - np.repeat(mean * scale, count)
    return Panes(
        row=row[starts],
        device=device[starts + count - 1],
        end=end[starts],
        count=count,
        mean=mean,
        minimum=low,
        maximum=high,
        first=value[starts],
        last=value[starts + count - 1],
        time=mean_time / 1e6,
        time_time=np.add.reduceat(time * time, starts),
        time_value=np.add.reduceat(time * deviation, starts),
        value_value=np.add.reduceat(deviation * deviation, starts),
    )


def scale_of(low: Floats, high: Floats) -> Floats | None:
    """The scale of moments of values between `low` and `high`; None if all are 1."""
    large = (high > LARGE) | (low < -LARGE)
    return np.where(large, SMALL, 1.0) if large.any() else None


def _ints() -> Ints:
    return np.empty(0, np.int64)


def _pane_end(ts: Ints) -> Ints:
    return _floor(ts) + PANE_MS


def _end_of_pane(us: Ints) -> Ints:
    """The end of the pane, milliseconds, of event times in microseconds."""
    return us // (PANE_MS * 1000) * PANE_MS + PANE_MS


def _floor(ts: Ints) -> Ints:
    """The last pane end at or before `ts`."""
    return ts // PANE_MS * PANE_MS


def _mean(value: Floats, starts: Ints, count: Ints, low: Floats, high: Floats) -> Floats:
    """Means of the segments that begin at `starts`, within minima `low` and maxima `high`."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.add.reduceat(value, starts) / count
    too_large = ~np.isfinite(mean)
    if too_large.any():
        scaled = np.add.reduceat(value * SMALL, starts) / count
        mean[too_large] = np.clip(scaled, low * SMALL, high * SMALL)[too_large] / SMALL
    return np.minimum(np.maximum(mean, low), high)


def _running_maximum(value: Ints, first: NDArray[np.bool_], before: Ints) -> Ints:
    """The running maximum within each segment, which starts where `first` is set, including
    `before` (one value per segment). Each segment gets its own number range; if that would
    overflow, ranks replace the values. So no sender's clock can cause an overflow.
    """
    segment = np.cumsum(first) - 1
    value = np.maximum(value, before[segment])
    low = int(value.min())
    span = int(value.max()) - low + 1
    if span * (int(segment[-1]) + 1) < 2**62:
        offset = segment * span - low
        running: Ints = np.maximum.accumulate(value + offset) - offset
        return running
    distinct, rank = np.unique(value, return_inverse=True)
    offset = segment * len(distinct)
    by_rank: Ints = distinct[np.maximum.accumulate(rank + offset) - offset]
    return by_rank
