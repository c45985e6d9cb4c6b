import csv
import json
import random
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from time import time
from uuid import uuid4

import pytest
from bytewax.recovery import init_db_dir
from confluent_kafka import Consumer, Producer, TopicPartition

from contract.packet import decode
from contract.settings import child_environment
from ops.devices import SensorSpec

from .conftest import on_each_engine, wait_until

SKAB = Path(__file__).parents[3] / "shared" / "data" / "skab" / "valve1" / "0.csv"


def records(brokers, topic):
    """All records of a topic, by partition and offset."""
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": uuid4().hex, "enable.partition.eof": True}
    )
    partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    messages, ended = [], 0
    while ended < len(partitions):
        message = consumer.poll(60)
        assert message is not None, "the broker did not answer"
        if message.error():
            ended += 1
        else:
            messages.append(message)
    consumer.close()
    return sorted(messages, key=lambda message: (message.partition(), message.offset()))


def ms(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000 + 0.5)


@on_each_engine
def test_posted_packets_become_rows_and_crossed_thresholds_become_events(pipeline, brokers):
    rig = pipeline.register()
    pipeline.start_edge()
    pipeline.start_flow()
    for second, value in enumerate([70.5, 85.25, 95.0, *[70.0] * 9]):
        at = f"2024-11-24T10:00:{second:02}.250Z"
        readings = [
            {"sensor_uuid": rig.sensors["boiler"], "value": value},
            {"sensor_uuid": rig.sensors["pump"], "value": second, "ts": 1732442400.125 + second},
        ]
        answer = pipeline.post({"device_uuid": rig.uuid, "ts": at, "readings": readings})
        assert answer.status_code == 202
        assert answer.json()["accepted"] == answer.json()["inserted"] == 2
    pipeline.wait_stored(24)
    assert pipeline.readings()[:2] == [
        ("boiler", 70.5, "2024-11-24 10:00:00.250", "2024-11-24 10:00:00.250", 0),
        ("boiler", 85.25, "2024-11-24 10:00:01.250", "2024-11-24 10:00:01.250", 0),
    ]
    assert pipeline.readings()[13][1:4] == (1.0, *["2024-11-24 10:00:01.125"] * 2)
    wait_until(lambda: len(pipeline.events()) == 3)
    assert [(row[3], row[7], row[8], row[9]) for row in pipeline.events()] == [
        ("warning", "resolved", "2024-11-24 10:00:02.000", "2024-11-24 10:00:03.000"),
        ("critical", "resolved", "2024-11-24 10:00:03.000", "2024-11-24 10:00:08.000"),
        ("notice", "resolved", "2024-11-24 10:00:08.000", "2024-11-24 10:00:08.000"),
    ]
    assert "boiler of rig is at 85.25 °C, above 80 °C" in pipeline.events()[0][6]

    keys = {message.key() for message in records(brokers, pipeline.topic)}
    assert keys == {rig.uuid.encode()}
    assert len({message.partition() for message in records(brokers, pipeline.topic)}) == 1


def test_the_last_pane_of_a_sensor_that_falls_silent_closes_without_another_reading(pipeline):
    rig = pipeline.register()
    pipeline.start_edge()
    pipeline.start_flow()
    pipeline.post(
        {"device_uuid": rig.uuid, "readings": [{"sensor_uuid": rig.sensors["boiler"], "value": 85}]}
    )
    wait_until(lambda: len(pipeline.events()) == 1)


RECORD = (
    b'{"v":1,"packet_id":"\xff","device_id":1,"device_uuid":"","received_at":1,"sensor_id":[],'
    + (b'"ts":[],"device_ts":null,"value":[],"seq":[]}')
)


