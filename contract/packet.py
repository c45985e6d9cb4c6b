"""The record on the topic: one packet of one device.

Version 2, which the edge writes, is a MessagePack map whose columns of readings are little-endian
binary: a batch of records becomes arrays without a Python object per reading. Version 1, which is
still read, is JSON with times in milliseconds; the first byte tells them apart. The key of a record
is `device_uuid`, so that all sensors of a device share a partition.
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
"""9998-12-31T23:59:59.999Z: a year short of what `datetime2` holds, so that sums fit too."""
MAX_TIME_US = MAX_TIME_MS * 1000 + 999
MIN_DEVICE_TIME_US = -62_135_596_800_000_000
"""0001-01-01: the first time of `datetime2`. What a device says is kept, believed or not."""
NO_TIME = -(2**63)
"""In place of a device's time, where it gave none."""
MAX_VALUE = 1e10
"""Values are stored as decimal(15,5): below this once rounded to 5 decimals."""
MAX_SEQ = 2**31 - 1
FUTURE_MS = 300_000
"""How far ahead of its arrival an event time may be and still be believed."""
BELIEVED_FROM_US = 946_684_800_000_000
"""2000-01-01: an earlier time is that of a clock that was never set."""

Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME_US)]
_PacketId = Annotated[str, msgspec.Meta(max_length=200)]
_Uuid = Annotated[str, msgspec.Meta(max_length=36)]
_JSON_BELOW = 0x80
"""A MessagePack map begins with this byte or a higher one, JSON never does."""
_UNEQUAL = "the columns of readings are not equally long"
_SPACED = 1024
"""More than a packet has readings: from one packet's first `seq` to the next one's."""


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """One packet. The lists have one entry a reading, in the order in which the device sent them.

    All times are epoch microseconds UTC. `ts` is the event time; `device_ts` is what the device
    said, None (whole or in parts) where it said nothing. For readings that the device dated, `seq`
    is 0, or 1, 2, .. for further readings of the same sensor with the same `ts`; for others it is
    `first_seq` of the packet plus the reading's place in it.
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

    `sensor_id`, `ts` and `device_ts` are int64 (`NO_TIME` where the device gave none, None where it
    gave none at all), `value` is float64, `seq` uint32. Times are epoch microseconds UTC.
    """

    v: Literal[1, 2]
    """The version in which it was written."""
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
        """N."""
        return len(self.sensor_id) // 8


def first_seq(packet_id: str) -> int:
    """The lowest `seq` of a packet's undated readings, at least 1024: two packets share it once in
    two million, and would also have to arrive in the same microsecond to share an identity.
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
    """`packet` as it travels.

    Raises:
        struct.error: a number does not fit its column, or the columns are not equally long.
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
    """What packs `count` numbers as int64, float64 and uint32."""
    return tuple(struct.Struct(f"<{count}{kind}").pack for kind in "qdI")


def unpack(record: PacketRecord) -> Packet:
    """The packet in a record, for people and for whoever looks at single readings."""
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
    """The record's value for `packet`, in version 2."""
    return _encoder.encode(pack(packet))


def encode_version_1(packet: Packet) -> bytes:
    """The same as earlier releases wrote it: times are cut to milliseconds."""
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
    """The record in a Kafka record's value, of either version.

    Whether the readings of version 2 are within their ranges is left to who takes them as arrays.

    Raises:
        RecordError: the bytes are no packet record, or its columns are not equally long.
    """
    value = value or b""
    try:
        if not value or value[0] < _JSON_BELOW:
            record = _from_version_1(_json_decoder.decode(value))
        else:
            record = _decoder.decode(value)
            if record.v != 2:
                raise RecordError("version 1 of the record is JSON, and this is MessagePack")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(str(error)) from error
    except struct.error as error:  # numbers are in range: it is the lengths of version 1
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
