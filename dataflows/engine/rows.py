"""The sensors and devices of one partition as rows, and a piece of its sequence in those rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Floats, Ints, PacketColumns
from dataflows.segments import grown


@dataclass(frozen=True, slots=True)
class ReadingRows:
    """A piece of the sequence: R records, and the N readings of those that repeat no other."""

    arrival: Ints
    """(R,) the partition's arrival time at each record, never falling."""
    own_arrival: Ints
    """(R,) the records' own."""
    device: Ints
    """(R,) row of the device that was heard; -1 for heartbeats, bad and repeated records."""
    record: Ints
    """(N,) the record of each reading, never falling."""
    row: Ints
    """(N,) the sensor's row."""
    order: NDArray[np.intp]
    """(N,) the readings by their sensor's row, and those of one sensor as they came."""
    ts: Ints
    """(N,) event time, epoch microseconds UTC."""
    seq: Ints
    """(N,)"""
    value: Floats
    """(N,)"""


class RowIndex:
    """Ids to rows, in the order in which they first appear."""

    def __init__(self, ids: Ints | None = None) -> None:
        self.ids = np.empty(0, np.int64) if ids is None else ids
        self._sorted = np.argsort(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, ids: Ints) -> Ints:
        """(N,) the rows of `ids`; one that is new gets the next row."""
        rows = self._find(ids)
        if (new := rows < 0).any():
            distinct, first = np.unique(ids[new], return_index=True)
            self.ids = np.concatenate((self.ids, distinct[np.argsort(first)]))
            self._sorted = np.argsort(self.ids)
            rows = self._find(ids)
        return rows

    def _find(self, ids: Ints) -> Ints:
        if not len(self.ids):
            return np.full(len(ids), -1)
        place = np.searchsorted(self.ids, ids, sorter=self._sorted)
        rows = self._sorted[np.minimum(place, len(self._sorted) - 1)]
        return np.where(self.ids[rows] == ids, rows, -1)


class SensorRows:
    """Which sensors a partition has seen, and which device each belongs to: that of its latest
    record.
    """

    def __init__(self) -> None:
        self.arrival = NEVER
        """The partition's arrival time."""
        self._sensors = RowIndex()
        self._devices = RowIndex()
        self.device: Ints = np.empty(0, np.int64)
        """(S,) the row of each sensor's device."""
        self.duplicates = 0
        """How many records were repetitions."""

    @property
    def sensor_id(self) -> Ints:
        """(S,) by row."""
        return self._sensors.ids

    @property
    def device_id(self) -> Ints:
        """(D,) by row."""
        return self._devices.ids

    def snapshot(self) -> tuple[Any, ...]:
        """The state as plain arrays and numbers."""
        ids = (self.sensor_id.copy(), self.device_id.copy(), self.device.copy())
        return (self.arrival, *ids, self.duplicates)

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Take over the state that `snapshot` was taken of."""
        self.arrival, sensors, devices, device, self.duplicates = snapshot
        self._sensors, self._devices = RowIndex(sensors), RowIndex(devices)
        self.device = device

    def hear(self, piece: PacketColumns) -> ReadingRows:
        """The piece in rows. A sensor's device is not changed before `settle`."""
        arrival = np.maximum(np.maximum.accumulate(piece.arrival), self.arrival)
        self.arrival = int(arrival[-1])
        self.duplicates += int((~piece.fresh).sum())
        device = np.full(len(piece.count), -1)
        heard = np.flatnonzero(piece.fresh & (piece.device_id >= 0))
        device[heard] = self._devices.of(piece.device_id[heard])
        record = np.repeat(np.arange(len(piece.count)), piece.count)
        keep: slice | NDArray[np.intp] = slice(None)
        if not piece.fresh.all():
            keep = np.flatnonzero(piece.fresh[record])
            record = record[keep]
        row = self._sensors.of(piece.sensor_id[keep])
        self.device = grown(self.device, len(self._sensors), -1)
        return ReadingRows(
            arrival=arrival,
            own_arrival=piece.arrival,
            device=device,
            record=record,
            row=row,
            order=np.argsort(row, kind="stable"),
            ts=piece.ts[keep],
            seq=piece.seq[keep],
            value=piece.value[keep],
        )

    def settle(self, heard: ReadingRows) -> None:
        """Take over the devices of the piece's sensors, once everybody has seen the old ones."""
        self.device[heard.row] = heard.device[heard.record]
