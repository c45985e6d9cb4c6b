import json
from time import thread_time
from uuid import UUID

import pytest

from contract.errors import PacketError
from contract.packet import MIN_DEVICE_TIME_US, decode, encode, first_seq, unpack
from ingest_edge.packets import Device, legacy_packet, legacy_readings, packet_of
from ingest_edge.requests import LegacyBody, LegacyReading, PacketBody, parse
from ingest_edge.times import time_us

NOW = 1732442400_000_000
"""2024-11-24 10:00 UTC, in microseconds."""
DEVICE_UUID, S1, S2 = (str(UUID(int=n)) for n in (1, 101, 102))
DEVICE = Device(3, DEVICE_UUID, {S1: 7, S2: 8})


def body(*readings, **more):
    return json.dumps({"device_uuid": DEVICE_UUID, "readings": list(readings), **more}).encode()


def reading(value=1.5, sensor=S1, **more):
    return {"sensor_uuid": sensor, "value": value, **more}


def accepted(*readings, **more):
    return packet_of(parse(body(*readings, **more), PacketBody)[0], DEVICE, NOW)


def test_without_a_time_the_event_time_is_the_arrival_time():
    packet = accepted(reading(), reading(2, S2)).packet
    assert (packet.ts, packet.device_ts, packet.sensor_id) == ([NOW, NOW], None, [7, 8])
    assert (packet.device_id, packet.device_uuid, packet.received_at) == (3, DEVICE_UUID, NOW)


def test_a_reading_uses_its_own_time_or_else_the_time_of_the_packet():
    packet = accepted(reading(ts=NOW / 1e6 - 5), reading(), ts="2024-11-24T09:59:59.25Z").packet
    assert packet.ts == packet.device_ts == [NOW - 5_000_000, NOW - 750_000]


def test_a_time_more_than_five_minutes_ahead_is_stored_but_not_used():
    packet = accepted(reading(ts=NOW / 1e6 + 300), reading(ts=NOW / 1e6 + 300.000001)).packet
    assert packet.ts == [NOW + 300_000_000, NOW]
    assert packet.device_ts == [NOW + 300_000_000, NOW + 300_000_001]


def test_a_time_before_2000_is_stored_but_not_used_and_causes_a_warning():
    first, last = 946_684_800, 946_684_799.999999
    old = "0001-01-01T00:00:00Z"
    readings = (reading(), reading(ts=last), reading(ts=first), reading(ts=old))
    result = accepted(*readings, ts=NOW / 1e6)
    assert result.packet.ts == [NOW, NOW, first * 10**6, NOW]
    assert result.packet.device_ts == [NOW, 946_684_799_999_999, first * 10**6, MIN_DEVICE_TIME_US]
    assert unpack(decode(encode(result.packet))) == result.packet
    assert result.not_believed == 2
    (warning,) = result.warnings
    assert warning.startswith("readings[1] and 1 more: its time is before 2000-01-01")


def test_a_warning_gives_the_index_in_the_body_not_in_the_packet():
    (warning,) = accepted(reading(sensor=str(UUID(int=5))), reading(ts=5)).warnings
    assert warning.startswith("readings[1]: ")


def test_a_time_may_have_any_of_three_names_in_packets_and_legacy_bodies():
    for name in ("ts", "timestamp", "sensor_ts"):
        result = accepted(reading(), reading(**{name: 1e9}), **{name: 2e9 - 1e9 + 1})
        assert result.packet.ts == [10**15 + 10**6, 10**15]
        single = parse(json.dumps({"sensor_id": 7, "value": 1, name: 1e9}).encode(), LegacyReading)[
            0
        ]
        assert legacy_readings(single)[0].device_ts == 10**15
        many = {"readings": [{"sensor_id": 7, "value": 1}], name: 1e9}
        assert (
            legacy_readings(parse(json.dumps(many).encode(), LegacyBody)[0])[0].device_ts == 10**15
        )


def test_readings_of_one_sensor_with_the_same_time_are_numbered():
    readings = (reading(1), reading(2), reading(3, S2), reading(4))
    assert accepted(*readings, ts=NOW / 1e6).packet.seq == [0, 1, 0, 2]


def test_readings_without_a_usable_time_get_numbers_unique_to_their_packet():
    readings = (reading(1), reading(2, ts=5.0), reading(3, ts=NOW / 1e6), reading(4))
    packet = accepted(*readings, packet_id="a").packet
    first = first_seq("a")
    assert packet.seq == [first, first + 1, 0, first + 3]
    assert accepted(reading(1), reading(1), packet_id="a").packet.seq == [first, first + 1]


