"""The same log gives the same output, whatever the batches, kills and speed."""

import json
import pickle
import random
from collections import Counter
from time import sleep, time

import msgspec
import pytest
from confluent_kafka import Producer

from contract.packet import Packet, encode, encode_version_1
from contract.settings import Settings
from dataflows.engine.duplicates import DuplicateLogic
from dataflows.engine.engine import Engine, Times
from ml.online import PartitionDetector
from ops.devices import SensorSpec
from ops.dry_run import DryRun, read_records

from ..dataflows.streams import heartbeat, long_stream
from .conftest import create_topic, on_each_engine

RULES = {
    "alert_thresholds": [
        {"id": number, "sensor_id": sensor, "name": f"range {number}", "severity": severity,
         "condition_type": "out_of_range", "threshold_value_min": low, "threshold_value_max": high}
        for number, (sensor, severity, low, high) in enumerate(
            [(s, *bounds) for s in (1, 2, 3, 4)
             for bounds in (("warning", 10.0, 36.0), ("critical", 5.0, 42.0))], 1
        )
    ]
}  # fmt: skip


def packet(device, packet_id, at, readings):
    return Packet(
        packet_id=packet_id,
        device_id=device,
        device_uuid=f"device {device}",
        received_at=1000 * at,
        sensor_id=[sensor for sensor, _, _ in readings],
        ts=[1000 * ts for _, ts, _ in readings],
        device_ts=None,
        value=[value for _, _, value in readings],
        seq=[readings[:n].count(reading) for n, reading in enumerate(readings)],
    )


def lines(seed):
    """A log of two partitions, with heartbeats, as `iot dry-run` reads it."""
    records = long_stream(seed)
    records.append(heartbeat(max(record[0] for record in records) + 400_000))  # all panes close
    for number, (arrival, device, packet_id, readings) in enumerate(records):
        if device is None:
            yield json.dumps({"partition": 0, "arrival": arrival}).encode()
            yield json.dumps({"partition": 1, "arrival": arrival}).encode()
        else:
            value = json.loads(encode_version_1(packet(device, packet_id, arrival, readings)))
            line = {"partition": device % 2, "offset": number, "arrival": arrival, "value": value}
            yield json.dumps(line).encode()


def printed(run):
    lines = [msgspec.json.encode(line) for line in run.lines()]
    return b"\n".join([*lines, repr(run.summary()).encode()])


def resume(run):
    """Resume like a killed process: from pickled snapshots."""
    for partition in run._partitions.values():
        kept = pickle.dumps((partition.duplicates.snapshot(), partition.engine.snapshot()))
        duplicates, engine = pickle.loads(kept)  # noqa: S301
        partition.duplicates = DuplicateLogic(duplicates)
        partition.engine = Engine(Times(), PartitionDetector())
        partition.engine.restore(engine)


@pytest.mark.parametrize("seed", range(5))
def test_batches_and_kills_do_not_change_the_output_of_a_dry_run(seed):
    whole = DryRun(RULES, Settings(), windows=True)
    whole.run(read_records(lines(seed), "log"), 4096)
    expected = printed(whole)
    assert expected.count(b'"kind":"window"') > 300
    assert expected.count(b'"kind":"event"') > 3
    for batch in (1, 7):
        run = DryRun(RULES, Settings(), windows=True)
        run.run(read_records(lines(seed), "log"), batch)
        assert printed(run) == expected
    log = list(lines(seed))
    kills = sorted(random.Random(seed).sample(range(1, len(log)), 5))
    run = DryRun(RULES, Settings(), windows=True)
    for first, last in zip([0, *kills], [*kills, len(log)], strict=True):
        run.run(read_records(log[first:last], "log"), random.Random(first).choice([1, 7, 4096]))
        resume(run)
    assert printed(run) == expected


TABLES = {
    "sensor_readings": "sensor_id, value, timestamp, device_timestamp, event_timestamp, seq",
    "sensor_readings_latest": "sensor_id, latest_value, latest_timestamp",
    "sensor_readings_1m": "sensor_id, bucket_ts, avg_value, min_value, max_value, samples",
    "sensor_readings_5m": "sensor_id, bucket_ts, avg_value, min_value, max_value, samples",
    "sensor_readings_1h": "sensor_id, bucket_ts, avg_value, min_value, max_value, samples",
    "predictions": "sensor_id, device_id, predicted_at, target_timestamp, predicted_value",
    "ml_events": "event_key, device_id, sensor_id, event_type, event_code, title, message, status,"
    " created_at, resolved_at, payload",
    "alerts": "sensor_id, severity, status, triggered_value, triggered_at, resolved_at",
    "alert_notifications": "event_key, source, severity, title, message, created_at, is_read,"
    " triggered_value",
}


