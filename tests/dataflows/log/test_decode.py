import math
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.packet import NO_TIME, Packet, PacketRecord, encode, encode_version_1
from dataflows.log.decode import BadRecord, decode_records
from dataflows.log.source import Records

GOOD = Packet(
    packet_id="p",
    device_id=3,
    device_uuid="u",
    received_at=9_000_000,
    sensor_id=[7, 8],
    ts=[8_000_000, 8_500_000],
    device_ts=[None, 8_500_000],
    value=[1.5, -2.0],
    seq=[0, 1],
)


def decoded(*values):
    offsets = list(range(10, 10 + len(values)))
    return list(
        decode_records(Records("t", 2, offsets, [1_000 + o for o in offsets], list(values)))
    )


@pytest.mark.parametrize(("write", "version"), [(encode, 2), (encode_version_1, 1)])
def test_records_become_columns(write, version):
    (columns,) = decoded(write(GOOD), write(GOOD))
    assert columns.records.version.tolist() == [version] * 2
    assert columns.records.count.tolist() == [2, 2]
    assert columns.records.arrival.tolist() == [1_010, 1_011]
    assert columns.readings.sensor_id.tolist() == [7, 8, 7, 8]
    assert columns.readings.device_ts.tolist() == [NO_TIME, 8_500_000] * 2
    assert columns.records.received_at.tolist() == [9_000_000] * 2
    assert columns.readings.value.tolist() == [1.5, -2.0] * 2
    assert columns.records.packet_hash[0] == columns.records.packet_hash[1] != 0
    assert columns.records.fresh.tolist() == [True, True]


OLD = encode_version_1(GOOD)


def corrupt(**columns):
    """The good record of version 2 with these columns replaced."""
    record = msgspec.msgpack.decode(encode(GOOD), type=PacketRecord)
    return msgspec.msgpack.encode(msgspec.structs.replace(record, **columns))


BAD = [
    b"\x00\xff garbage",
    b"\x80",
    encode(GOOD)[:-1],
    encode(GOOD) + b"\x00",
    corrupt(v=1),
    corrupt(v=3),
    corrupt(packet_id=7),
    corrupt(device_id=-1),
    corrupt(received_at=-1),
    corrupt(sensor_id=b"\x07"),
    corrupt(ts=bytes(8)),
    corrupt(seq=bytes(16)),
    corrupt(device_ts=b""),
    corrupt(value=struct.pack("<2d", 1.0, math.nan)),
    corrupt(value=struct.pack("<2d", math.inf, 1.0)),
    corrupt(sensor_id=struct.pack("<2q", 7, -1)),
    corrupt(ts=struct.pack("<2q", -1, 8)),
    corrupt(ts=struct.pack("<2q", 8, 2**60)),
    corrupt(device_ts=struct.pack("<2q", 8, NO_TIME + 1)),
    corrupt(seq=struct.pack("<2I", 0, 2**31)),
    OLD.replace(b'"p"', b'"\xff"'),
    b"",
    None,
    b"{}",
    b"[" * 100_000,
    OLD.replace(b'"v":1', b'"v":2'),
    OLD.replace(b"[7,8]", b"[7]"),
    OLD.replace(b"1.5", b"NaN"),
    OLD.replace(b"1.5", b"1e999"),
    OLD.replace(b"8000", b"-1"),
    OLD.replace(b"8000", b"99999999999999999999"),
    OLD + OLD,
    encode(GOOD) + encode(GOOD),
]


@pytest.mark.parametrize("value", BAD, ids=range(len(BAD)))
def test_a_bad_record_is_separated_and_the_others_continue(value):
    bad, columns = decoded(encode(GOOD), value, OLD)
    assert isinstance(bad, BadRecord)
    assert (bad.topic, bad.partition, bad.offset, bad.value) == ("t", 2, 11, value)
    assert bad.error
    assert columns.records.count.tolist() == [2, 0, 2]
    assert len(columns.readings.sensor_id) == 4


def test_a_heartbeat_is_a_record_without_readings():
    (columns,) = decode_records(Records("t", 2, [], [5_000], []))
    assert columns.records.arrival.tolist() == [5_000]
    assert columns.records.count.tolist() == [0]


@given(st.sampled_from([encode(GOOD), OLD]), st.floats(0, 1, exclude_max=True), st.integers(0, 255))
def test_a_record_with_any_corrupt_byte_is_decoded_or_refused(value, place, byte):
    changed = bytearray(value)
    changed[int(place * len(value))] = byte
    *bad, columns = decoded(bytes(changed))
    assert len(bad) == (columns.records.count[0] == 0)
