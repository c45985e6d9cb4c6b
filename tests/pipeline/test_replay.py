"""`iot replay` next to a flow, on the same topic and database."""

import json
import random
import re
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Event
from time import sleep, time

import pytest
from confluent_kafka import Producer

from contract.packet import encode
from contract.settings import child_environment
from ops.devices import SensorSpec

from .conftest import Pipeline, create_topic, wait_until
from .test_determinism import packet, swinging, tables

EVENT = (
    "event_key, sensor_id, device_id, created_at, event_type, event_code, title, message, status,"
    " resolved_at, payload"
)


@pytest.fixture
def rig(pipeline, brokers):
    """A topic with 90 s of two devices, and a database in which the flow has stored all of it."""
    ranged = {"warning": (10.0, 36.0), "critical": (5.0, 42.0)}
    for device in (1, 2):
        names = [f"sensor {sensor}" for sensor in (2 * device - 1, 2 * device)]
        pipeline.register(
            f"rig {device}", *(SensorSpec(name, "temperature", "°C", ranged) for name in names)
        )
    pipeline.rows("UPDATE alert_thresholds SET clear_after = 1")
    pipeline.start = int(time() - 3900) * 1000  # so the last 5m and 1h rollups are closed by now
    used = produce(pipeline, swinging(pipeline.start))
    (free, *_) = set(range(4)) - used
    now = int(time() * 1000)  # this record moves the flow to the current time
    produce(pipeline, [(now, [packet(0, "now", now, [])])], free)
    flow_over(pipeline)
    return pipeline


def produce(pipeline, log, partition=-1):
    """Put the log on the topic. -1: each device's own partition. Returns the partitions used."""
    brokers = pipeline.values["KAFKA_BOOTSTRAP_SERVERS"]
    create_topic(brokers, pipeline.topic, 4, "CreateTime")
    pipeline.values["IF_CREATE_TIME"] = "accept"
    used: set[int] = set()
    producer = Producer(
        {"bootstrap.servers": brokers, "linger.ms": 0, "enable.idempotence": True}  # in this order
    )
    for arrival, packets in log:
        for sent in packets:
            producer.produce(
                pipeline.topic, encode(sent), sent.device_uuid, partition, timestamp=arrival,
                on_delivery=lambda _, message: used.add(message.partition() or 0),
            )  # fmt: skip
        producer.poll(0)
    assert producer.flush(60) == 0
    return used


def flow_over(pipeline):
    """Run the flow until it has read everything, then stop it."""
    pipeline.forget_progress()
    flow = pipeline.start_flow()
    pipeline.wait_taken()
    pipeline.children.stop(flow)
    assert pipeline.rows("SELECT count(*) FROM sensor_readings") == [(600,)]


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
    by_key = {}
    for key, *row, payload in pipeline.rows(f"SELECT {EVENT} FROM ml_events ORDER BY id"):
        content = json.loads(payload)
        content.pop("rules_version")
        by_key[key] = (*row, content)
    return by_key


def keys(report, kind):
    return sorted(event["event_key"] for event in report["events"] if event["change"] == kind)


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
    """Another database in which the flow has stored the same log with the rules of a file."""
    other = pipeline.again()
    other.rows("DELETE FROM alert_thresholds")
    for row in json.loads(rules.read_text())["alert_thresholds"]:
        names, values = ", ".join(row), ", ".join(map(repr, row.values())).replace("None", "NULL")
        other.rows(f"INSERT INTO alert_thresholds ({names}) VALUES ({values})")
    flow_over(other)
    return other


def folders(pipeline):
    return sorted(path.name for path in (pipeline.folder / "replays").iterdir())


def test_a_dry_run_reports_the_difference_of_two_full_runs_row_by_row(rig):
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
    for event in report["events"]:
        row = (now if event["change"] != "gone" else then)[event["event_key"]]
        assert [event["event_type"], event["title"], event["message"], event["payload"]] == [
            row[3], row[5], row[6], row[9]
        ]  # fmt: skip
    by_sensor = {row["sensor_id"]: row for row in report["sensors"]}
    assert by_sensor[4]["sensor"] == "sensor 4 (rig 2)"
    for kind in ("new", "gone", "changed"):
        told = sum(row[kind] for row in by_sensor.values())
        assert told == report[kind] == len(keys(report, kind))


