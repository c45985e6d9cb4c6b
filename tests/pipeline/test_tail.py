"""`iot tail readings`: what is on the topic, for people and for programs."""

import json
from time import time

from confluent_kafka import Producer

from contract.packet import Packet, encode, encode_version_1

from .conftest import create_topic

AT = 1_767_225_600_000_123
"""2026-01-01, and 123 microseconds."""


def packet(packet_id, ts, device_ts):
    return Packet(
        packet_id=packet_id, device_id=3, device_uuid="d", received_at=AT, sensor_id=[7, 8],
        ts=ts, device_ts=device_ts, value=[1.5, -2.0], seq=[0, 0],
    )  # fmt: skip


def test_records_of_both_versions_are_shown_with_one_line_per_reading(pipeline, brokers):
    create_topic(brokers, pipeline.topic, 1, "CreateTime")
    producer = Producer({"bootstrap.servers": brokers})
    for value in (
        encode(packet("a", [AT, AT], [AT, None])),
        encode_version_1(packet("b", [AT, AT], None)),
        b"garbage",
    ):
        producer.produce(pipeline.topic, value, partition=0, timestamp=int(time() * 1000))
    assert producer.flush(10) == 0

    told = pipeline.iot("tail", "readings", "--from-beginning", "--wait", "3")
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0] == "2026-01-01T00:00:00.000123Z  device 3  sensor 7  1.5  (0:0)"
    assert lines[1] == "2026-01-01T00:00:00.000123Z  device 3  sensor 8  -2  undated  (0:0)"
    assert lines[2] == "2026-01-01T00:00:00.000000Z  device 3  sensor 7  1.5  undated  (0:1)"
    assert len(lines) == 5
    assert "not a packet: " in lines[4]
    assert lines[4].endswith("(0:2)")

    told = pipeline.iot("tail", "readings", "--from-beginning", "--count", "1", "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) | {"arrival": None} == {
        "ts": "2026-01-01T00:00:00.000123Z", "device_id": 3, "sensor_id": 7, "value": 1.5,
        "seq": 0, "device_ts": "2026-01-01T00:00:00.000123Z",
        "received_at": "2026-01-01T00:00:00.000123Z", "arrival": None, "packet_id": "a", "v": 2,
        "partition": 0, "offset": 0,
    }  # fmt: skip
