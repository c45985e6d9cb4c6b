import json

from hypothesis import given
from hypothesis import strategies as st

from contract.packet import MAX_TIME_MS, Packet, decode, encode

times = st.integers(0, MAX_TIME_MS)
floats = st.floats(allow_nan=False, allow_infinity=False)
readings = st.lists(
    st.tuples(st.integers(0, 2**63 - 1), times, st.none() | times, floats, st.integers(0, 999)),
    max_size=20,
)


def packet(rows, said=True):
    sensor_id, ts, device_ts, value, seq = ([row[i] for row in rows] for i in range(5))
    return Packet(
        packet_id="p-1",
        device_id=4,
        device_uuid="00000000-0000-0000-0000-000000000001",
        received_at=1732442400000,
        sensor_id=sensor_id,
        ts=ts,
        device_ts=device_ts if said else None,
        value=value,
        seq=seq,
    )


@given(readings, st.booleans())
def test_what_is_encoded_is_decoded_to_the_bit(rows, said):
    assert decode(encode(packet(rows, said))) == packet(rows, said)


def test_the_record_is_the_one_of_the_contract():
    record = json.loads(encode(packet([(7, 1, None, 1.5, 0)], said=False)))
    assert list(record) == [
        "v", "packet_id", "device_id", "device_uuid", "received_at",
        "sensor_id", "ts", "device_ts", "value", "seq",
    ]  # fmt: skip
    assert record["v"] == 1
    assert record["device_ts"] is None
