"""Buckets of rollups whose rows have to be computed again from the stored readings.

Readings that are stored but in no pane of the live lane are missing in the buckets that the engine
emits: late readings, those dated in the future, and those that a repeated packet brings under other
identities. The rows of their buckets are computed again once they are stored. A bucket that the
live lane still fills has no row yet: it is computed again when the live lane emits it. For a
reading dated in the future it is computed at once: the live lane may never get there.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Ints, concatenate
from contract.rollups import StaleRollups
from contract.table import Table, column
from dataflows.engine.rollups import RollupRows, RollupState
from dataflows.segments import begins


class StaleBuckets(Table):
    """The newest reading of each sensor that is in no pane of the live lane, one row per sensor."""

    mark: Ints = column(np.int64, NEVER)
    """Event time, epoch milliseconds UTC."""

    def step(  # noqa: PLR0917 - what the live lane has made of the piece
        self,
        row: Ints,
        ts: Ints,
        future: NDArray[np.bool_],
        live: Sequence[RollupState],
        emitted: Sequence[RollupRows],
        watermark: Ints,
        ids: Ints,
    ) -> StaleRollups:
        """The stale buckets of a piece. `row` and `ts` (N,), microseconds, are of readings in no
        live pane, and `future` (N,) marks those dated in the future. After the piece, `live` are
        the live lane's buckets and `emitted` those that it emitted, by period, and `watermark` and
        `ids` (S,) are of each sensor.
        """
        self.grow(len(ids))
        if not len(row) and not any(len(ended.row) for ended in emitted):
            return StaleRollups(row, row, row)
        ms = ts // 1000
        np.maximum.at(self.mark, row, ms)
        stale = []
        for buckets, ended in zip(live, emitted, strict=True):
            start = ms // buckets.period * buckets.period
            told = (buckets.start[row] == start) & buckets.told[row]
            filling = (start == watermark[row] // buckets.period * buckets.period) & ~told & ~future
            again = self.mark[ended.row] >= ended.start
            sensor_id = ids[np.concatenate((row[~filling], ended.row[again]))]
            start = np.concatenate((start[~filling], ended.start[again]))
            order = np.lexsort((start, sensor_id))
            distinct = order[begins(sensor_id[order], start[order])]
            period = np.full(len(distinct), buckets.period)
            stale.append(StaleRollups(period, sensor_id[distinct], start[distinct]))
        return concatenate(stale)
