"""Buckets of rollups whose rows have to be computed again from the stored readings.

Readings that are stored but in no pane of the live lane are missing in the buckets that the engine
emits: late readings, those dated in the future, and those that a repeated packet brings under other
identities. The rows of their buckets are computed again once they are stored. A bucket that the
live lane emits after such a reading is computed again too.
"""

import numpy as np

from contract.columns import NEVER, Ints
from contract.rollups import ROLLUP_MS, Rollups, StaleRollups
from contract.table import Table, column
from dataflows.segments import begins


class StaleBuckets(Table):
    """The newest reading of each sensor that is in no pane of the live lane, one row per sensor."""

    mark: Ints = column(np.int64, NEVER)
    """Event time, epoch milliseconds UTC."""

    def step(
        self, row: Ints, ts: Ints, emitted: Rollups, emitted_row: Ints, ids: Ints
    ) -> StaleRollups:
        """The stale buckets of a piece. `row` and `ts` (N,), microseconds, are of readings in no
        live pane, `emitted_row` (B,) are the rows of the emitted buckets, and `ids` (S,) the sensor
        of each row.
        """
        self.grow(len(ids))
        ms = ts // 1000
        np.maximum.at(self.mark, row, ms)
        again = np.flatnonzero(self.mark[emitted_row] >= emitted.bucket)
        period = np.concatenate((np.repeat(ROLLUP_MS, len(row)), emitted.period[again]))
        sensor_id = np.concatenate((np.tile(ids[row], len(ROLLUP_MS)), emitted.sensor_id[again]))
        bucket = np.concatenate((np.tile(ms, len(ROLLUP_MS)), emitted.bucket[again]))
        bucket = bucket // np.maximum(period, 1) * period
        order = np.lexsort((bucket, sensor_id, period))
        distinct = order[begins(period[order], sensor_id[order], bucket[order])]
        return StaleRollups(period[distinct], sensor_id[distinct], bucket[distinct])
