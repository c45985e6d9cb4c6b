"""One-second panes per sensor in event time: watermark, grace, lateness and the idle rule.

The rules are those of the contract, taken record by record in the order of the partition:

1. the partition's arrival time becomes the maximum of itself and the record's;
2. a sensor whose last arrival + idle time <= the partition's arrival time closes its open panes;
3. the record's readings, by their index, unless it repeats an earlier packet: a reading is late
   when its pane's end <= the sensor's `closed_until`; else it enters its pane, raises the
   watermark, and closes every pane with end + grace <= watermark.

Here a whole piece of the sequence is taken at once, and the outcome is the same for every cut.
What makes that possible: sensors meet only in the arrival time, which is a running maximum; a
sensor's watermark is a running maximum of its own; and `closed_until` before a reading is the
maximum of two things that follow from the watermark before it: the last pane end at or below
watermark - grace, and, for each idle gap passed, the end of the pane that the watermark lay in.
(A late reading may be counted into that maximum: it lies before `closed_until`, so it can close
nothing that is open.) Sums are never carried: the readings of an open pane are kept as they are
and aggregated once, in the order of (event time, arrival), when it closes. A reading that repeats
another of its pane, that is, sensor, event time, `seq` and value are the same, is left out then, as
the database leaves it out.

Readings have their event time in microseconds; watermarks and panes are in milliseconds.
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
LARGE = 1e150
"""Beyond this size a square may overflow; moments are then those of the values times `SMALL`."""
SMALL = 2.0**-600
"""A power of two: scaling by it rounds nothing that matters where a sum overflows."""


@dataclass(frozen=True, slots=True)
class Late:
    """Readings that came after their pane had closed."""

    row: Ints
    ts: Ints
    """Event time, epoch microseconds UTC."""
    value: Floats


@dataclass(frozen=True, slots=True)
class IdleSpells:
    """Times in which a sensor was idle, sorted by row and time; only those that have ended."""

    row: Ints
    end: Ints
    """End of the sensor's newest pane at that time."""
    until: Ints
    """The partition's arrival time when the sensor was heard again."""


@dataclass(frozen=True, slots=True)
class PaneResult:
    """What a piece of the sequence led to."""

    panes: Panes
    late: Late
    spells: IdleSpells
    idle: NDArray[np.bool_]
    """(S,) the sensors that are idle at the end of the piece."""


class OpenReadings(Table):
    """The readings of open panes, in order of arrival."""

    row: Ints = column(np.int64, 0, stored=np.int32)
    """The sensor's."""
    device: Ints = column(np.int64, 0, stored=np.int32)
    """The row of its device."""
    ts: Ints = column(np.int64, 0)
    """Event time, epoch microseconds UTC."""
    seq: Ints = column(np.int64, 0, stored=np.int32)
    value: Floats = column(np.float64, 0.0)


class PaneState(Table):
    """The open panes of one partition; its sensors are rows."""

    last_arrival: Ints = column(np.int64, NEVER)
    """The partition's arrival time when the sensor's last record came."""
    watermark: Ints = column(np.int64, NEVER)
    closed_until: Ints = column(np.int64, NEVER)
    late: int = single(0)
    """How many readings came too late for their pane."""
    future: int = single(0)
    """How many were dated more than five minutes after their arrival."""
    repeated: int = single(0)
    """How many were in their pane already."""

    def __init__(self, grace_ms: int, idle_ms: int) -> None:
        super().__init__()
        self._grace = grace_ms
        self._idle = idle_ms
        self.open = OpenReadings()

    def step(self, readings: ReadingRows, sensors: int) -> PaneResult:
        """Take the next piece of the sequence; return what it closes. `sensors` is S."""
        self.grow(sensors)
        late, spells = self._take(readings)
        idle = self.last_arrival + self._idle <= readings.arrival[-1]
        at_end = np.maximum(self.closed_until, _pane_end(self.watermark))
        self.closed_until = np.where(idle, at_end, self.closed_until)
        return PaneResult(self._close(), late, spells, idle)

    def _take(self, readings: ReadingRows) -> tuple[Late, IdleSpells]:
        """Let readings in, or count them out; move watermarks and `closed_until`."""
        row, value, ts = readings.row, readings.value, readings.ts // 1000
        if not len(row):
            return Late(_ints(), _ints(), np.empty(0)), IdleSpells(_ints(), _ints(), _ints())
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
        self.closed_until[rows] = np.maximum(by_idle[lasts], _floor(mark[lasts] - self._grace))

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
        return Late(row[out], readings.ts[out], value[out]), spells

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
    """The places of readings that repeat an earlier one; they are sorted by row and event time."""
    same = ~begins(row, ts)
    if not same.any():
        return np.empty(0, np.intp)
    place = np.flatnonzero(same | np.append(same[1:], False))
    row, ts, seq, stored = row[place], ts[place], seq[place], rounded(value[place])
    order = np.lexsort((place, stored, seq, ts, row))
    return place[order[~begins(row[order], ts[order], seq[order], stored[order])]]


def aggregate(row: Ints, device: Ints, ts: Ints, value: Floats) -> Panes:
    """The panes of readings (at least one), which are sorted by row, event time (microseconds) and
    arrival.
    """
    end = _end_of_pane(ts)
    starts = np.flatnonzero(begins(row, end))
    count = lengths(starts, len(row))
    low, high = np.minimum.reduceat(value, starts), np.maximum.reduceat(value, starts)
    mean = _mean(value, starts, count, low, high)
    time = (ts - (end - PANE_MS) * 1000).astype(np.float64)
    mean_time = np.add.reduceat(time, starts) / count  # of whole numbers, so that equal ones stay
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
    """What moments of values between `low` and `high` are scaled by; None where all are 1."""
    large = (high > LARGE) | (low < -LARGE)
    return np.where(large, SMALL, 1.0) if large.any() else None


def _ints() -> Ints:
    return np.empty(0, np.int64)


def _pane_end(ts: Ints) -> Ints:
    return _floor(ts) + PANE_MS


def _end_of_pane(us: Ints) -> Ints:
    """The same in milliseconds for event times in microseconds."""
    return us // (PANE_MS * 1000) * PANE_MS + PANE_MS


def _floor(ts: Ints) -> Ints:
    """The last pane end at or before `ts`."""
    return ts // PANE_MS * PANE_MS


def _mean(value: Floats, starts: Ints, count: Ints, low: Floats, high: Floats) -> Floats:
    """Means of the runs that begin at `starts`, within their minima `low` and maxima `high`."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.add.reduceat(value, starts) / count
    too_large = ~np.isfinite(mean)
    if too_large.any():
        scaled = np.add.reduceat(value * SMALL, starts) / count
        mean[too_large] = np.clip(scaled, low * SMALL, high * SMALL)[too_large] / SMALL
    return np.minimum(np.maximum(mean, low), high)


def _running_maximum(value: Ints, first: NDArray[np.bool_], before: Ints) -> Ints:
    """The maximum so far within each segment, each begun by `first`, and by `before` (one for
    each segment). Segments are kept apart by their number in the upper bits of ranks, so that
    nothing overflows, whatever a sender's clock says.
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