def test_unknown_sensors_are_listed_once_and_the_rest_is_accepted():
    other = str(UUID(int=999))
    result = accepted(reading(1, other), reading(2), reading(3, other.upper()))
    assert (result.packet.value, result.unknown_sensors) == ([2.0], [other])


def test_uuids_may_be_in_upper_case():
    assert accepted(reading(1, S1.upper())).packet.sensor_id == [7]


def test_strings_that_look_like_field_names_are_accepted():
    content = body(reading(note="value", tags=["ts"]), packet_id='a "value" and a "ts"', ts=None)
    assert packet_of(parse(content, PacketBody)[0], DEVICE, NOW).packet.value == [1.5]


def test_a_packet_without_any_known_sensor_is_refused():
    with pytest.raises(PacketError, match="none of these sensors"):
        accepted(reading(1, str(UUID(int=999))))


def test_a_retry_has_the_same_id_only_if_every_reading_has_a_device_time():
    then = NOW / 1e6 - 5
    dated = [accepted(reading(ts=then)).packet.packet_id for _ in range(2)]
    undated = [accepted(reading()).packet.packet_id for _ in range(2)]
    half = [accepted(reading(), reading(ts=then)).packet.packet_id for _ in range(2)]
    unset = [accepted(reading(ts=5.0)).packet.packet_id for _ in range(2)]
    ahead = [accepted(reading(ts=then + 7200)).packet.packet_id for _ in range(2)]
    given = accepted(reading(), packet_id="mine").packet.packet_id
    assert dated[0] == dated[1]
    assert undated[0] != undated[1]
    assert half[0] != half[1]
    assert ahead[0] == ahead[1]
    assert unset[0] != unset[1]  # the same second of another boot
    assert given == "mine"


