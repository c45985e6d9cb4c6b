"""The usual gap between the packets of each device, in the log's arrival time."""

import numpy as np

from contract.columns import NEVER, Ints
from contract.table import ROWS, Table, column
from dataflows.engine.rows import ReadingRows
from dataflows.segments import begins, lengths

_GAPS = 4
UNKNOWN = 0
"""In place of the gap of a device that has sent all its data within one second."""


class DeviceGaps(Table):
    """The last gaps between the seconds in which each device sent data, one row each."""

    heard_at: Ints = column(np.int64, NEVER)
    """The arrival time of its last record, epoch milliseconds UTC."""
    gaps: Ints = column(np.int64, UNKNOWN, shape=(_GAPS, ROWS), stored=np.int32)
    """In seconds, newest last."""

    def step(self, readings: ReadingRows, devices: int) -> Ints:
        """(R,) the usual gap of each record's device, in milliseconds, including the gap before the
        record: the longest of the last four. `UNKNOWN` for heartbeats and duplicates.
        """
        self.grow(devices)
        usual = np.full(len(readings.device), UNKNOWN)
        record = np.flatnonzero(readings.device >= 0)
        if not len(record):
            return usual
        record = record[np.argsort(readings.device[record], kind="stable")]
        row, at = readings.device[record], readings.arrival[record]
        first = begins(row)
        if first.all():  # one record of each device, as in most live pieces
            before, self.heard_at[row] = self.heard_at[row], at
            gap = np.where(before == NEVER, 0, at // 1000 - before // 1000)
            new = np.flatnonzero(gap > 0)
            gaps = self.gaps[:, row[new]]
            gaps[:-1], gaps[-1] = gaps[1:], gap[new]
            self.gaps[:, row[new]] = gaps
            usual[record] = 1000 * self.gaps[:, row].max(axis=0)
            return usual
        starts = np.flatnonzero(first)
        rows = row[starts]
        before = np.where(first, self.heard_at[row], np.roll(at, 1))
        gap = np.where(before == NEVER, 0, at // 1000 - before // 1000)
        counts = gap > 0
        # the old gaps of each device, oldest first, then its new ones
        nth = np.cumsum(counts)
        number = np.add.reduceat(counts, starts)
        base: Ints = np.repeat(nth[starts] - counts[starts], lengths(starts, len(row)))
        offset = _GAPS * np.arange(1, len(rows) + 1) + np.cumsum(number) - number
        newest = np.repeat(offset, lengths(starts, len(row))) + nth - base - 1
        slots = np.arange(1 - _GAPS, 1)[:, None]
        every = np.empty(_GAPS * len(rows) + int(number.sum()), np.int64)
        every[offset - 1 + slots] = self.gaps[:, rows]
        every[newest[counts]] = gap[counts]
        usual[record] = 1000 * every[newest + slots].max(axis=0)
        self.gaps[:, rows] = every[offset + number - 1 + slots]
        self.heard_at[rows] = at[np.append(starts[1:] - 1, len(row) - 1)]
        return usual
