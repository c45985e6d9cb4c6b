"""Many packets as columns: how readings travel between the steps of a flow."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_Columns = TypeVar("_Columns", bound="DataclassInstance")

NEVER = -(2**62)
"""The time of something that has not happened: before every real time, and safe to add to."""


@dataclass(frozen=True, slots=True)
class PacketColumns:
    """A piece of one partition's sequence: R records in order, and their N readings.

    A heartbeat, and a record that could not be decoded, is a record without readings. Times of
    readings and of receipt are epoch microseconds UTC, arrival times epoch milliseconds UTC.
    """

    arrival: Ints
    """(R,) the record's own arrival time, milliseconds."""
    partition: Ints
    """(R,) of the topic; -1 where there is none."""
    offset: Ints
    """(R,) where the record stands in its partition; -1 for heartbeats."""
    version: NDArray[np.int8]
    """(R,) in which the record was written."""
    device_id: Ints
    """(R,) -1 where the record has no device."""
    packet_hash: Ints
    """(R,) 64 bits that stand for the packet id."""
    received_at: Ints
    """(R,) when the edge had the packet, microseconds."""
    fresh: NDArray[np.bool_]
    """(R,) false for the repetition of an earlier packet."""
    count: Ints
    """(R,) how many readings the record has."""
    sensor_id: Ints
    """(N,)"""
    ts: Ints
    """(N,) event time, microseconds."""
    device_ts: Ints
    """(N,) what the device said, microseconds; `contract.packet.NO_TIME` where it said nothing."""
    value: Floats
    """(N,) finite."""
    seq: Ints
    """(N,)"""


def concatenate(pieces: Sequence[_Columns]) -> _Columns:
    """One structure made of `pieces`, at least one, whose fields are all arrays; in their order."""
    if len(pieces) == 1:
        return pieces[0]
    kind = type(pieces[0])
    return kind(
        **{
            field.name: np.concatenate([getattr(piece, field.name) for piece in pieces])
            for field in fields(kind)
        }
    )


_PER_RECORD = {
    "arrival", "partition", "offset", "version", "device_id", "packet_hash", "received_at", "fresh",
    "count",
}  # fmt: skip


def piece_of(piece: PacketColumns, first: int, last: int) -> PacketColumns:
    """The records from `first` up to, without, `last`, and their readings."""
    if first == 0 and last == len(piece.count):
        return piece
    starts = np.r_[0, np.cumsum(piece.count)]
    records, readings = slice(first, last), slice(starts[first], starts[last])
    return PacketColumns(
        **{
            field.name: getattr(piece, field.name)[
                records if field.name in _PER_RECORD else readings
            ]
            for field in fields(PacketColumns)
        }
    )