def tables(pipeline):
    return {
        table: sorted(pipeline.rows(f"SELECT {columns} FROM {table}"), key=repr)
        for table, columns in TABLES.items()
    }


def swinging(start):
    """150 moments, 100 ms apart: (arrival, packets) of two devices whose four sensors leave their
    ranges every other two seconds. The last records close and judge everything that is open."""
    noise = random.Random(11)
    for turn in range(150):
        at = start + 100 * turn
        far = (0.0, 18.0, 0.0, 25.0)[turn // 20 % 4]
        yield at, [
            packet(
                device, f"{device}.{turn}", at,
                [(sensor, at - noise.choice([0, 0, 0, 1537]), round(20 + far + noise.random(), 3))
                 for sensor in (2 * device - 1, 2 * device)],
            )
            for device in (1, 2)
        ]  # fmt: skip
    yield at + 90_000, [packet(device, f"{device}.end", at, []) for device in (1, 2)]


@on_each_engine
def test_a_log_read_live_with_kills_and_read_at_once_gives_the_same_tables(pipeline, brokers):
    """The flow is killed five times while the log comes; then another one takes it all at once.
    A dry run of it finds the same events.
    """
    ranged = {"warning": (10.0, 36.0), "critical": (5.0, 42.0)}
    for device in (1, 2):
        names = [f"sensor {sensor}" for sensor in (2 * device - 1, 2 * device)]
        pipeline.register(
            f"rig {device}", *(SensorSpec(name, "temperature", "°C", ranged) for name in names)
        )
    pipeline.rows("UPDATE alert_thresholds SET clear_after = 1")
    create_topic(brokers, pipeline.topic, 4, "CreateTime")
    pipeline.values["IF_CREATE_TIME"] = "accept"
    producer = Producer(
        {"bootstrap.servers": brokers, "linger.ms": 0, "enable.idempotence": True}  # in this order
    )
    log = list(swinging(int(time() + 1) * 1000))
    kills = random.Random(log[0][0]).sample(range(10, 140), 5)
    flow = pipeline.start_flow()
    for turn, (arrival, packets) in enumerate(log):
        sleep(max(0.0, min(arrival, log[-2][0]) / 1000 - time()))
        for packet in packets:
            producer.produce(
                pipeline.topic, encode(packet), key=packet.device_uuid, timestamp=arrival
            )
        producer.poll(0)
        if turn in kills:
            pipeline.kill(flow)
            flow = pipeline.start_flow()
    assert producer.flush(60) == 0
    dry, events = dry_run_of(log, pipeline)
    assert len(events) > 12
    disturbed = tables_when(pipeline, flow)
    calm = pipeline.again()
    calm.forget_progress()
    assert tables_when(calm, calm.start_flow()) == disturbed, f"killed at {sorted(kills)}"
    assert sorted(row[0] for row in disturbed["ml_events"]) == events
    told = Counter(row[1] for row in disturbed["alert_notifications"])
    assert told == {"ml_event": len(disturbed["ml_events"]), "alert": len(disturbed["alerts"])}
    assert disturbed["alerts"]
    assert disturbed["sensor_readings_1m"]
    versions = {json.loads(row[-1])["rules_version"] for row in disturbed["ml_events"]}
    assert versions == {dry.summary().rules_version}


def tables_when(pipeline, flow):
    """The tables when the flow has taken all of the log, and has ended."""
    pipeline.wait_taken()
    pipeline.children.stop(flow)
    return tables(pipeline)


def dry_run_of(log, pipeline):
    """A dry run of the log under the pipeline's rules, and the keys of the events it finds."""
    columns = ("id", "sensor_id", "name", "condition_type", "threshold_value_min",
               "threshold_value_max", "severity", "clear_after")  # fmt: skip
    rows = pipeline.rows(f"SELECT {', '.join(columns)} FROM alert_thresholds")
    dry = DryRun(
        {"alert_thresholds": [dict(zip(columns, row, strict=True)) for row in rows]}, Settings()
    )
    records = [
        {
            "partition": packet.device_id,
            "arrival": at,
            "value": json.loads(encode_version_1(packet)),
        }
        for at, packets in log
        for packet in packets
    ]
    dry.run(read_records((json.dumps(record).encode() for record in records), "log"), 50)
    events = [line["event_key"] for line in dry.lines() if line["kind"] == "event"]
    return dry, sorted(events)
