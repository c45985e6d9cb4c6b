"""One-second panes per sensor in event time: watermark, grace, late readings and the idle rule.

The contract defines the rules record by record, in the order of the partition:

1. The partition's arrival time becomes the maximum of itself and the record's.
2. A sensor whose `idle_at` <= the partition's arrival time closes its open panes.
3. Unless the record repeats an earlier packet, its readings are processed in order of event time. A
   reading is late if its pane's end <= the sensor's `closed_until`. Otherwise it enters its pane,
   raises the watermark, and closes every pane with end + grace <= watermark.
4. A sensor whose watermark the record has raised becomes idle after the idle time. If its newest
   pane can be expected to get more readings, the time is at least twice the usual gap between the
   packets of its device, up to `LONGEST_HOLD_MS`: a gateway that sends every 5 s splits panes
   between packets. A pane is expected to get more if the record continues the readings before it,
   and the distance between the sensor's readings is shorter than the rest of the pane.

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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Floats, Ints
from contract.packet import FUTURE_MS
from contract.table import Table, column, single
from dataflows.engine.rows import ReadingRows
from dataflows.segments import begins, lengths
from rules.panes import PANE_MS, Panes
from sinks.decimals import rounded

SECONDS = 2**38
"""Above any time in seconds: row * this + time is one sortable number."""
LARGE = 1e150
"""The square of a larger value may overflow; moments then use the values times `SMALL`."""
SMALL = 2.0**-600
"""A power of two, so that scaling large values is exact."""
UNKNOWN_HOLD_MS = 60_000
"""How long a pane that should get more readings waits if its device's usual gap is unknown."""
LONGEST_HOLD_MS = 300_000
_LONGEST_SPAN = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Late:
    """N readings that arrived after their pane closed, sorted by row, record and event time."""

    row: Ints
    """(N,) the sensor's row."""
    record: Ints
    """(N,) index of the record."""
    device: Ints
    """(N,) the device's row."""
    ts: Ints
    """(N,) event time, epoch microseconds UTC."""
    seq: Ints
    """(N,)"""
    value: Floats
    """(N,)"""
    closed_until: Ints
    """(N,) `closed_until` of the sensor, before the reading."""


@dataclass(frozen=True, slots=True)
class IdleSpells:
    """Times in which a sensor was idle and that have ended, sorted by row and time."""

    row: Ints
    end: Ints
    """End of the sensor's newest pane at that time."""
    stands_from: Ints
    """The partition's arrival time from which the value of that pane stands."""
    until: Ints
    """The partition's arrival time when the sensor sent data again."""