@pytest.mark.parametrize(
    "garbage",
    [b"\x00\xff not a packet", RECORD, b"\xff" * 999_900],
    ids=["bytes", "utf-8", "large"],
)
def test_garbage_on_the_topic_becomes_dead_letters_and_later_packets_are_stored(
    pipeline, brokers, garbage
):
    rig = pipeline.register()
    pipeline.start_edge()
    producer = Producer({"bootstrap.servers": brokers})
    producer.produce(pipeline.topic, garbage, key=rig.uuid, partition=0)
    assert producer.flush(10) == 0
    pipeline.start_flow()
    for value in (1, 2, 3):
        readings = [{"sensor_uuid": rig.sensors["pump"], "value": value}]
        assert pipeline.post({"device_uuid": rig.uuid, "readings": readings}).status_code == 202
    pipeline.wait_stored(3)
    wait_until(lambda: records(brokers, f"{pipeline.topic}.dlq"))
    (dead,) = records(brokers, f"{pipeline.topic}.dlq")
    headers = dict(dead.headers())
    assert dead.value() == garbage
    assert headers.keys() == {"error", "topic", "partition", "offset"}
    assert headers["topic"] == pipeline.topic.encode()
    assert (headers["partition"], headers["offset"]) == (b"0", b"0")
    assert headers["error"]


def test_undated_readings_that_arrive_together_are_separate_rows_and_a_retry_adds_none(pipeline):
    rig = pipeline.register()
    pipeline.start_edge()
    pipeline.start_flow()
    boiler = dict(pipeline.rows("SELECT name, id FROM sensors"))["boiler"]
    with ThreadPoolExecutor(16) as pool:
        posts = [{"sensor_id": boiler, "value": n / 100} for n in range(300)]
        answers = list(pool.map(lambda post: pipeline.post(post, "/ingest/readings"), posts))
    assert {answer.status_code for answer in answers} == {200}
    pipeline.wait_stored(300)
    values = sorted(value for _, value, *_ in pipeline.readings())
    assert values == [n / 100 for n in range(300)]

    pump = [{"sensor_uuid": rig.sensors["pump"], "value": 1}]
    for more in ({"packet_id": "again"}, {"ts": time() + 7200}):
        for _ in range(2):
            sent = {"device_uuid": rig.uuid, "readings": pump, **more}
            assert pipeline.post(sent).status_code == 202
    last = [{"sensor_uuid": rig.sensors["pump"], "value": 2}]
    pipeline.post({"device_uuid": rig.uuid, "readings": last})
    pipeline.wait_stored(303)
    assert len(pipeline.readings()) == 303


def skab_like(path: Path, rows: int = 400) -> Path:
    """A file in the format of SKAB, with a gap, two rows in one second, and an empty cell."""
    noise = random.Random(7)
    lines = ["datetime;Pressure;Temperature;Volume Flow RateRMS;anomaly;changepoint"]
    second = int(datetime(2020, 3, 9, 10, 14, 33, tzinfo=UTC).timestamp())
    for row in range(rows):
        second += 0 if row == 50 else 30 if row == 99 else 1
        at = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")
        pressure = "" if row == 33 else f"{noise.gauss(0, 1):.6f}"
        lines.append(f"{at};{pressure};{noise.gauss(79, 3):.4f};{noise.gauss(32, 0.1):.7g};0.0;0.0")
    path.write_text("\n".join(lines) + "\n")
    return path


def expected_rows(path: Path) -> list[tuple]:
    """(sensor, value, ms, ms, seq) of a file's cells, as a plain parser reads them."""
    with path.open() as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    names = [name for name in rows[0] if name not in ("datetime", "anomaly", "changepoint")]
    expected = []
    for name in names:
        seen: dict[int, int] = {}
        for row in rows:
            if row[name]:
                at = ms(row["datetime"])
                expected.append((name, round(float(row[name]), 5), at, at, seen.get(at, 0)))
                seen[at] = seen.get(at, 0) + 1
    return expected


def stored_rows(pipeline) -> list[tuple]:
    return [
        (name, value, ms(at), ms(said), seq) for name, value, at, said, seq in pipeline.readings()
    ]


