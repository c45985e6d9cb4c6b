import json
import struct

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from contract.packet import (
    MAX_READINGS,
    MAX_SEQ,
    MAX_TIME_US,
    MIN_DEVICE_TIME_US,
    NO_TIME,
    Packet,
    decode,
    encode,
    encode_version_1,
    first_seq,
    unpack,
)

times = st.integers(0, MAX_TIME_US)
said = st.none() | st.integers(MIN_DEVICE_TIME_US, MAX_TIME_US)
floats = st.floats(allow_nan=False, allow_infinity=False)
readings = st.lists(
    st.tuples(st.integers(0, 2**63 - 1), times, said, floats, st.integers(0, MAX_SEQ)), max_size=20
)


def packet(rows, said=True):
    sensor_id, ts, device_ts, value, seq = ([row[i] for row in rows] for i in range(5))
    return Packet(
        packet_id="p-1",
        device_id=4,
        device_uuid="00000000-0000-0000-0000-000000000001",
        received_at=1732442400000001,
        sensor_id=sensor_id,
        ts=ts,
        device_ts=device_ts if said else None,
        value=value,
        seq=seq,
    )


@given(readings, st.booleans())
def test_encoding_and_decoding_preserves_every_bit(rows, said):
    assert unpack(decode(encode(packet(rows, said)))) == packet(rows, said)


@given(readings, st.booleans())
def test_version_1_is_decoded_with_millisecond_times(rows, said):
    rows = [(*row[:4], row[4] // 2) for row in rows]
    cut = [
        (sensor, ts // 1000 * 1000, when and when // 1000 * 1000, value, seq)
        for sensor, ts, when, value, seq in rows
    ]
    expected = msgspec.structs.replace(packet(cut, said), received_at=1732442400000000)
    assert unpack(decode(encode_version_1(packet(rows, said)))) == expected


NAMES = [
    "v", "packet_id", "device_id", "device_uuid", "received_at",
    "sensor_id", "ts", "device_ts", "value", "seq",
]  # fmt: skip


def test_the_record_has_the_documented_format():
    record = msgspec.msgpack.decode(encode(packet([(7, 1, None, 1.5, 3), (8, 2, 5, -2.5, 4)])))
    assert list(record) == NAMES
    assert record["v"] == 2
    assert record["received_at"] == 1732442400000001
    assert struct.unpack("<2q", record["sensor_id"]) == (7, 8)
    assert struct.unpack("<2q", record["ts"]) == (1, 2)
    assert struct.unpack("<2q", record["device_ts"]) == (-(2**63), 5) == (NO_TIME, 5)
    assert struct.unpack("<2d", record["value"]) == (1.5, -2.5)
    assert struct.unpack("<2I", record["seq"]) == (3, 4)
    undated = msgspec.msgpack.decode(encode(packet([(7, 1, None, 1.5, 0)], said=False)))
    assert undated["device_ts"] is None


def test_a_version_1_record_is_json():
    record = json.loads(encode_version_1(packet([(7, 1999, None, 1.5, 0)], said=False)))
    assert list(record) == NAMES
    assert record["v"] == 1
    assert record["ts"] == [1]
    assert record["device_ts"] is None


@given(st.text(max_size=200))
def test_the_seq_of_undated_readings_never_equals_that_of_dated_ones(packet_id):
    first = first_seq(packet_id)
    assert MAX_READINGS < first <= MAX_SEQ - MAX_READINGS
    assert first % 1024 == 0


def test_packets_rarely_share_the_seq_of_their_undated_readings():
    assert len({first_seq(f"packet {number}") for number in range(1000)}) > 990
