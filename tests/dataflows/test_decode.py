import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.columns import NEVER
from contract.packet import Packet, encode
from dataflows.decode import BadRecord, decode_records
from dataflows.source import Records

GOOD = Packet(
    packet_id="p",
    device_id=3,
    device_uuid="u",
    received_at=9_000,
    sensor_id=[7, 8],
    ts=[8_000, 8_500],
    device_ts=[None, 8_500],
    value=[1.5, -2.0],
    seq=[0, 1],
)


def decoded(*values):
    offsets = list(range(10, 10 + len(values)))
    return list(
        decode_records(Records("t", 2, offsets, [1_000 + o for o in offsets], list(values)))
    )


def test_records_become_columns():
    (columns,) = decoded(encode(GOOD), encode(GOOD))
    assert columns.count.tolist() == [2, 2]
    assert columns.arrival.tolist() == [1_010, 1_011]
    assert columns.sensor_id.tolist() == [7, 8, 7, 8]
    assert columns.device_ts.tolist() == [NEVER, 8_500] * 2
    assert columns.received_at.tolist() == [9_000] * 2
    assert columns.value.tolist() == [1.5, -2.0] * 2
    assert columns.packet_hash[0] == columns.packet_hash[1] != 0
    assert columns.fresh.tolist() == [True, True]


BAD = [
    b"\x00\xff garbage",
    encode(GOOD).replace(b'"p"', b'"\xff"'),
    b"",
    None,
    b"{}",
    b"[" * 100_000,
    encode(GOOD).replace(b'"v":1', b'"v":2'),
    encode(GOOD).replace(b"[7,8]", b"[7]"),
    encode(GOOD).replace(b"1.5", b"NaN"),
    encode(GOOD).replace(b"1.5", b"1e999"),
    encode(GOOD).replace(b"8000", b"-1"),
    encode(GOOD).replace(b"8000", b"99999999999999999999"),
    encode(GOOD) + encode(GOOD),
]


@pytest.mark.parametrize("value", BAD, ids=range(len(BAD)))
def test_a_bad_record_stands_apart_and_the_others_go_on(value):
    bad, columns = decoded(encode(GOOD), value, encode(GOOD))
    assert isinstance(bad, BadRecord)
    assert (bad.topic, bad.partition, bad.offset, bad.value) == ("t", 2, 11, value)
    assert bad.error
    assert columns.count.tolist() == [2, 0, 2]
    assert len(columns.sensor_id) == 4


def test_a_heartbeat_is_a_record_without_readings():
    (columns,) = decode_records(Records("t", 2, [], [5_000], []))
    assert columns.arrival.tolist() == [5_000]
    assert columns.count.tolist() == [0]


@given(st.integers(0, len(encode(GOOD)) - 1), st.integers(0, 255))
def test_whatever_byte_is_spoilt_the_record_is_read_or_refused(place, byte):
    spoilt = bytearray(encode(GOOD))
    spoilt[place] = byte
    *bad, columns = decoded(bytes(spoilt))
    assert len(bad) == (columns.count[0] == 0)