def test_the_tables_show_the_sensors_and_events_that_differ(rig):
    folder = str(rig.folder / "replays")
    arguments = ("replay", "--dry-run", "--dir", folder, "--rules", str(other_rules(rig)))
    report = replay(rig, *arguments[1:2], *arguments[4:])
    shown = [line.split() for line in rig.iot(*arguments, COLUMNS="300").stdout.splitlines()]
    assert ["sensor", "new", "gone", "changed", "unchanged"] in shown
    for row in report["sensors"]:
        counts = [str(row[name]) for name in ("new", "gone", "changed", "unchanged")]
        differs = any(row[name] for name in ("new", "gone", "changed"))
        assert ([*row["sensor"].split(), *counts] in shown) == differs
    singles = [line for line in shown if line and line[0] in ("new", "gone", "changed")]
    assert len(singles) == min(20, len(report["events"])) > 12
    kinds = ("new", "gone", "changed")
    total = " ".join([*(f"{report[kind]} {kind}," for kind in kinds), f"{report['unchanged']} un"])
    assert any(" ".join(line).startswith(total) for line in shown)


def test_a_replay_by_the_rules_of_each_time_finds_no_difference(rig):
    report = replay(rig, "--dry-run")
    assert [report[kind] for kind in ("new", "gone", "changed")] == [0, 0, 0]
    assert report["unchanged"] == len(events(rig)) > 12
    assert report["readings"] == 600
    assert report["records"] == 303


def test_into_live_the_tables_become_those_of_a_flow_under_the_other_rules(rig):
    rules = other_rules(rig)
    other = full_run(rig, rules)
    silent = read(rig)
    rig.rows("DELETE FROM sensor_readings_1m")
    rig.rows("DELETE FROM sensor_readings WHERE id % 2 = 0")
    told = replay(rig, "--into", "live", "--rules", str(rules))
    assert all(told[kind] for kind in ("new", "gone", "changed"))
    stored = events(rig)
    superseded = {key for key, row in stored.items() if row[7] == "superseded"}
    assert sorted(superseded) == keys(told, "gone")
    assert {key: row for key, row in stored.items() if key not in superseded} == events(other)
    for table in ("sensor_readings", "sensor_readings_1m", "predictions"):
        assert tables(rig)[table] == tables(other)[table]
    assert folders(rig) == []
    assert read(rig) == silent | {*keys(told, "new"), *keys(told, "gone")}

    after = tables(rig)
    again = replay(rig, "--into", "live", "--rules", str(rules))
    assert [again[kind] for kind in ("new", "gone", "changed")] == [0, 0, 0]
    assert again["unchanged"] == len(events(other))
    assert tables(rig) == after

    back = replay(rig, "--into", "live", "--notify")
    assert keys(back, "new") == sorted(superseded)
    holding = {key: row for key, row in events(rig).items() if row[7] != "superseded"}
    assert keys(back, "gone") == keys(told, "new")
    flow_over(again_under_the_first_rules := rig_again(rig))
    assert holding == events(again_under_the_first_rules)
    unread = dict(rig.rows("SELECT event_key, is_read FROM alert_notifications"))
    assert {key for key in superseded if unread[key]} == superseded & silent
    assert superseded - silent


def read(rig):
    """The events whose notifications are read."""
    statement = "SELECT event_key FROM alert_notifications WHERE is_read AND source = 'ml_event'"
    return {key for (key,) in rig.rows(statement)}


def rig_again(rig):
    """A third database with the first one's rules."""
    (rig.folder / "third").mkdir()
    third = Pipeline(
        rig.folder / "third", rig.values["KAFKA_BOOTSTRAP_SERVERS"], rig.children, rig.topic
    )
    third.values["IF_CREATE_TIME"] = "accept"
    third.rows(f"ATTACH '{rig.folder / 'iot.db'}' AS old")
    for table in ("devices", "sensors", "alert_thresholds"):
        third.rows(f"INSERT INTO main.{table} SELECT * FROM old.{table}")
    third.rows("DETACH old")
    return third


