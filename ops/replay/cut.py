"""Select the rows of the span and of the requested sensors."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from contract.columns import Ints, PacketColumns, taken
from contract.packet import MAX_TIME_MS
from contract.predictions import Predictions
from contract.rollups import Rollups, StaleRollups
from ops.replay.spans import Part

_Rows = TypeVar("_Rows", Rollups, StaleRollups, Predictions)


class Cut:
    """Drops the rows whose event time is outside their partition's span, or whose sensor was not
    requested.

    None for `sensors` means all. Events of a device itself belong to no sensor.
    """

    def __init__(self, parts: Iterable[Part], sensors: Iterable[int] | None) -> None:
        self._spans = {part.partition: (part.rows_from, part.rows_to) for part in parts}
        self._sensors = None if sensors is None else np.array(sorted(sensors), np.int64)

    def has(self, partition: int, at: int, sensor_id: int | None) -> bool:
        """Whether an event of `partition` is selected."""
        span = self._spans.get(partition)
        if span is None or not span[0] <= at < span[1]:
            return False
        return self._sensors is None or (sensor_id is not None and sensor_id in self._sensors)

    def readings(self, item: tuple[str, PacketColumns]) -> tuple[str, PacketColumns]:
        """Select readings by `ts`. Records without readings are kept."""
        key, piece = item
        keep = self._keep(key, piece.readings.ts // 1000, piece.readings.sensor_id)
        if keep is None:
            return item
        count = np.bincount(piece.record[keep], minlength=len(piece))
        return key, PacketColumns(replace(piece.records, count=count), taken(piece.readings, keep))

    def rollups(self, item: tuple[str, Rollups]) -> tuple[str, Rollups]:
        """Select rollups by the start of the bucket."""
        key, rows = item
        return key, _kept(rows, self._keep(key, rows.bucket, rows.sensor_id))

    def stale(self, item: tuple[str, StaleRollups]) -> tuple[str, StaleRollups]:
        """Select stale buckets by their start."""
        key, rows = item
        return key, _kept(rows, self._keep(key, rows.bucket, rows.sensor_id))

    def predictions(self, item: tuple[str, Predictions]) -> tuple[str, Predictions]:
        """Select predictions by `predicted_at`."""
        key, rows = item
        return key, _kept(rows, self._keep(key, rows.predicted_at, rows.sensor_id))

    def _keep(self, key: str, at: Ints, sensor_id: Ints) -> NDArray[np.bool_] | None:
        """(N,) mask of the selected rows. None: all."""
        begin, end = self._spans[int(key)]
        if (begin, end) == (0, MAX_TIME_MS) and self._sensors is None:
            return None
        keep = (at >= begin) & (at < end)
        if self._sensors is not None:
            keep &= np.isin(sensor_id, self._sensors)
        return keep


def _kept(rows: _Rows, keep: NDArray[np.bool_] | None) -> _Rows:
    return rows if keep is None else taken(rows, keep)
