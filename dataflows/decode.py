"""Records to columns. What cannot be decoded is a stream of its own, not an exception."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from contract.columns import NEVER, PacketColumns
from contract.errors import RecordError
from contract.packet import Packet, decode
from dataflows.source import Records


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that is no packet, byte for byte, and where it stood."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    error: str


def decode_records(records: Records) -> Iterable[PacketColumns | BadRecord]:
    """The columns of the records, after the bad ones among them.

    A bad record keeps its place in the columns, without readings: its arrival counts.
    """
    packets: list[Packet | None] = []
    if not records.values:
        packets.append(None)  # a heartbeat
    for offset, value in zip(records.offsets, records.values, strict=True):
        try:
            packets.append(decode(value))
        except RecordError as error:
            packets.append(None)
            yield BadRecord(records.topic, records.partition, offset, value, str(error))
    yield packet_columns(records.arrivals, packets)


def packet_columns(arrivals: list[int], packets: list[Packet | None]) -> PacketColumns:
    """Packets as columns; None stands for a record without readings."""
    count: list[int] = []
    device_id: list[int] = []
    packet_hash: list[int] = []
    received_at: list[int] = []
    sensor_id: list[int] = []
    ts: list[int] = []
    device_ts: list[int] = []
    value: list[float] = []
    seq: list[int] = []
    for packet in packets:
        if packet is None:
            count.append(0)
            device_id.append(-1)
            packet_hash.append(0)
            received_at.append(0)
            continue
        readings = len(packet.sensor_id)
        count.append(readings)
        device_id.append(packet.device_id)
        packet_hash.append(_hash(packet.packet_id))
        received_at.append(packet.received_at)
        sensor_id += packet.sensor_id
        ts += packet.ts
        value += packet.value
        seq += packet.seq
        if packet.device_ts is None:
            device_ts += [NEVER] * readings
        else:
            device_ts += [NEVER if said is None else said for said in packet.device_ts]
    return PacketColumns(
        arrival=np.array(arrivals, np.int64),
        device_id=np.array(device_id, np.int64),
        packet_hash=np.array(packet_hash, np.int64),
        received_at=np.array(received_at, np.int64),
        fresh=np.ones(len(count), bool),
        count=np.array(count, np.int64),
        sensor_id=np.array(sensor_id, np.int64),
        ts=np.array(ts, np.int64),
        device_ts=np.array(device_ts, np.int64),
        value=np.array(value, np.float64),
        seq=np.array(seq, np.int64),
    )


def _hash(packet_id: str) -> int:
    return int.from_bytes(blake2b(packet_id.encode(), digest_size=8).digest(), signed=True)
