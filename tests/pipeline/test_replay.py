"""`iot replay` beside a flow, on its topic and its database."""

import json
import random
import sqlite3
import subprocess
import sys
from contextlib import suppress
from time import sleep, time

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from contract.packet import encode
from contract.settings import child_environment
from ops.devices import SensorSpec

from .conftest import Pipeline, wait_until
from .test_determinism import packet, swinging, tables

EVENT = (
    "event_key, sensor_id, device_id, created_at, event_type, event_code, title, message, status,"
    " resolved_at, payload"
)


@pytest.fixture
def rig(pipeline, brokers):
    """A topic that has 90 s of two devices, and a database in which the flow has put all of it."""
    ranged = {"warning": (10.0, 36.0), "critical": (5.0, 42.0)}
    for device in (1, 2):
        names = [f"sensor {sensor}" for sensor in (2 * device - 1, 2 * device)]
        pipeline.register(
            f"rig {device}", *(SensorSpec(name, "temperature", "°C", ranged) for name in names)
        )
    pipeline.rows("UPDATE alert_thresholds SET clear_after = 1")
    pipeline.start = int(time() - 300) * 1000
    produce(pipeline, swinging(pipeline.start))
    flow_over(pipeline)
    return pipeline


def produce(pipeline, log):
    brokers = pipeline.values["KAFKA_BOOTSTRAP_SERVERS"]
    topic = NewTopic(pipeline.topic, 4, config={"message.timestamp.type": "CreateTime"})
    with suppress(KafkaException):  # the embedded broker makes its topics by itself
        AdminClient({"bootstrap.servers": brokers}).create_topics([topic], request_timeout=3)[
            pipeline.topic
        ].result(10)
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0})
    for arrival, packets in log:
        for one in packets:
            producer.produce(pipeline.topic, encode(one), key=one.device_uuid, timestamp=arrival)
        producer.poll(0)
    assert producer.flush(10) == 0


def flow_over(pipeline):
    """Run the flow until it has taken all, then end it."""
    flow = pipeline.start_flow()
    pipeline.wait_stored(600)
    wait_until(lambda: pipeline.rows("SELECT count(*) FROM ml_events WHERE created_at > '2'"))
    sleep(2)
    pipeline.children.stop(flow)


def replay(pipeline, *arguments, **values):
    folder = str(pipeline.folder / "replays")
    done = pipeline.iot("replay", *arguments, "--dir", folder, "--json", **values)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def refused(pipeline, *arguments):
    done = pipeline.iot("replay", *arguments, "--dir", str(pipeline.folder / "replays"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.splitlines()[-1].split())


def events(pipeline):
    """Every event by key, without the version of the rules."""
    found = {}
    for key, *row, payload in pipeline.rows(f"SELECT {EVENT} FROM ml_events ORDER BY id"):
        content = json.loads(payload)
        content.pop("rules_version")
        found[key] = (*row, content)
    return found


def keys(report, kind):
    return sorted(one["event_key"] for one in report["events"] if one["change"] == kind)


def other_rules(pipeline):
    """A rules file with narrower warnings, and without those of sensor 4."""
    file = pipeline.folder / "other.json"
    rules = json.loads(pipeline.iot("rules").stdout)
    rows = rules["alert_thresholds"]
    for row in rows:
        if row["severity"] == "warning":
            row["threshold_value_max"] = 20.5
    rules["alert_thresholds"] = [row for row in rows if row["sensor_id"] != 4]
    file.write_text(json.dumps(rules))
    return file


def full_run(pipeline, rules):
    """Another database in which the flow has put the same log under the rules of a file."""
    other = pipeline.again()
    other.rows("DELETE FROM alert_thresholds")
    for row in json.loads(rules.read_text())["alert_thresholds"]:
        names, values = ", ".join(row), ", ".join(map(repr, row.values())).replace("None", "NULL")
        other.rows(f"INSERT INTO alert_thresholds ({names}) VALUES ({values})")
    flow_over(other)
    return other


def folders(pipeline):
    return sorted(path.name for path in (pipeline.folder / "replays").iterdir())


def test_what_a_dry_run_tells_is_the_difference_of_two_full_runs_row_by_row(rig):
    rules = other_rules(rig)
    before = tables(rig)
    report = replay(rig, "--dry-run", "--rules", str(rules))
    assert tables(rig) == before
    assert folders(rig) == []
    now, then = events(full_run(rig, rules)), events(rig)
    assert keys(report, "new") == sorted(set(now) - set(then))
    assert keys(report, "gone") == sorted(set(then) - set(now))
    both = set(now) & set(then)
    assert keys(report, "changed") == sorted(key for key in both if now[key] != then[key])
    assert report["unchanged"] == sum(now[key] == then[key] for key in both)
    assert all(keys(report, kind) for kind in ("new", "gone", "changed"))
    for one in report["events"]:
        row = (now if one["change"] != "gone" else then)[one["event_key"]]
        assert [one["event_type"], one["title"], one["message"], one["payload"]] == [
            row[3], row[5], row[6], row[9]
        ]  # fmt: skip
    by_sensor = {row["sensor_id"]: row for row in report["sensors"]}
    assert by_sensor[4]["sensor"] == "sensor 4 (rig 2)"
    for kind in ("new", "gone", "changed"):
        told = sum(row[kind] for row in by_sensor.values())
        assert told == report[kind] == len(keys(report, kind))


def test_a_replay_by_the_rules_of_each_time_finds_no_difference(rig):
    report = replay(rig, "--dry-run")
    assert [report[kind] for kind in ("new", "gone", "changed")] == [0, 0, 0]
    assert report["unchanged"] == len(events(rig)) > 12
    assert report["readings"] == 600
    assert report["records"] == 302
