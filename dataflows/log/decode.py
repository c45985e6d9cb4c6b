"""Decodes records into columns. Records that cannot be decoded are a stream, not an exception."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.columns import Ints, PacketColumns, ReadingColumns, RecordColumns
from contract.errors import RecordError
from contract.packet import MAX_SEQ, MAX_TIME_US, MIN_DEVICE_TIME_US, NO_TIME, PacketRecord, decode
from dataflows.log.source import Records

_NO_TIMES = b"\0\0\0\0\0\0\0\x80"
"""`NO_TIME` as the bytes of a column."""
_DAY_MS = 86_400_000
_NOTHING = PacketRecord(
    v=2, packet_id="", device_id=-1, device_uuid="", received_at=0,
    sensor_id=b"", ts=b"", device_ts=None, value=b"", seq=b"",
)  # fmt: skip
_digest = partial(blake2b, digest_size=8)


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that is not a packet, byte for byte, with its place in the topic."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    error: str
    key: Any = None
    headers: tuple[Any, ...] = ()
    """(name, value) pairs."""


def decode_records(records: Records) -> Iterable[PacketColumns | BadRecord]:
    """Yields the bad records, then the columns of all records.

    A bad record keeps its place in the columns, without readings, since its arrival counts.
    """
    packets: list[PacketRecord | None] = []
    errors: dict[int, str] = {}
    if not records.values:
        packets.append(None)  # a heartbeat
    for index, value in enumerate(records.values):
        try:
            packets.append(decode(value))
        except RecordError as error:
            packets.append(None)
            errors[index] = str(error)
    where = (records.partition, records.offsets or [-1])
    columns = record_columns(records.arrivals, packets, *where)
    if (bad := _out_of_range(columns.readings)).any():
        for index in np.unique(columns.record[bad]).tolist():
            packets[index] = None
            errors[index] = "a reading's sensor, time, value or seq is out of range"
        columns = record_columns(records.arrivals, packets, *where)
    for index in sorted(errors):
        yield _bad(records, index, errors[index])
    if records.by_producers:
        columns = _believable(columns)
    yield columns


def _bad(records: Records, index: int, error: str) -> BadRecord:
    message = records.messages[index] if records.messages else None
    return BadRecord(
        records.topic,
        records.partition,
        records.offsets[index],
        records.values[index],
        error,
        None if message is None else message.key(),
        () if message is None else tuple(message.headers() or ()),
    )


def _believable(columns: PacketColumns) -> PacketColumns:
    """Corrects arrivals that producers set. An arrival one day or more after the edge received the
    packet is wrong, and would hold the partition's time forever. The edge's receive time replaces
    it, or 0 if there is none.
    """
    records = columns.records
    received = np.where(records.device_id < 0, 0, records.received_at // 1000)
    absurd = records.arrival >= received + _DAY_MS
    arrival = np.where(absurd, received, records.arrival)
    return replace(columns, records=replace(records, arrival=arrival))


def record_columns(
    arrivals: list[int],
    records: list[PacketRecord | None],
    partition: int = -1,
    offsets: list[int] | None = None,
) -> PacketColumns:
    """Records as columns; None is a record without readings."""
    each = [_NOTHING if record is None else record for record in records]
    hashes = b"".join([_digest(record.packet_id.encode()).digest() for record in each])
    return PacketColumns(
        RecordColumns(
            arrival=np.array(arrivals, np.int64),
            partition=np.full(len(each), partition, np.int64),
            offset=np.full(len(each), -1) if offsets is None else np.array(offsets, np.int64),
            version=np.array([record.v for record in each], np.int8),
            device_id=np.array([record.device_id for record in each], np.int64),
            packet_hash=np.frombuffer(hashes, ">i8").astype(np.int64),
            received_at=np.array([record.received_at for record in each], np.int64),
            fresh=np.ones(len(each), bool),
            count=np.array([record.count for record in each], np.int64),
        ),
        ReadingColumns(
            sensor_id=_ints([record.sensor_id for record in each]),
            ts=_ints([record.ts for record in each]),
            device_ts=_ints(
                [
                    _NO_TIMES * record.count if record.device_ts is None else record.device_ts
                    for record in each
                ]
            ),
            value=np.frombuffer(b"".join([record.value for record in each]), "<f8"),
            seq=np.frombuffer(b"".join([record.seq for record in each]), "<u4").astype(np.int64),
        ),
    )


def _ints(parts: list[bytes]) -> Ints:
    return np.frombuffer(b"".join(parts), "<i8")


def _out_of_range(readings: ReadingColumns) -> NDArray[np.bool_]:
    """(N,) whether a reading is out of the range that an edge writes."""
    said, ts = readings.device_ts, readings.ts
    bad: NDArray[np.bool_] = (
        (readings.sensor_id < 0)
        | (ts < 0)
        | (ts > MAX_TIME_US)
        | (((said < MIN_DEVICE_TIME_US) | (said > MAX_TIME_US)) & (said != NO_TIME))
        | ~np.isfinite(readings.value)
        | (readings.seq > MAX_SEQ)
    )
    return bad
