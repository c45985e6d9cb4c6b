"""Rollups: aggregates of panes over buckets of event time (1 minute, 5 minutes, 1 hour).

A bucket is emitted when its last second or a later pane closes. With `flush`, it is also emitted
when the sensor is idle and the arrival time is `FLUSH_MS` past the bucket's end. If more readings
arrive for it later, it is emitted again with all of them. Sums are carried from piece to piece and
added pane by pane, in order, so that results are the same to the bit for every split into pieces.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Floats, Ints, concatenate
from contract.table import Table, block, column
from dataflows.engine.panes import SECONDS, PaneResult
from dataflows.segments import begins, lengths
from rules.panes import PANE_MS, Panes

FLUSH_MS = 10_000
_EMPTY = {"total": 0.0, "minimum": np.inf, "maximum": -np.inf, "last": 0.0, "device": 0.0}
_NOTHING = np.array(list(_EMPTY.values()))[:, None]
_SCALE = 2.0**-64
"""Sums are of values times this power of two: scaling is exact, and no sum overflows."""


@dataclass(frozen=True, slots=True)
class RollupRows:
    """B buckets that ended, or were emitted early."""

    row: Ints
    """(B,) the sensor's row."""
    start: Ints
    """(B,) epoch milliseconds UTC."""
    count: Ints
    """(B,) readings in it."""
    mean: Floats
    """(B,)"""
    minimum: Floats
    """(B,)"""
    maximum: Floats
    """(B,)"""
    last: Floats
    """(B,)"""
    device: Ints
    """(B,) row of the device that sent its last reading."""


class RollupState(Table):
    """The newest bucket of each sensor, for one period."""

    start: Ints = column(np.int64, NEVER)
    count: Ints = column(np.int64, 0)
    told: NDArray[np.bool_] = column(np.bool_, True)
    sums: NDArray[np.float64] = block(_EMPTY)
    """(5, S) sum (scaled), minimum, maximum and last of the values, and the last device's row."""

    def __init__(self, period_ms: int, *, flush: bool) -> None:
        super().__init__()
        self.period = period_ms
        self._flush = flush

    def step(self, closed: PaneResult, arrival: int, sensors: int) -> RollupRows:
        """Add closed panes; `arrival` is the partition's arrival time at the end of the piece."""
        self.grow(sensors)
        start = (closed.panes.end - PANE_MS) // self.period * self.period
        early, told = self._early(closed, start) if self._flush else ([], [])
        emitted = [*self._add(closed.panes, start), *early]
        if self._flush:
            self.told[told] = True
            over = self.start + self.period + FLUSH_MS <= arrival
            still = np.flatnonzero(over & ~self.told & closed.idle)
            self.told[still] = True
            emitted.append(self._of(still))
        return concatenate(emitted)

    def _add(self, panes: Panes, start: Ints) -> list[RollupRows]:
        """Add panes to their buckets; return the buckets that ended."""
        row = panes.row
        if not len(row):
            return [self._of(row)]
        first = np.flatnonzero(begins(row, start))
        count_of = lengths(first, len(row))
        ends = first + count_of - 1
        rows, starts = row[first], start[first]
        new_row = begins(rows)
        continues = new_row & (self.start[rows] == starts)
        left = rows[new_row & ~continues & ~self.told[rows]]
        ended = [self._of(left)]

        count = np.where(continues, self.count[rows], 0)
        sums = np.where(continues, np.take(self.sums, rows, axis=1), _NOTHING)
        bucket = np.repeat(np.arange(len(first)), count_of)
        np.add.at(count, bucket, panes.count)
        np.add.at(sums[0], bucket, panes.count * (panes.mean * _SCALE))
        sums[1] = np.minimum(sums[1], np.minimum.reduceat(panes.minimum, first))
        sums[2] = np.maximum(sums[2], np.maximum.reduceat(panes.maximum, first))
        sums[3], sums[4] = panes.last[ends], panes.device[ends]

        newest = np.r_[new_row[1:], True]
        told = ~newest | (panes.end[ends] == starts + self.period)
        keep = rows[newest]
        self.start[keep], self.count[keep] = starts[newest], count[newest]
        for old, new in zip(self.sums, sums, strict=True):
            old[keep] = new[newest]
        self.told[keep] = told[newest]
        ended.append(_rollup_rows(rows[told], starts[told], count[told], sums[:, told]))
        return ended

    def _early(self, closed: PaneResult, start: Ints) -> tuple[list[RollupRows], list[int]]:
        """The buckets that were emitted before their end because their sensor was idle inside this
        piece, and the rows of those that got no pane since. They are few, so a loop is enough.
        """
        panes, spells = closed.panes, closed.spells
        here = (spells.end - PANE_MS) // self.period * self.period
        over = np.flatnonzero(here + self.period + FLUSH_MS <= spells.until)
        if not len(over):
            return [], []
        over = over[begins(spells.row[over], spells.end[over])]
        keys = panes.row * SECONDS + panes.end // 1000
        after = np.searchsorted(keys, spells.row * SECONDS + spells.end // 1000, "right")
        firsts, lasts = (np.searchsorted(panes.row, spells.row, side) for side in ("left", "right"))
        early, told = [], []
        for index in over.tolist():
            row, until = int(spells.row[index]), int(after[index])
            last = until == lasts[index]
            if not last and start[until] != here[index]:
                continue  # it ends inside this piece
            first = int(firsts[index])
            first += int(np.searchsorted(start[first:until], here[index]))
            if until > first:
                if panes.end[until - 1] == here[index] + self.period:
                    continue  # it has ended
            elif self.told[row]:
                continue
            continues = self.start[row] == here[index]
            count = np.array([self.count[row] if continues else 0])
            sums = self.sums[:, [row]] if continues else _NOTHING.copy()
            for pane in range(first, until):
                count[0] += panes.count[pane]
                sums[0] += panes.count[pane] * (panes.mean[pane] * _SCALE)
                sums[1] = np.minimum(sums[1], panes.minimum[pane])
                sums[2] = np.maximum(sums[2], panes.maximum[pane])
                sums[3], sums[4] = panes.last[pane], panes.device[pane]
            early.append(_rollup_rows(spells.row[[index]], here[[index]], count, sums))
            if last:
                told.append(row)
        return early, told

    def _of(self, rows: Ints | NDArray[np.intp]) -> RollupRows:
        return _rollup_rows(
            rows, self.start[rows], self.count[rows], np.take(self.sums, rows, axis=1)
        )


def _rollup_rows(row: Ints, start: Ints, count: Ints, sums: NDArray[np.float64]) -> RollupRows:
    total, low, high, last, device = sums
    with np.errstate(over="ignore"):
        mean = total / np.maximum(count, 1) / _SCALE
    mean = np.minimum(np.maximum(mean, low), high)
    return RollupRows(row, start, count, mean, low, high, last, device.astype(np.int64))
