"""Packets as columns: the form in which readings pass between the steps of a flow."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Texts = NDArray[np.object_]
"""Of str."""

_Columns = TypeVar("_Columns", bound="DataclassInstance")

NEVER = -(2**62)
"""The time of something that has not happened: before any real time, and safe to add to."""


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """R records of one partition, in order. A heartbeat is a record of no device."""

    arrival: Ints
    """(R,) the record's own arrival time, epoch milliseconds UTC."""
    partition: Ints
    """(R,) of the topic; -1 if there is none."""
    offset: Ints
    """(R,) of the record in its partition; -1 for heartbeats."""
    version: NDArray[np.int8]
    """(R,) version of the record's format."""
    device_id: Ints
    """(R,) -1 if the record has no device."""
    packet_hash: Ints
    """(R,) 64-bit hash of the packet id."""
    received_at: Ints
    """(R,) when the edge received the packet, epoch microseconds UTC."""
    fresh: NDArray[np.bool_]
    """(R,) false if the record repeats an earlier packet."""
    count: Ints
    """(R,) number of readings in the record."""


@dataclass(frozen=True, slots=True)
class ReadingColumns:
    """N readings, in the order of their records. Times are epoch microseconds UTC."""

    sensor_id: Ints
    """(N,)"""
    ts: Ints
    """(N,) event time."""
    device_ts: Ints
    """(N,) the time that the device sent; `contract.packet.NO_TIME` if it sent none."""
    value: Floats
    """(N,) finite."""
    seq: Ints
    """(N,)"""


@dataclass(frozen=True, slots=True)
class PacketColumns:
    """Consecutive records of one partition. A heartbeat, or a record that could not be decoded, is
    a record without readings.
    """

    records: RecordColumns
    readings: ReadingColumns

    def __len__(self) -> int:
        """The number of records."""
        return len(self.records.count)

    @property
    def record(self) -> NDArray[np.intp]:
        """(N,) index of each reading's record, in ascending order."""
        return np.repeat(np.arange(len(self)), self.records.count)

    @classmethod
    def joined(cls, pieces: "Sequence[PacketColumns]") -> "PacketColumns":
        """Join one or more pieces, in their order."""
        if len(pieces) == 1:
            return pieces[0]
        return cls(
            concatenate([piece.records for piece in pieces]),
            concatenate([piece.readings for piece in pieces]),
        )

    def part(self, first: int, last: int) -> "PacketColumns":
        """The records from `first` up to but excluding `last`, and their readings."""
        if first == 0 and last == len(self):
            return self
        starts = np.r_[0, np.cumsum(self.records.count)]
        return PacketColumns(
            taken(self.records, slice(first, last)),
            taken(self.readings, slice(starts[first], starts[last])),
        )


def concatenate(pieces: Sequence[_Columns]) -> _Columns:
    """Join one or more structures whose fields are all arrays, in their order."""
    if len(pieces) == 1:
        return pieces[0]
    kind = type(pieces[0])
    return kind(
        **{
            field.name: np.concatenate([getattr(piece, field.name) for piece in pieces])
            for field in fields(kind)
        }
    )


def taken(columns: _Columns, rows: slice | NDArray[np.intp] | NDArray[np.bool_]) -> _Columns:
    """The structure with only these rows. Its fields must all be arrays."""
    kind = type(columns)
    return kind(**{field.name: getattr(columns, field.name)[rows] for field in fields(kind)})
