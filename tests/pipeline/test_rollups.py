"""After quiet, the rollups are what SQL computes from the stored readings, whatever the order of
arrival, repeats and restarts.
"""

from collections import defaultdict
from datetime import UTC, datetime
from random import Random
from time import time
from typing import Any

import pytest
from confluent_kafka import Producer

from contract.packet import encode
from ops.devices import SensorSpec
from tests.databases import plain

from .conftest import create_topic, on_each_engine
from .test_determinism import packet

SECONDS = {"sensor_readings_1m": 60, "sensor_readings_5m": 300, "sensor_readings_1h": 3600}
HOURS, EVERY_MS, FLUSH_MS = 3, 11_000, 240_000
DEVICES = (1, 2)


def story(random, start):
    """(arrival, packet) in order of arrival. Each device sends what it measured in the last minutes
    at once. Some of that is held back for up to two hours, sent again in other packets, sent again
    whole under another id, or dated in the future.
    """
    for device in DEVICES:
        log, number = [], 0

        def send(at, readings, log=log, device=device):
            log.append((at, packet(device, f"{device}.{len(log)}", at, readings)))

        for at in range(start + FLUSH_MS, start + HOURS * 3_600_000, FLUSH_MS):
            readings = []
            for ts in range(at - FLUSH_MS, at, EVERY_MS):
                for sensor in (2 * device - 1, 2 * device):
                    number += 1
                    value = round(20 + number / 7, 3)
                    readings.append((sensor, ts + random.randrange(1000), value))
            random.shuffle(readings)
            part = random.randrange(2, len(readings))
            fate = random.random()
            if fate < 0.2:
                send(at + random.randrange(7_200_000), readings)
            elif fate < 0.4:
                send(at, readings[:part])
                send(at + random.randrange(7_200_000), readings[part - 2 :])
            elif fate < 0.5:
                send(at, readings)
                send(at + random.randrange(10_000), readings)
            elif fate < 0.6:
                send(at - 1_000_000, readings)  # its clock is fast
            else:
                send(at, readings)
        yield sorted(log, key=lambda entry: entry[0])


def rows_of(pipeline, query) -> list[list[Any]]:
    return [[plain(cell) for cell in row] for row in pipeline.rows(query)]


def of_readings(pipeline):
    """The rows that the tables of rollups should have, computed from the stored readings."""
    buckets = defaultdict(list)
    query = "SELECT sensor_id, event_timestamp, value FROM sensor_readings"
    for sensor, at, value in rows_of(pipeline, query):
        second = datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()
        for table, period in SECONDS.items():
            buckets[table, sensor, second // period * period].append((second, value))
    found = {}
    for key, readings in buckets.items():
        values = [value for _, value in readings]
        mean = pytest.approx(sum(values) / len(values), abs=2e-5)
        found[key] = (len(values), mean, min(values), max(values), max(readings)[1])
    return found


def stored(pipeline):
    """The rows of the tables of rollups."""
    found = {}
    for table in SECONDS:
        query = (
            "SELECT sensor_id, bucket_ts, samples, avg_value, min_value, max_value, last_value "
            f"FROM {table}"
        )
        for sensor, at, *row in rows_of(pipeline, query):
            second = datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()
            found[table, sensor, second] = tuple(row)
    return found


@on_each_engine
@pytest.mark.parametrize("seed", range(2))
def test_rollups_are_what_sql_computes_from_the_readings(pipeline, brokers, seed):
    random = Random(seed)
    for device in DEVICES:
        names = [f"sensor {sensor}" for sensor in (2 * device - 1, 2 * device)]
        pipeline.register(f"rig {device}", *(SensorSpec(name, "power", "W", {}) for name in names))
    create_topic(brokers, pipeline.topic, 4, "CreateTime")
    pipeline.values["IF_CREATE_TIME"] = "accept"
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
    start = int(time() / 3600 - 8) * 3_600_000 + 1_800_000
    logs = list(story(random, start))
    end = start + 8 * 3_600_000  # a broker refuses times that are an hour ahead
    flow = None
    for turn in range(4):
        for log in logs:
            for at, one in log[turn * len(log) // 4 : (turn + 1) * len(log) // 4]:
                producer.produce(pipeline.topic, encode(one), key=one.device_uuid, timestamp=at)
        if turn == 3:  # after all else: the devices may share a partition
            for device in DEVICES:
                one = packet(device, "end", end, [])
                producer.produce(pipeline.topic, encode(one), key=one.device_uuid, timestamp=end)
        assert producer.flush(30) == 0
        if flow is not None:
            pipeline.kill(flow)
        flow = pipeline.start_flow()
        if turn % 2:
            pipeline.wait_taken()
    pipeline.wait_taken()
    pipeline.children.stop(flow)
    expected = of_readings(pipeline)
    assert len(expected) > 400
    assert stored(pipeline) == expected
