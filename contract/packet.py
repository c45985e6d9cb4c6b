"""The record on the topic: one packet of one device.

The edge writes version 2: a MessagePack map whose columns of readings are little-endian binary, so
that a batch of records becomes arrays without a Python object per reading. Version 1 is still read:
JSON with times in milliseconds. The first byte distinguishes them. The key of a record is
`device_uuid`, so that all sensors of a device share a partition.
"""

import struct
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Literal

import msgspec

from contract.errors import RecordError

MAX_READINGS = 1000
MAX_TIME_MS = 253_370_764_799_999
"""9998-12-31T23:59:59.999Z: one year below the maximum of `datetime2`, so that sums fit too."""
MAX_TIME_US = MAX_TIME_MS * 1000 + 999
MIN_DEVICE_TIME_US = -62_135_596_800_000_000
"""0001-01-01: the minimum of `datetime2`. Device times are stored even if they are implausible."""
NO_TIME = -(2**63)
"""Stands for a device time that was not sent."""
MAX_VALUE = 1e10
"""Values are stored as decimal(15,5): they must be below this after rounding to 5 decimals."""
MAX_SEQ = 2**31 - 1
FUTURE_MS = 300_000
"""How far an event time may be ahead of its arrival and still be used."""
BELIEVED_FROM_US = 946_684_800_000_000
"""2000-01-01: an earlier time comes from a clock that was never set."""

Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME_US)]
_PacketId = Annotated[str, msgspec.Meta(max_length=200)]
_Uuid = Annotated[str, msgspec.Meta(max_length=36)]
_JSON_BELOW = 0x80
"""A MessagePack map starts with this byte or a higher one; JSON never does."""
_UNEQUAL = "the columns of readings have different lengths"
_SPACED = 1024
"""Distance between the first `seq` of two packets; more than a packet can have readings."""


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """One packet. The lists have one entry per reading, in the order in which the device sent them.

    All times are epoch microseconds UTC. `ts` is the event time. `device_ts` is the time that the
    device sent: None for a reading, or for the whole packet, if it sent none. For readings with a
    device time, `seq` is 0, then 1, 2, .. for further readings of the same sensor with the same
    `ts`. For other readings it is `first_seq` of the packet plus the reading's index.
    """

    packet_id: str
    device_id: int
    device_uuid: str
    received_at: int
    sensor_id: list[int]
    ts: list[int]
    device_ts: list[int | None] | None
    value: list[float]
    seq: list[int]


class PacketRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A packet as it travels: columns of N readings as little-endian bytes.

    `sensor_id`, `ts` and `device_ts` are int64, `value` is float64, `seq` is uint32. `device_ts` is
    `NO_TIME` for a reading without a device time, and None if no reading has one. Times are epoch
    microseconds UTC.
    """

    v: Literal[1, 2]
    """The version of the format."""
    packet_id: _PacketId
    device_id: Id
    device_uuid: _Uuid
    received_at: _Time
    sensor_id: bytes
    ts: bytes
    device_ts: bytes | None
    value: bytes
    seq: bytes

    @property
    def count(self) -> int:
        """N, the number of readings."""
        return len(self.sensor_id) // 8


def first_seq(packet_id: str) -> int:
    """The lowest `seq` of a packet's readings without a device time, at least 1024. Two packets
    share it once in two million, and would also have to arrive in the same microsecond to collide.
    """
    digest = blake2b(packet_id.encode(), digest_size=4).digest()
    return (int.from_bytes(digest, "little") % (2**21 - 1) + 1) * _SPACED


class _Version1(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON record: columns as lists, times in epoch milliseconds UTC."""

    v: Literal[1] = 1
    packet_id: _PacketId
    device_id: Id
    device_uuid: _Uuid
    received_at: Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME_MS)]
    sensor_id: list[Id]
    ts: list[Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME_MS)]]
    device_ts: (
        list[Annotated[int, msgspec.Meta(ge=MIN_DEVICE_TIME_US // 1000, le=MAX_TIME_MS)] | None]
        | None
    )
    value: list[float]
    seq: list[Annotated[int, msgspec.Meta(ge=0, le=2**30)]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(PacketRecord)
_json_encoder = msgspec.json.Encoder()
_json_decoder = msgspec.json.Decoder(_Version1)


def pack(packet: Packet, version: Literal[1, 2] = 2) -> PacketRecord:
    """Encode the columns of `packet`.

    Raises:
        struct.error: a number does not fit its column, or the columns have different lengths.
    """
    int64, float64, uint32 = _columns(len(packet.value))
    said = packet.device_ts
    times = None if said is None else [NO_TIME if when is None else when for when in said]
    return PacketRecord(
        v=version,
        packet_id=packet.packet_id,
        device_id=packet.device_id,
        device_uuid=packet.device_uuid,
        received_at=packet.received_at,
        sensor_id=int64(*packet.sensor_id),
        ts=int64(*packet.ts),
        device_ts=None if times is None else int64(*times),
        value=float64(*packet.value),
        seq=uint32(*packet.seq),
    )


@lru_cache(MAX_READINGS)
def _columns(count: int) -> tuple[Callable[..., bytes], ...]:
    """Functions that pack `count` numbers as int64, float64 and uint32."""
    return tuple(struct.Struct(f"<{count}{kind}").pack for kind in "qdI")


def unpack(record: PacketRecord) -> Packet:
    """The packet in a record, for display and for code that handles single readings."""
    count = record.count
    said = None if record.device_ts is None else struct.unpack(f"<{count}q", record.device_ts)
    return Packet(
        packet_id=record.packet_id,
        device_id=record.device_id,
        device_uuid=record.device_uuid,
        received_at=record.received_at,
        sensor_id=list(struct.unpack(f"<{count}q", record.sensor_id)),
        ts=list(struct.unpack(f"<{count}q", record.ts)),
        device_ts=None if said is None else [None if when == NO_TIME else when for when in said],
        value=list(struct.unpack(f"<{count}d", record.value)),
        seq=list(struct.unpack(f"<{count}I", record.seq)),
    )


def encode(packet: Packet) -> bytes:
    """The value of the Kafka record for `packet`, in version 2."""
    return _encoder.encode(pack(packet))


def encode_version_1(packet: Packet) -> bytes:
    """The value as earlier releases wrote it. Times are cut to milliseconds."""
    said = packet.device_ts
    return _json_encoder.encode(
        _Version1(
            packet_id=packet.packet_id,
            device_id=packet.device_id,
            device_uuid=packet.device_uuid,
            received_at=packet.received_at // 1000,
            sensor_id=packet.sensor_id,
            ts=[when // 1000 for when in packet.ts],
            device_ts=said and [None if when is None else when // 1000 for when in said],
            value=packet.value,
            seq=packet.seq,
        )
    )


def decode(value: bytes | None) -> PacketRecord:
    """Decode the value of a Kafka record, of either version.

    The caller has to check the ranges of version 2 readings, which it can do on whole arrays.

    Raises:
        RecordError: the bytes are not a packet record, or its columns have different lengths.
    """
    value = value or b""
    try:
        if not value or value[0] < _JSON_BELOW:
            record = _from_version_1(_json_decoder.decode(value))
        else:
            record = _decoder.decode(value)
            if record.v != 2:
                raise RecordError("the record has version 1, which is JSON, but it is MessagePack")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(str(error)) from error
    except struct.error as error:  # the numbers are in range, so the lengths differ
        raise RecordError(_UNEQUAL) from error
    size = len(record.sensor_id)
    device_ts = size if record.device_ts is None else len(record.device_ts)
    if size % 8 or not size == len(record.ts) == len(record.value) == 2 * len(record.seq) == (
        device_ts
    ):
        raise RecordError(_UNEQUAL)
    return record


def _from_version_1(old: _Version1) -> PacketRecord:
    said = old.device_ts
    packet = Packet(
        packet_id=old.packet_id,
        device_id=old.device_id,
        device_uuid=old.device_uuid,
        received_at=old.received_at * 1000,
        sensor_id=old.sensor_id,
        ts=[when * 1000 for when in old.ts],
        device_ts=said and [None if when is None else when * 1000 for when in said],
        value=old.value,
        seq=old.seq,
    )
    return pack(packet, 1)
