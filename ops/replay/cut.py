"""The rows that count: those of the span, and of the sensors that were asked for."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from contract.columns import Ints, PacketColumns, taken
from contract.packet import MAX_TIME_MS
from contract.predictions import Predictions
from contract.rollups import Rollups
from ops.replay.spans import Part

_Rows = TypeVar("_Rows", Rollups, Predictions)


class Cut:
    """Leaves out the rows whose event time lies outside of their partition's span, or whose sensor
    was not asked for. None for `sensors` is all; a device's own events are no sensor's.
    """

    def __init__(self, parts: Iterable[Part], sensors: Iterable[int] | None) -> None:
        self._spans = {part.partition: (part.rows_from, part.rows_to) for part in parts}
        self._sensors = None if sensors is None else np.array(sorted(sensors), np.int64)

    def has(self, partition: int, at: int, sensor_id: int | None) -> bool:
        """Whether an event of that partition counts."""
        span = self._spans.get(partition)
        if span is None or not span[0] <= at < span[1]:
            return False
        return self._sensors is None or (sensor_id is not None and sensor_id in self._sensors)

    def readings(self, item: tuple[str, PacketColumns]) -> tuple[str, PacketColumns]:
        """By `ts`; records without readings are left."""
        key, piece = item
        keep = self._keep(key, piece.readings.ts // 1000, piece.readings.sensor_id)
        if keep is None:
            return item
        count = np.bincount(piece.record[keep], minlength=len(piece))
        return key, PacketColumns(replace(piece.records, count=count), taken(piece.readings, keep))

    def rollups(self, item: tuple[str, Rollups]) -> tuple[str, Rollups]:
        """By the start of the bucket."""
        key, rows = item
        return key, _kept(rows, self._keep(key, rows.bucket, rows.sensor_id))

    def predictions(self, item: tuple[str, Predictions]) -> tuple[str, Predictions]:
        """By `predicted_at`."""
        key, rows = item
        return key, _kept(rows, self._keep(key, rows.predicted_at, rows.sensor_id))

    def _keep(self, key: str, at: Ints, sensor_id: Ints) -> NDArray[np.bool_] | None:
        """(N,) which rows count; None: all of them."""
        begin, end = self._spans[int(key)]
        if (begin, end) == (0, MAX_TIME_MS) and self._sensors is None:
            return None
        keep = (at >= begin) & (at < end)
        if self._sensors is not None:
            keep &= np.isin(sensor_id, self._sensors)
        return keep


def _kept(rows: _Rows, keep: NDArray[np.bool_] | None) -> _Rows:
    return rows if keep is None else taken(rows, keep)
