"""Maps the sensors and devices of one partition to rows, and pieces of its sequence to them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Floats, Ints, PacketColumns, taken
from contract.table import Table, column, single


@dataclass(frozen=True, slots=True)
class ReadingRows:
    """A piece of the sequence: R records, and N readings of the records that are not duplicates."""

    arrival: Ints
    """(R,) the partition's arrival time at each record, never falling."""
    own_arrival: Ints
    """(R,) the arrival time of each record itself."""
    device: Ints
    """(R,) row of the sending device; -1 for heartbeats, bad records and duplicates."""
    record: Ints
    """(N,) the record of each reading, never falling."""
    row: Ints
    """(N,) the sensor's row."""
    order: NDArray[np.intp]
    """(N,) indices that sort the readings by sensor row, record and event time."""
    ts: Ints
    """(N,) event time, epoch microseconds UTC."""
    seq: Ints
    """(N,)"""
    value: Floats
    """(N,)"""
    repeated_row: Ints
    """(D,) the sensor's row of readings of duplicate packets that the device dated."""
    repeated_ts: Ints
    """(D,) their event times, epoch microseconds UTC."""


class RowIndex(Table):
    """Maps ids to rows, in the order in which they first appear."""

    id: Ints = column(np.int64, 0)

    def __init__(self) -> None:
        super().__init__()
        self._sorted: NDArray[np.intp] = np.empty(0, np.intp)
        self._sorted_ids = self.id
        """The ids for which `_sorted` is valid."""

    def of(self, ids: Ints) -> Ints:
        """(N,) the rows of `ids`; a new id gets the next row."""
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
    """(S,) row of the device of each sensor's latest record."""


class PartitionRows(Table):
    """The sensors and devices of a partition, and its arrival time."""

    arrival: int = single(NEVER)
    """The partition's arrival time, epoch milliseconds UTC."""
    duplicates: int = single(0)
    """The number of duplicate records."""
    rules_version: str = single("")
    """The version of the rules that were used last; empty before the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.sensors = SensorIndex()
        self.devices = RowIndex()

    def enter(self, piece: PacketColumns) -> ReadingRows:
        """Map a piece to rows. Devices of sensors change only in `settle_devices`."""
        records, readings, record = piece.records, piece.readings, piece.record
        arrival = np.maximum(np.maximum.accumulate(records.arrival), self.arrival)
        self.arrival = int(arrival[-1])
        self.duplicates += int((~records.fresh).sum())
        device = np.full(len(piece), -1)
        heard = np.flatnonzero(records.fresh & (records.device_id >= 0))
        device[heard] = self.devices.of(records.device_id[heard])
        repeated = taken(readings, slice(0))
        if not records.fresh.all():
            fresh = records.fresh[record]
            repeated = taken(readings, ~fresh & (readings.device_ts == readings.ts))
            record, readings = record[fresh], taken(readings, fresh)
        row = self.sensors.of(readings.sensor_id)
        return ReadingRows(
            arrival=arrival,
            own_arrival=records.arrival,
            device=device,
            record=record,
            row=row,
            order=_order(row, record, readings.ts),
            ts=readings.ts,
            seq=readings.seq,
            value=readings.value,
            repeated_row=self.sensors.of(repeated.sensor_id),
            repeated_ts=repeated.ts,
        )

    def settle_devices(self, readings: ReadingRows) -> None:
        """Set the devices of the piece's sensors, after all readers of the old ones have run."""
        self.sensors.device[readings.row] = readings.device[readings.record]


def _order(row: Ints, record: NDArray[np.intp], ts: Ints) -> NDArray[np.intp]:
    """Sort readings by row, record and event time. `record` never falls."""
    order = np.argsort(row, kind="stable")
    earlier = np.flatnonzero(np.diff(ts[order]) < 0)
    after, before = order[earlier + 1], order[earlier]
    if ((row[after] == row[before]) & (record[after] == record[before])).any():
        order = np.lexsort((ts, record, row))
    return order