@pytest.mark.parametrize("source", ["made", "skab"])
def test_a_fed_file_is_stored_cell_by_cell_and_feeding_it_again_adds_nothing(
    pipeline, tmp_path, source
):
    if source == "skab" and not SKAB.exists():
        pytest.skip(f"no SKAB data at {SKAB}")
    path = SKAB if source == "skab" else skab_like(tmp_path / "rig.csv")
    expected = expected_rows(path)
    pipeline.start_edge()
    pipeline.start_flow()
    feed = ("feed", str(path), "--device", "rig0", "--speed", "0", "--url", pipeline.url)
    first = pipeline.iot(*feed)
    assert first.returncode == 0, first.stderr
    assert f"{len(expected)} readings accepted" in first.stdout
    pipeline.wait_stored(len(expected))
    assert sorted(stored_rows(pipeline)) == sorted(expected)

    assert pipeline.iot(*feed).returncode == 0
    assert pipeline.iot(*feed[:-3], "10000", "--url", pipeline.url).returncode == 0
    rig = pipeline.register("rig0", SensorSpec("marker", "other", ""))
    last = [{"sensor_uuid": rig.sensors["marker"], "value": 1}]
    wait_until(
        lambda: pipeline.post({"device_uuid": rig.uuid, "readings": last}).status_code == 202
    )
    # one device, one partition, one order: what came before the marker was written before it
    wait_until(lambda: pipeline.readings()[-1][0] == "marker")
    assert len([row for row in pipeline.readings() if row[0] != "marker"]) == len(expected)


@on_each_engine
def test_killing_the_flow_repeatedly_gives_the_rows_of_an_undisturbed_run(
    pipeline, tmp_path, brokers
):
    path = skab_like(tmp_path / "rig.csv", 3000)
    hot = SensorSpec(
        "Temperature", "temperature", "°C", {"warning": (72, 84), "critical": (70, 86)}
    )
    pipeline.register("rig0", hot)
    expected = expected_rows(path)
    pipeline.start_edge()
    flow = pipeline.start_flow()
    feed = ("feed", str(path), "--device", "rig0", "--speed", "500", "--url", pipeline.url)
    with ThreadPoolExecutor(1) as pool:
        feeding = pool.submit(pipeline.iot, *feed)
        for share in (0.2, 0.5, 0.8):
            pipeline.wait_stored(int(len(expected) * share))
            pipeline.kill(flow)
            flow = pipeline.start_flow()
        assert feeding.result().returncode == 0
    pipeline.wait_stored(len(expected))
    wait_until(lambda: len(pipeline.readings()) == len(expected))
    assert sorted(stored_rows(pipeline)) == sorted(expected)

    pipeline.children.stop(flow)  # takes a snapshot; the next run reads the log again
    disturbed, readings = pipeline.events(), pipeline.readings()
    assert len(disturbed) > 10
    calm = pipeline.again()
    calm.start_flow()
    calm.wait_stored(len(expected))
    wait_until(lambda: len(calm.events()) >= len(disturbed))
    assert calm.readings() == readings
    assert calm.events() == disturbed
    assert json.loads(calm.events()[0][10])["recommended_action"]
    assert all(decode(message.value()).device_uuid for message in records(brokers, pipeline.topic))


def test_a_full_recovery_disk_stops_the_flow_with_one_line_and_free_space_lets_it_continue(
    pipeline,
):
    disk = pipeline.folder / "disk"
    disk.mkdir(mode=0o700)
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("no small disk can be mounted here")
    small = [mount, "-t", "tmpfs", "-o", "size=9m,mode=700", "tmpfs", str(disk)]
    if subprocess.run(small, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        rig = pipeline.register()
        pipeline.start_edge()
        init_db_dir(disk, 1)
        command = [
            sys.executable, "-m", "bytewax.run", "dataflows.readings:flow()",
            "-r", str(disk), "-s", "1", "-b", "0",
        ]  # fmt: skip

        def run():
            return subprocess.Popen(
                command, env=child_environment(pipeline.values), stderr=subprocess.PIPE, text=True
            )

        def post(value):
            readings = [{"sensor_uuid": rig.sensors["boiler"], "value": value}]
            body = {"device_uuid": rig.uuid, "readings": readings}
            assert pipeline.post(body).status_code == 202

        flow = run()
        post(1)
        pipeline.wait_stored(1)
        (disk / "something").write_bytes(bytes(2 << 20))
        _, err = flow.communicate(timeout=120)
        assert flow.returncode == 1
        last = [line for line in err.splitlines() if not line.startswith("{")]
        assert len(last) == 1, err
        assert re.match(
            r"the disk of the recovery directory .* is full .* free some space", last[0]
        )
        post(2)
        (disk / "something").unlink()
        flow = run()
        pipeline.wait_stored(2)
        flow.terminate()
        _, err = flow.communicate(timeout=120)
        assert flow.returncode == 0, err
    finally:
        subprocess.run([umount, "-l", str(disk)], check=False)
