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
and aggregated once, in the order of (event time, arrival), when it closes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Floats, Ints, PacketColumns
from contract.packet import FUTURE_MS

PANE_MS = 1_000
_VERSION = 1
_SMALL = 2.0**-40
"""A power of two, so that scaling by it rounds nothing that matters where a sum overflows."""


@dataclass(frozen=True, slots=True)
class Panes:
    """Closed panes, sorted by sensor row and end. P panes."""

    row: Ints
    """(P,) the sensor's row, an index into `PaneState.sensor_id`."""
    end: Ints
    """(P,) end of the pane, exclusive, epoch milliseconds UTC."""
    count: Ints
    """(P,) readings in it, at least 1."""
    mean: Floats
    """(P,)"""
    minimum: Floats
    """(P,)"""
    maximum: Floats
    """(P,)"""
    last: Floats
    """(P,) the value with the highest event time; of several, the one that arrived last."""


@dataclass(slots=True)
class Counts:
    """What did not enter a pane, since the state was made."""

    late: int = 0
    future: int = 0
    duplicates: int = 0


class PaneState:
    """The open panes of one partition; its sensors are rows of columns, in order of appearance."""

    def __init__(self, grace_ms: int, idle_ms: int) -> None:
        self._grace = grace_ms
        self._idle = idle_ms
        self._arrival = NEVER
        self.sensor_id: Ints = _ints()
        self.device_id: Ints = _ints()
        self._watermark: Ints = _ints()
        self._closed_until: Ints = _ints()
        self._last_arrival: Ints = _ints()
        self._by_id: NDArray[np.intp] = np.empty(0, np.intp)
        # readings of open panes, in order of arrival
        self._row: Ints = _ints()
        self._ts: Ints = _ints()
        self._value: Floats = np.empty(0)
        self.counts = Counts()

    def snapshot(self) -> tuple[object, ...]:
        """The state as plain arrays and numbers, with a version tag in front."""
        counts = (self.counts.late, self.counts.future, self.counts.duplicates)
        columns = (self.sensor_id, self.device_id, self._watermark, self._closed_until)
        more = (self._last_arrival, self._row, self._ts, self._value)
        copies = tuple(column.copy() for column in columns + more)
        return (_VERSION, self._arrival, copies, counts)

    @classmethod
    def restore(cls, snapshot: tuple[object, ...], grace_ms: int, idle_ms: int) -> "PaneState":
        """The state that `snapshot` was taken of."""
        version, arrival, columns, counts = snapshot
        if version != _VERSION:
            raise ValueError(f"recovery state has version {version}, this program reads {_VERSION}")
        state = cls(grace_ms, idle_ms)
        state._arrival = arrival  # type: ignore[assignment]
        (
            state.sensor_id,
            state.device_id,
            state._watermark,
            state._closed_until,
            state._last_arrival,
            state._row,
            state._ts,
            state._value,
        ) = columns  # type: ignore[misc]
        state._by_id = np.argsort(state.sensor_id)
        state.counts = Counts(*counts)  # type: ignore[misc]
        return state

    def step(self, piece: PacketColumns) -> Panes:
        """Take the next piece of the partition's sequence; return the panes that it closes."""
        arrival = np.maximum(np.maximum.accumulate(piece.arrival), self._arrival)
        self._arrival = int(arrival[-1])
        record = np.repeat(np.arange(len(piece.count)), piece.count)
        self.counts.duplicates += int((~piece.fresh).sum())
        keep = np.flatnonzero(piece.fresh[record])
        record = record[keep]
        row = self._rows(piece.sensor_id[keep], piece.device_id[record])
        self._take(
            row,
            piece.ts[keep],
            piece.value[keep],
            arrival[record],
            piece.ts[keep] > piece.arrival[record] + FUTURE_MS,
        )
        silent = self._last_arrival + self._idle <= self._arrival
        at_end = np.maximum(self._closed_until, _pane_end(self._watermark))
        self._closed_until = np.where(silent, at_end, self._closed_until)
        return self._close()

    def _take(
        self, row: Ints, ts: Ints, value: Floats, arrival: Ints, future: NDArray[np.bool_]
    ) -> None:
        """Let readings in, or count them out; move watermarks and `closed_until`."""
        if not len(row):
            return
        order = np.argsort(row, kind="stable")
        s_row, s_arrival, s_future = row[order], arrival[order], future[order]
        s_ts = np.where(s_future, NEVER, ts[order])
        first = np.r_[True, s_row[1:] != s_row[:-1]]
        segment = np.cumsum(first) - 1

        mark = np.maximum(_running_maximum(s_ts, segment), self._watermark[s_row])
        mark_before = np.where(first, self._watermark[s_row], np.roll(mark, 1))
        arrival_before = np.where(first, self._last_arrival[s_row], np.roll(s_arrival, 1))
        was_idle = arrival_before + self._idle <= s_arrival
        by_idle = np.where(was_idle, _pane_end(mark_before), NEVER)
        by_idle = np.maximum(_running_maximum(by_idle, segment), self._closed_until[s_row])
        closed_before = np.maximum(by_idle, _floor(mark_before - self._grace))
        late = _pane_end(s_ts) <= closed_before

        last = np.flatnonzero(np.r_[first[1:], True])
        rows = s_row[last]
        self._watermark[rows] = mark[last]
        self._last_arrival[rows] = s_arrival[last]
        self._closed_until[rows] = np.maximum(by_idle[last], _floor(mark[last] - self._grace))

        self.counts.future += int(s_future.sum())
        self.counts.late += int((late & ~s_future).sum())
        enters = np.sort(order[~late & ~s_future])
        self._row = np.concatenate((self._row, row[enters]))
        self._ts = np.concatenate((self._ts, ts[enters]))
        self._value = np.concatenate((self._value, value[enters]))

    def _close(self) -> Panes:
        """Aggregate and drop the panes that end at or before their sensor's `closed_until`."""
        closing = _pane_end(self._ts) <= self._closed_until[self._row]
        row, ts, value = self._row[closing], self._ts[closing], self._value[closing]
        if len(row):
            stays = ~closing
            self._row, self._ts, self._value = self._row[stays], self._ts[stays], self._value[stays]
            order = np.lexsort((ts, row))
            row, ts, value = row[order], ts[order], value[order]
        end = _pane_end(ts)
        starts = np.flatnonzero(
            np.r_[True, (row[1:] != row[:-1]) | (end[1:] != end[:-1])][: len(row)]
        )
        if not len(starts):
            return Panes(_ints(), _ints(), _ints(), *(np.empty(0) for _ in range(4)))
        count = np.diff(np.r_[starts, len(row)])
        low, high = np.minimum.reduceat(value, starts), np.maximum.reduceat(value, starts)
        return Panes(
            row=row[starts],
            end=end[starts],
            count=count,
            mean=_mean(value, starts, count, low, high),
            minimum=low,
            maximum=high,
            last=value[starts + count - 1],
        )

    def _rows(self, sensor_id: Ints, device_id: Ints) -> Ints:
        """The rows of the sensors; a sensor that is new gets the next row."""
        place = self._places(sensor_id)
        new = place < 0
        if new.any():
            ids, index = np.unique(sensor_id[new], return_index=True)
            index.sort()
            ids = sensor_id[new][index]
            nothing = np.full(len(ids), NEVER)
            self.sensor_id = np.concatenate((self.sensor_id, ids))
            self.device_id = np.concatenate((self.device_id, device_id[new][index]))
            self._watermark = np.concatenate((self._watermark, nothing))
            self._closed_until = np.concatenate((self._closed_until, nothing))
            self._last_arrival = np.concatenate((self._last_arrival, nothing))
            self._by_id = np.argsort(self.sensor_id)
            place = self._places(sensor_id)
        return place

    def _places(self, sensor_id: Ints) -> Ints:
        """(N,) rows, -1 where a sensor has none."""
        if not len(self.sensor_id):
            return np.full(len(sensor_id), -1)
        found = np.searchsorted(self.sensor_id, sensor_id, sorter=self._by_id)
        place = self._by_id[np.minimum(found, len(self._by_id) - 1)]
        return np.where(self.sensor_id[place] == sensor_id, place, -1)


def _ints() -> Ints:
    return np.empty(0, np.int64)


def _pane_end(ts: Ints) -> Ints:
    return _floor(ts) + PANE_MS


def _floor(ts: Ints) -> Ints:
    """The last pane end at or before `ts`."""
    return ts // PANE_MS * PANE_MS


def _mean(value: Floats, starts: Ints, count: Ints, low: Floats, high: Floats) -> Floats:
    """Means of the runs that begin at `starts`, within their minima `low` and maxima `high`."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.add.reduceat(value, starts) / count
    too_large = ~np.isfinite(mean)
    if too_large.any():
        scaled = np.add.reduceat(value * _SMALL, starts) / count
        mean[too_large] = np.clip(scaled, low * _SMALL, high * _SMALL)[too_large] / _SMALL
    return np.clip(mean, low, high)


def _running_maximum(value: Ints, segment: Ints) -> Ints:
    """The maximum so far within each segment; `segment` counts up from 0.

    Ranks instead of values keep it inside 64 bits, whatever a sender's clock says.
    """
    distinct, rank = np.unique(value, return_inverse=True)
    offset = segment * len(distinct)
    return distinct[np.maximum.accumulate(rank + offset) - offset]