@dataclass(frozen=True, slots=True)
class Closings:
    """What closed the panes of a piece: N readings, sorted by row, record and event time, in G
    groups of one sensor and record; S sensors.
    """

    row: Ints
    """(N,)"""
    by_idle: Ints
    """(N,) the end up to which the sensor's panes were closed before the reading."""
    mark: Ints
    """(N,) the watermark with the reading."""
    arrival: Ints
    """(N,) the partition's arrival time at the reading."""
    groups: Ints
    """(G,) the first reading of each."""
    idle_before: Ints
    """(G,) `idle_at` of the sensor before the record."""
    idle_at: Ints
    """(S,) the same at the end of the piece."""
    grace_ms: int

    def of(self, row: Ints, end: Ints) -> Ints:
        """(P,) the arrival time at which each pane of sensor `row` that ends at `end` closed. It
        closed in this piece. One that the idle rule closed did so at `idle_at`, however much later
        the next record or heartbeat came.
        """
        at = self.idle_at[row]
        if not len(self.row):
            return at
        closed = np.maximum(np.maximum(self.by_idle, self.mark - self.grace_ms), 0) // PANE_MS
        place = np.searchsorted(self.row * SECONDS + closed, row * SECONDS + end // PANE_MS)
        closes = np.flatnonzero(place < len(self.row))
        closes = closes[self.row[place[closes]] == row[closes]]
        place = place[closes]
        group = np.searchsorted(self.groups, place, "right") - 1
        by_idle = self.by_idle[place] >= end[closes]
        at[closes] = np.where(by_idle, self.idle_before[group], self.arrival[place])
        return at


@dataclass(frozen=True, slots=True)
class PaneResult:
    """The results of a piece of the sequence."""

    panes: Panes
    value: Floats
    """The readings of the panes, in their order and sorted by event time."""
    late: Late
    future: Late
    """Readings dated more than five minutes after their arrival."""
    spells: IdleSpells
    idle: NDArray[np.bool_]
    """(S,) whether each sensor is idle at the end of the piece."""
    closings: Closings


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
    """The partition's arrival time at the last record that raised the watermark."""
    span: Ints = column(np.int64, 0, stored=np.int32)
    """The time between the sensor's first and last reading in that record, in milliseconds."""
    idle_at: Ints = column(np.int64, NEVER)
    """The partition's arrival time from which the sensor is idle."""
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

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Load a copy of a snapshot. States of before had no `idle_at`."""
        super().restore(snapshot)
        if "idle_at" not in snapshot:
            self.idle_at = np.maximum(self.last_arrival + self._idle, NEVER)

    def step(self, readings: ReadingRows, gap: Ints, sensors: int) -> PaneResult:
        """Process the next piece of the sequence. `gap` (R,) is the usual gap of each record's
        device; `sensors` is S.
        """
        self.grow(sensors)
        late, future, spells, closings = self._take(readings, gap)
        idle = self.idle_at <= readings.arrival[-1]
        at_end = np.maximum(self.closed_until, pane_end(self.watermark))
        self.closed_until = np.where(idle, at_end, self.closed_until)
        return PaneResult(*self._close(), late, future, spells, idle, closings)

    def _take(self, readings: ReadingRows, gap: Ints) -> tuple[Late, Late, IdleSpells, Closings]:
        """Accept or reject readings, and advance watermarks and `closed_until`."""
        row, ts = readings.row, readings.ts // 1000
        if not len(row):
            none = _ints()
            nothing = readings_at(readings, none, none)
            closings = Closings(none, none, none, none, none, none, self.idle_at, self._grace)
            return nothing, nothing, IdleSpells(none, none, none, none), closings
        future = readings.ts > (readings.own_arrival[readings.record] + FUTURE_MS) * 1000
        order = readings.order
        s_row, s_record, s_ts = row[order], readings.record[order], ts[order]
        s_arrival = readings.arrival[s_record]
        if any_future := bool(future.any()):
            s_ts = np.where(future[order], NEVER, s_ts)
        first = begins(s_row)
        firsts = np.flatnonzero(first)
        lasts = np.r_[firsts[1:] - 1, len(s_row) - 1]
        rows = s_row[firsts]

        mark = _running_maximum(s_ts, first, self.watermark[rows])
        mark_before = np.roll(mark, 1)
        mark_before[firsts] = self.watermark[rows]
        # a sensor's readings of one record: a group
        groups = np.flatnonzero(begins(s_row, s_record))
        g_row, arrival = s_row[groups], s_arrival[groups]
        heard = self._heard(s_ts, mark, mark_before, groups, s_arrival, gap[s_record])
        before, after = self._in_turn(heard, g_row)
        is_idle = before[0] <= arrival
        was_idle = groups[is_idle]
        closed = _floor(mark_before - self._grace)
        if len(was_idle):
            by_idle = np.full(len(s_row), NEVER)
            by_idle[was_idle] = pane_end(mark_before[was_idle])
            by_idle = _running_maximum(by_idle, first, self.closed_until[rows])
        else:
            by_idle = np.repeat(self.closed_until[rows], lasts - firsts + 1)
        until = np.maximum(closed, by_idle)
        late = pane_end(s_ts) <= until

        spell = np.flatnonzero(is_idle & (mark_before[groups] > NEVER))
        end = pane_end(mark_before[groups[spell]])
        stands_from = before[1, spell] + before[2, spell] + self._idle
        spells = IdleSpells(g_row[spell], end, stands_from, arrival[spell])

        self.watermark[rows] = mark[lasts]
        last = np.append(np.flatnonzero(begins(g_row))[1:] - 1, len(groups) - 1)
        self.idle_at[rows], self.last_arrival[rows], self.span[rows] = after[:, last]
        self.closed_until[rows] = np.maximum(by_idle[lasts], _floor(mark[lasts] - self._grace))
        closings = Closings(
            s_row, by_idle, mark, s_arrival, groups, before[0], self.idle_at, self._grace
        )

        if any_future:
            late &= s_ts > NEVER
            self.future += int(future.sum())
        out = order[late]
        self._enter(readings, out, future)
        ahead = np.flatnonzero(future)
        return (
            readings_at(readings, out, until[late]),
            readings_at(readings, ahead, np.full(len(ahead), NEVER)),
            spells,
            closings,
        )

    def _enter(
        self, readings: ReadingRows, late: NDArray[np.intp], future: NDArray[np.bool_]
    ) -> None:
        """Add the readings to their panes, except late ones and those from the future."""
        self.late += len(late)
        enters = ~future
        enters[late] = False
        self.open.append(
            row=readings.row[enters],
            device=readings.device[readings.record[enters]],
            ts=readings.ts[enters],
            seq=readings.seq[enters],
            value=readings.value[enters],
        )

    def _heard(  # noqa: PLR0917 - the columns of readings, and the groups
        self, ts: Ints, mark: Ints, mark_before: Ints, groups: Ints, arrival: Ints, gap: Ints
    ) -> Ints:
        """(3, G) for each group that raises its sensor's watermark, when the sensor becomes idle,
        the arrival time, and the time between its readings; NEVER for other groups. Readings (N,)
        are sorted by row, record and event time; one from the future has the time NEVER.
        """
        last = np.append(groups[1:] - 1, len(ts) - 1)
        at, before, newest = arrival[groups], mark_before[groups], mark[last]
        rest = pane_end(newest) - newest
        if len(groups) == len(ts):  # one reading each, as of most devices
            span = np.zeros(len(ts), np.int64)
            more = newest - before < rest
        else:
            count = np.add.reduceat(ts > NEVER, groups)
            oldest = np.minimum.reduceat(np.where(ts > NEVER, ts, -NEVER), groups)
            span = np.minimum(newest - oldest, _LONGEST_SPAN)
            continues = (before == NEVER) | (oldest - before < PANE_MS)
            more = (span > 0) & continues & (span < rest * (count - 1))
            more |= (count == 1) & (newest - before < rest)
        idle_at = at + self._idle
        if more.any():
            held = np.maximum(hold(gap[groups[more]], UNKNOWN_HOLD_MS), self._idle)
            idle_at[more] = at[more] + held
        return np.where(newest > before, np.array([idle_at, at, span]), NEVER)

    def _in_turn(self, heard: Ints, row: Ints) -> tuple[Ints, Ints]:
        """(3, G) what `_heard` found last, before each group and after it. Groups that raised no
        watermark change nothing. `row` (G,) is the sensor of each group.
        """
        stored = np.array([self.idle_at[row], self.last_arrival[row], self.span[row]])
        first = begins(row)
        if first.all():  # one record of each sensor, as in most live pieces
            return stored, np.where(heard > NEVER, heard, stored)
        if heard[0].min() > NEVER:  # each record raises the watermark, as without late readings
            return np.where(first, stored, np.roll(heard, 1, axis=1)), heard
        starts = np.flatnonzero(first)
        place = np.arange(len(row))
        newest = np.maximum.accumulate(np.where(heard[0] > NEVER, place, -1))
        start = np.repeat(starts, lengths(starts, len(row)))
        after = np.where(newest >= start, heard[:, newest], stored)
        return np.where(first, stored, np.roll(after, 1, axis=1)), after

    def stands_from(self, rows: Ints) -> Ints:
        """(N,) the partition's arrival time from which the value of each sensor's last pane stands:
        when its next record should have arrived.
        """
        stands: Ints = self.last_arrival[rows] + self.span[rows] + self._idle
        return stands

    def _close(self) -> tuple[Panes, Floats]:
        """Aggregate and drop the panes that end at or before their sensor's `closed_until`."""
        readings = self.open
        closing = end_of_pane(readings.ts) <= self.closed_until[readings.row]
        panes, value, repeated = aggregate_distinct(readings, readings.row, closing)
        if len(value):
            readings.keep(~closing)
            self.repeated += repeated
        return panes, value


def readings_at(readings: ReadingRows, out: NDArray[np.intp], until: Ints) -> Late:
    """The readings with these indices, and `closed_until` before each."""
    record = readings.record[out]
    device, ts, seq = readings.device[record], readings.ts[out], readings.seq[out]
    return Late(readings.row[out], record, device, ts, seq, readings.value[out], until)


def hold(gap: Ints, unknown: int) -> Ints:
    """How long a pane waits for the rest of its readings: twice the usual gap of their device, up
    to `LONGEST_HOLD_MS`; `unknown` where the gap is unknown. Milliseconds.
    """
    return np.where(gap > 0, np.minimum(2 * gap, LONGEST_HOLD_MS), unknown)


def aggregate_distinct(
    readings: OpenReadings, row: Ints, of: NDArray[np.bool_]
) -> tuple[Panes, Floats, int]:
    """Aggregate the readings `of` into panes of `row`, without repeats. Also returns the readings
    of the panes, and the number of repeats.
    """
    row, device, ts = row[of], readings.device[of], readings.ts[of]
    seq, value = readings.seq[of], readings.value[of]
    if not len(row):
        none = _ints()
        return Panes(none, none, none, none, *(np.empty(0) for _ in range(9))), value, 0
    order = np.lexsort((ts, row))
    repeats = _repeats(row[order], ts[order], seq[order], value[order])
    if len(repeats):
        order = np.delete(order, repeats)
    value = value[order]
    return aggregate(row[order], device[order], ts[order], value), value, len(repeats)


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
    end = end_of_pane(ts)
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


def pane_end(ts: Ints) -> Ints:
    """The end of the pane of each event time, in milliseconds."""
    return _floor(ts) + PANE_MS


def end_of_pane(us: Ints) -> Ints:
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
