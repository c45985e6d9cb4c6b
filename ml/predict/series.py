"""The newest readings of many sensors, one matrix row per sensor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints

_MINUTE_MS = 60_000.0


@dataclass(frozen=True, slots=True)
class Series:
    """At most P readings of each of S sensors, oldest first, starting at column 0.

    Columns after a sensor's last reading are padding; their values are 0.
    """

    sensor_id: Ints
    """(S,)"""
    count: Ints
    """(S,) number of readings; may be 0."""
    newest_id: Ints
    """(S,) id of the newest reading's row; 0 without readings."""
    ts: Ints
    """(S, P) event time, epoch milliseconds UTC."""
    value: Floats
    """(S, P) in the sensor's unit."""

    @property
    def there(self) -> NDArray[np.bool_]:
        """(S, P) whether there is a reading; False for padding."""
        return np.arange(self.ts.shape[1]) < self.count[:, None]

    @property
    def minutes(self) -> Floats:
        """(S, P) minutes since the sensor's first reading here; 0 for padding."""
        minutes: Floats = (self.ts - self.ts[:, :1]) / _MINUTE_MS
        return np.where(self.there, minutes, 0.0)

    @property
    def last(self) -> Ints:
        """(S,) column of the newest reading; 0 without readings."""
        return np.maximum(self.count - 1, 0)


def series(sensor_ids: Sequence[int], rows: Sequence[Sequence[Any]], most: int) -> Series:
    """The newest `most` readings of each sensor.

    `rows` are (sensor_id, id, ts, seq, value) in any order; `ts` is in epoch microseconds UTC. At
    equal times, the higher seq is newer, then the higher id.

    >>> newest = series([7, 8], [(8, 3, 60, 0, 1.5), (8, 2, 0, 0, 0.5), (8, 1, -1, 0, 9.0)], 2)
    >>> newest.count.tolist(), newest.newest_id.tolist(), newest.value[1].tolist()
    ([0, 2], [0, 3], [0.5, 1.5])
    """
    ids = np.array(sensor_ids, np.int64)
    table = np.array([tuple(row) for row in rows], np.float64).reshape(-1, 5)
    sensor, row_id, ts, seq = table[:, :4].astype(np.int64).T
    order = np.lexsort((row_id, seq, ts, sensor))
    sensor, row_id, ts, value = sensor[order], row_id[order], ts[order], table[order, 4]
    end = np.searchsorted(sensor, ids, "right")
    count = np.minimum(end - np.searchsorted(sensor, ids, "left"), most)
    width = max(int(count.max(initial=0)), 1)
    there = np.arange(width) < count[:, None]
    taken = ((end - count)[:, None] + np.arange(width))[there]
    matrix_ts, matrix_value = np.zeros(there.shape, np.int64), np.zeros(there.shape)
    matrix_ts[there], matrix_value[there] = ts[taken] // 1000, value[taken]
    newest = np.zeros(len(ids), np.int64)
    newest[count > 0] = row_id[end[count > 0] - 1]
    return Series(ids, count, newest, matrix_ts, matrix_value)