WRONG = [
    (b"", "the body is empty"),
    (b"[]", "Expected `object`"),
    (b"\xff", "not valid JSON"),
    (body(reading(ts="zone")).replace(b"zone", b"\xff"), "not valid JSON"),
    (b"[" * 100_000, "Expected `object`"),
    (b'{"a":' * 100_000, "not valid JSON"),
    (body(), "readings: "),
    (body(*[reading()] * 1001), "readings: "),
    (body(reading("1")), "readings[0].value: "),
    (body(reading(), reading(value=True)), "readings[1].value: "),
    (body(reading(float("nan"))), "not valid JSON"),
    (body(reading(1)).replace(b": 1,", b": 1e999,").replace(b": 1}", b": 1e999}"), "value"),
    (body(reading(1e10)), "readings[0].value: "),
    (body(reading(9999999999.999999)), "readings[0].value: "),
    (body(reading(sensor="no")), "readings[0].sensor_uuid: Invalid UUID"),
    (body(reading(ts="yesterday")), "readings[0].ts: not an ISO-8601 time"),
    (body(reading(), ts="0001-01-01T00:00:00+23:00"), "ts: not between"),
    (body(reading(), ts=-1e11), "ts: not between"),
    (body(reading(), ts=1e300), "ts: not between"),
    (body(reading(), ts=[]), "ts: "),
    (body(reading(), packet_id=""), "packet_id: "),
    (body(reading(), packet_id="x" * 201), "packet_id: "),
    (body(reading()).replace(b"device_uuid", b"device"), "device_uuid"),
    (body(reading()).replace(b'"value"', b'"value": 1, "value"'), "the same name twice"),
    (body(reading()).replace(b'"value"', b'"value": 1, "v\\u0061lue"'), "the same name twice"),
    (body(reading(ts=5)).replace(b'"ts"', b'"ts": 4, "ts"'), "the same name twice"),
    (body(reading(), ts=5).replace(b'"ts"', b'"ts": null, "ts"'), "the same name twice"),
    (body(reading(ts=NOW // 1000)), "send epoch seconds, not milliseconds"),
    (body(reading(ts=NOW)), "send epoch seconds, not microseconds"),
    (body(reading(ts=5, timestamp=6)), "readings[0].ts: timestamp is set too"),
    (body(reading(), sensor_ts=5, timestamp=6), "timestamp: sensor_ts is set too"),
]


@pytest.mark.parametrize(("content", "words"), WRONG, ids=range(len(WRONG)))
def test_an_error_names_the_field_and_index_but_not_the_value(content, words):
    with pytest.raises(PacketError) as refused:
        packet_of(parse(content, PacketBody)[0], DEVICE, NOW)
    assert refused.value.status == 422
    assert words in str(refused.value)
    assert "yesterday" not in str(refused.value)


@pytest.mark.parametrize(
    ("when", "us"),
    [
        ("2024-11-24T10:00:00Z", NOW),
        ("2024-11-24T10:00:00", NOW),
        ("2024-11-24 10:00:00", NOW),
        ("2024-11-24T11:00:00+01:00", NOW),
        ("2024-11-24T10:00:00.123999Z", NOW + 123_999),
        ("1970-01-01T00:00:00.001Z", 1000),
        ("2024-11-24t10:00:00z", NOW),
        (" 2024-11-24T10:00:00Z ", NOW),
        ("2024-11-24T10:00:00,5Z", NOW + 500_000),
        ("2016-12-31T23:59:60Z", 1483228800_000_000),
        ("2017-01-01T00:59:60.5+01:00", 1483228800_500_000),
        ("20161231T235960Z", 1483228800_000_000),
        (1732442400, NOW),
        (1732442400.123, NOW + 123_000),
        (1732442400.000001, NOW + 1),
        ("2024-11-24T10:00:00.0000019Z", NOW + 1),
    ],
)
def test_times_are_iso_8601_or_epoch_seconds_in_utc(when, us):
    assert time_us(when, "ts") == us


def test_legacy_readings_become_the_packet_of_their_device():
    content = b'{"readings":[{"sensor_id":7,"value":1},{"sensor_id":8,"value":2,"timestamp":1e9}]}'
    checked = legacy_readings(parse(content, LegacyBody)[0])
    packet = legacy_packet(DEVICE, checked, NOW).packet
    assert (packet.sensor_id, packet.ts, packet.device_ts) == (
        [7, 8],
        [NOW, 10**15],
        [None, 10**15],
    )


def test_an_invalid_legacy_reading_is_named_too():
    single, _ = parse(b'{"sensor_id":7,"value":1,"timestamp":"x"}', LegacyReading)
    with pytest.raises(PacketError, match=r"^timestamp: "):
        legacy_readings(single)
    many = b'{"readings":[{"sensor_id":7,"value":1,"ts":"x"}]}'
    with pytest.raises(PacketError, match=r"^readings\[0\]\.ts: "):
        legacy_readings(parse(many, LegacyBody)[0])


FINE = [
    {"note": "x"},
    {"unit": "C", "quality": 3, "value2": 1},
    {"tst": None, "ts": 1e9},
    {"TS": 1, "timestamp": 1e9},
]
ODD = [
    ({"time": 1e9}, "a time"),
    ({"TimeStamp": 1e9}, "a time"),
    ({"sensorTs": 1e9}, "a time"),
    ({"date_time": "x"}, "a time"),
]


@pytest.mark.parametrize("more", FINE, ids=range(len(FINE)))
def test_an_unknown_field_causes_no_warning_if_nothing_is_missing(more):
    assert parse(body(reading(**more)), PacketBody)[1] == []
    assert parse(body(reading()), PacketBody)[1] == []


@pytest.mark.parametrize(("more", "word"), ODD, ids=range(len(ODD)))
def test_an_unknown_field_that_resembles_a_missing_one_causes_a_warning(more, word):
    (warning,) = parse(body(reading(), reading(**more), reading(**more)), PacketBody)[1]
    assert warning.startswith(f"readings[1] and 1 more: a field that looks like {word}")
    assert warning.count("TimeStamp") == warning.count("date_time") == 0
    (top,) = parse(body(reading(), **more), PacketBody)[1]
    assert top.startswith(f"a field that looks like {word}")


def test_a_misspelt_packet_id_causes_a_warning():
    assert "packet_id" in parse(body(reading(), packetId="x"), PacketBody)[1][0]
    assert parse(body(reading(), packetId="x", packet_id="y"), PacketBody)[1] == []


def test_the_search_for_misspelt_names_is_bounded():
    many = body(reading(**{f"tims{n}": 1 for n in range(3000)}))
    start = thread_time()
    parse(body(reading(**{f"n{n}": 1 for n in range(20)})), PacketBody)
    few, start = thread_time() - start, thread_time()
    parse(many, PacketBody)
    assert thread_time() - start < 50 * few