def test_only_rows_of_the_span_and_of_the_sensors_are_selected(rig):
    rules = other_rules(rig)
    whole = replay(rig, "--dry-run", "--rules", str(rules))
    begin, end = rig.start + 5_000, rig.start + 10_000
    span = ("--from", str(begin / 1000), "--to", str(end / 1000))
    part = replay(rig, "--dry-run", "--rules", str(rules), *span)
    assert part["events"] == [event for event in whole["events"] if begin <= event["at"] < end]
    assert 0 < len(part["events"]) < len(whole["events"])
    some = replay(rig, "--dry-run", "--rules", str(rules), "--sensors", "4,1")
    assert some["events"] == [event for event in whole["events"] if event["sensor_id"] in (1, 4)]
    assert {event["sensor_id"] for event in some["events"]} == {1, 4}

    before = tables(rig)
    # rollups with late readings are computed from all readings of their minute
    inside = f"event_timestamp >= '{iso(begin)}' AND event_timestamp < '{iso(end)}'"
    rig.rows(f"DELETE FROM sensor_readings WHERE {inside}")
    rig.rows("DELETE FROM predictions")
    rig.rows("DELETE FROM sensor_readings_1m")
    replay(rig, "--into", "live", *span, "--sensors", "1")
    stored = tables(rig)
    restored = [row for row in stored["sensor_readings"] if iso(begin) <= row[4] < iso(end)]
    assert restored == [
        row for row in before["sensor_readings"] if row[0] == 1 and iso(begin) <= row[4] < iso(end)
    ]
    assert restored
    for table, at in (("predictions", 2), ("sensor_readings_1m", 1)):
        assert stored[table] == [
            row for row in before[table] if row[0] == 1 and iso(begin) <= row[at] < iso(end)
        ]


def iso(ms):
    ((text,),) = sqlite3.connect(":memory:").execute(
        "SELECT strftime('%Y-%m-%d %H:%M:%f', ? / 1000.0, 'unixepoch')", (ms,)
    )
    return text


def test_an_offset_is_the_arrival_time_of_that_record_in_each_partition(rig):
    rules = other_rules(rig)
    log = [arrival for arrival, packets in swinging(rig.start) for _ in packets[:1]]
    by_time = ("--from", str(log[50] / 1000), "--to", str(log[100] / 1000))
    told = replay(rig, "--dry-run", "--rules", str(rules), "--from", "50", "--to", "100")
    assert told["events"] == replay(rig, "--dry-run", "--rules", str(rules), *by_time)["events"]
    assert told["events"]
    beyond = refused(rig, "--dry-run", "--from", "100000")
    assert beyond == f"iot: the topic {rig.topic} has no records in this span: nothing to replay"


def test_a_margin_limits_what_is_read_if_the_broker_can_look_up_times(rig, given_brokers):
    begin, end = rig.start + 8_000, rig.start + 10_000
    span = ("--from", str(begin / 1000), "--to", str(end / 1000))
    rules = ("--rules", str(other_rules(rig)))
    if given_brokers is None:
        message = refused(rig, "--dry-run", *span, *rules, "--margin", "1s")
        assert message.startswith("iot: --margin: this broker cannot look up offsets by time")
        return
    whole = replay(rig, "--dry-run", *span, *rules)
    part = replay(rig, "--dry-run", *span, *rules, "--margin", "3s")
    assert whole["records"] == 303
    assert part["records"] == 160  # of two devices, ten a second
    assert [event["event_key"] for event in part["events"]] == [
        event["event_key"] for event in whole["events"]
    ]
    all_of_it = replay(rig, "--dry-run", *span, *rules, "--margin", "2h")
    assert all_of_it["records"] == 303
    assert all_of_it["events"] == whole["events"]


def test_a_named_run_is_a_database_with_all_rows_of_the_span(rig):
    rules = other_rules(rig)
    other = full_run(rig, rules)
    before = tables(rig)
    told = replay(rig, "--into", "june", "--rules", str(rules))
    assert tables(rig) == before
    file = rig.folder / "replays" / "june" / "iot.db"
    assert told["folder"] == str(file.parent)
    assert sorted(path.name for path in file.parent.iterdir()) == ["iot.db", "run.json"]
    copy = sqlite3.connect(file)

    def select(columns, table):
        return sorted(copy.execute(f"SELECT {columns} FROM {table}").fetchall())

    for table, columns in (
        ("sensor_readings", "sensor_id, value, event_timestamp, seq"),
        ("sensor_readings_1m", "sensor_id, bucket_ts, avg_value, samples"),
        ("predictions", "sensor_id, predicted_at, predicted_value"),
        ("ml_events", "event_key, status, resolved_at, created_at, title, message, payload"),
        ("alert_notifications", "event_key, title, is_read, triggered_value"),
        ("alert_thresholds", "sensor_id, severity, threshold_value_max"),
        ("sensors", "id, name, device_id, unit"),
    ):
        own = "" if table != "alert_notifications" else " WHERE source = 'ml_event'"
        assert select(columns, table + own) == sorted(
            other.rows(f"SELECT {columns} FROM {table}{own}")
        ), table
    assert "is complete" in refused(rig, "--into", "june", "--rules", str(rules))
    message = refused(rig, "--into", "june")
    assert "has a run with other arguments (rules was '" in message
    assert "Traceback" not in message


