"""The sensors and devices of one partition as rows, and a piece of its sequence in those rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Floats, Ints, PacketColumns, taken
from contract.table import Table, column, single


@dataclass(frozen=True, slots=True)
class ReadingRows:
    """A piece of the sequence in rows: R records, and N readings of those that repeat no other."""

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


class RowIndex(Table):
    """Ids to rows, in the order in which they first appear."""

    id: Ints = column(np.int64, 0)

    def __init__(self) -> None:
        super().__init__()
        self._sorted: NDArray[np.intp] = np.empty(0, np.intp)
        self._sorted_ids = self.id
        """The ids that `_sorted` sorts."""

    def of(self, ids: Ints) -> Ints:
        """(N,) the rows of `ids`; one that is new gets the next row."""
        rows = self._find(ids)
        if (new := rows < 0).any():
            distinct, first = np.unique(ids[new], return_index=True)
            self.append(id=distinct[np.argsort(first)])
            rows = self._find(ids)
        return rows

    def _find(self, ids: Ints) -> Ints:
        if not len(self.id):
            return np.full(len(ids), -1)
        if self._sorted_ids is not self.id:
            self._sorted_ids, self._sorted = self.id, np.argsort(self.id)
        place = np.searchsorted(self.id, ids, sorter=self._sorted)
        rows = self._sorted[np.minimum(place, len(self._sorted) - 1)]
        return np.where(self.id[rows] == ids, rows, -1)


class SensorIndex(RowIndex):
    """The sensors that a partition has seen."""

    device: Ints = column(np.int64, -1)
    """(S,) the row of each sensor's device: that of its latest record."""


class PartitionRows(Table):
    """Which sensors and devices a partition has seen, and how far its time is."""

    arrival: int = single(NEVER)
    """The partition's arrival time, epoch milliseconds UTC."""
    duplicates: int = single(0)
    """How many records were repetitions."""

    def __init__(self) -> None:
        super().__init__()
        self.sensors = SensorIndex()
        self.devices = RowIndex()

    def enter(self, piece: PacketColumns) -> ReadingRows:
        """The piece in rows. A sensor's device is not changed before `settle_devices`."""
        records, readings, record = piece.records, piece.readings, piece.record
        arrival = np.maximum(np.maximum.accumulate(records.arrival), self.arrival)
        self.arrival = int(arrival[-1])
        self.duplicates += int((~records.fresh).sum())
        device = np.full(len(piece), -1)
        heard = np.flatnonzero(records.fresh & (records.device_id >= 0))
        device[heard] = self.devices.of(records.device_id[heard])
        if not records.fresh.all():
            keep = np.flatnonzero(records.fresh[record])
            record, readings = record[keep], taken(readings, keep)
        row = self.sensors.of(readings.sensor_id)
        return ReadingRows(
            arrival=arrival,
            own_arrival=records.arrival,
            device=device,
            record=record,
            row=row,
            order=np.argsort(row, kind="stable"),
            ts=readings.ts,
            seq=readings.seq,
            value=readings.value,
        )

    def settle_devices(self, readings: ReadingRows) -> None:
        """Take over the devices of the piece's sensors, once everybody has seen the old ones."""
        self.sensors.device[readings.row] = readings.device[readings.record]