def long_log(start):
    """320 000 readings more: more than a sink takes while its database is away."""
    noise = random.Random(5)
    for turn in range(4_000):
        at, packets = start + 100 * turn, []
        for device in (1, 2):
            readings = [
                (sensor, at + 5 * n, noise.choice([1.0, 2.0]))
                for n in range(20)
                for sensor in (2 * device - 1, 2 * device)
            ]
            packets.append(packet(device, f"{device} more {turn}", at, readings))
        yield at, packets


def copied(pipeline, name, table, columns):
    file = pipeline.folder / "replays" / name / "iot.db"
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    rows = connection.execute(f"SELECT {columns} FROM {table}").fetchall()
    connection.close()
    return sorted(rows, key=repr)


def test_a_stopped_and_a_killed_replay_continue_with_the_same_command(rig):
    produce(rig, long_log(rig.start + 100_000))
    rules = str(other_rules(rig))
    whole = replay(rig, "--into", "whole", "--rules", rules)
    assert whole["records_now"] == whole["records"] == 8_303
    arguments = ("--into", "cut", "--rules", rules)
    folder = str(rig.folder / "replays")
    command = [sys.executable, "-m", "ops.cli", "replay", *arguments, "--dir", folder]

    def started():
        return subprocess.Popen(
            command,
            env=child_environment(rig.values),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def locked(process):
        """The run's database, away for the sinks, whereupon the flow stands still half way; and
        what it has said until then.
        """
        wait_until((rig.folder / "replays" / "cut" / "run.json").exists)
        lock = sqlite3.connect(rig.folder / "replays" / "cut" / "iot.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        said = [process.stderr.readline()]
        while "retrying" not in said[-1]:
            assert said[-1], "it ended, and has not found the database locked"
            said.append(process.stderr.readline())
        return lock, "".join(said)

    killed = started()
    lock, _ = locked(killed)
    killed.kill()
    killed.communicate()
    lock.close()
    stopped = started()
    lock, begun = locked(stopped)
    stopped.terminate()
    sleep(0.5)
    lock.close()
    _, said = stopped.communicate(timeout=120)
    assert stopped.returncode == 130, said
    assert "continuing" in begun
    done, of = re.search(r"stopped after ([\d,]+) of ([\d,]+) records; run the same", said).groups()
    assert 0 < int(done.replace(",", "")) < int(of.replace(",", "")) == 8_303
    last = replay(rig, *arguments)
    assert last["records_now"] == last["records"] - int(done.replace(",", ""))
    for name in ("records", "readings", "new", "gone", "changed", "unchanged", "events"):
        assert last[name] == whole[name], name
    for table, columns in (
        ("sensor_readings", "sensor_id, value, event_timestamp, seq"),
        ("sensor_readings_1m", "sensor_id, bucket_ts, avg_value, samples"),
        ("ml_events", "event_key, status, resolved_at, payload"),
    ):
        rows = copied(rig, "cut", table, columns)
        assert rows == copied(rig, "whole", table, columns), table
        assert rows


def test_a_replay_leaves_events_alone_that_it_could_not_know(rig):
    """Events of another writer, of a device that is not in the log, from before the log, and by
    later records.
    """
    rig.register("elsewhere", SensorSpec("far", "temperature", "°C"))
    far = "'" + iso(rig.start + 3_000) + "'"
    old = "'2020-01-01 00:00:00.000'"
    flow = '\'{"rules_version":"x"}\''
    for key, device, sensor, at, payload in (
        ("batch", 1, 1, far, "'{}'"), ("elsewhere", 3, 5, far, flow), ("old", 1, 1, old, flow)
    ):  # fmt: skip
        rig.rows(
            "INSERT INTO ml_events (event_key, device_id, sensor_id, created_at, event_type,"
            f" event_code, title, payload) VALUES ('{key}', {device}, {sensor}, {at}, 'warning',"
            f" 'X', 't', {payload})"
        )
    ours = (
        "INSERT INTO ml_events (event_key, device_id, sensor_id, created_at, event_type,"
        f" event_code, title, payload) VALUES ('ours', 1, 1, {far}, 'warning', 'X', 't', {flow})"
    )
    rig.rows(ours)
    told = replay(rig, "--into", "live")
    assert keys(told, "gone") == ["ours"]
    assert [told["new"], told["changed"]] == [0, 0]
    states = dict(rig.rows("SELECT event_key, status FROM ml_events WHERE title = 't'"))
    assert states == {
        "batch": "active", "elsewhere": "active", "old": "active", "ours": "superseded"
    }  # fmt: skip


AHEAD_MS = 60_000
"""How far the arrival times of a running log are ahead. The embedded broker takes the producer's:
a record that waited longer than a heartbeat's margin would be older than heartbeats before it,
which no broker's own clock allows.
"""


def turns(name, numbers, start):
    """Ten times a second, a reading of each sensor of the first device, swinging around its
    bounds."""
    for turn in numbers:
        at = start + 100 * turn
        far = (20.0, 38.0, 20.0, 45.0)[turn // 10 % 4]
        readings = [(sensor, at, far + turn % 7 / 10) for sensor in (1, 2)]
        yield at, [packet(1, f"{name} {turn}", at, readings)]


def test_next_to_a_running_flow_no_event_is_reported_as_gone_or_changed(rig):
    """Records come, events begin and end, while the replay reads what there was at its start."""
    rig.start_flow()
    enough = Event()

    def coming():
        for turn in turns("live", count(), int(time() * 1000) + AHEAD_MS):
            yield turn
            if enough.wait(0.1):
                return

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(produce, rig, coming())
        try:
            reports = [replay(rig, "--into", "live") for _ in range(4)]
        finally:
            enough.set()
        done.result()
    assert [event for told in reports for event in told["events"] if event["change"] != "new"] == []
    records = [report["records"] for report in reports]
    assert records == sorted(set(records))
    new = {key for report in reports for key in keys(report, "new")}
    wait_until(lambda: new <= set(events(rig)))
    assert not rig.rows("SELECT 1 FROM ml_events WHERE status = 'superseded'")


def test_next_to_a_flow_that_is_behind_its_missing_events_are_new_and_none_is_changed(rig):
    """An event has begun, and the flow is not there when it ends: the replay is ahead of it."""
    start = int(time()) * 1000 + AHEAD_MS  # on a pane's edge
    active = (
        "SELECT sensor_id FROM ml_events WHERE status = 'active' AND event_type = 'critical'"
        f" AND created_at >= '{iso(start)}' ORDER BY sensor_id"
    )
    flow = rig.start_flow()
    produce(rig, turns("live", range(60), start))
    wait_until(lambda: rig.rows(active) == [(1,), (2,)])
    rig.children.stop(flow)
    produce(rig, turns("live", range(60, 110), start))
    report = replay(rig, "--dry-run")
    told = replay(rig, "--into", "live")
    assert [report[kind] for kind in ("gone", "changed")] == [0, 0]
    assert report["new"] > 2
    assert told["events"] == report["events"]
    assert rig.rows(active) == []
    rig.forget_progress()
    rig.start_flow()
    rig.wait_taken()
    after = replay(rig, "--dry-run")
    assert [after[kind] for kind in ("new", "gone", "changed")] == [0, 0, 0]
    assert after["unchanged"] == report["unchanged"] + report["new"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --dry-run, or --into live, or --into NAME"),
        (("--dry-run", "--into", "live"), "give --dry-run, or --into live, or --into NAME"),
        (("--dry-run", "--from", "noon"), "--from noon: give a time as in 2024-11-24T10:00:00Z"),
        (("--dry-run", "--sensors", "99"), "--sensors: the database has no sensor 99"),
        (("--dry-run", "--sensors", "a"), "--sensors a: give sensor ids, as in 7,8"),
        (("--dry-run", "--notify"), "--notify requires --into live"),
        (("--dry-run", "--margin", "2h"), "--margin requires --from or --to"),
        (("--dry-run", "--from", "5", "--margin", "2 h"), "--margin 2 h: give a number with s,"),
        (("--into", "dry-run-1"), "--into dry-run-1: give live, or a name"),
        (("--into", "../x"), "--into ../x: give live, or a name"),
        (("--dry-run", "--rules", "none.json"), "none.json cannot be read"),
        (("--dry-run",), "KAFKA_TOPIC: the broker has no topic test."),
    ],
)
def test_a_wrong_argument_ends_with_one_line(pipeline, arguments, message):
    assert message in refused(pipeline, *arguments)
