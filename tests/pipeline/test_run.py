"""`iot run`: processes that are kept running, and states that move between them."""

import os
import random
import signal
import socket
import sqlite3
import sys
from contextlib import closing, suppress
from time import sleep, time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from contract.errors import SetupError
from contract.packet import encode
from dataflows.state.stores import PartitionState, write_states
from ops import run as run_module
from ops.run import _Group, split
from runtime import topic
from runtime.kafka import KafkaAccess
from runtime.topic import ensure_topic
from tests.pipeline.test_determinism import packet, tables

from .conftest import wait_until

SENSORS = 8


@pytest.fixture
def pipeline(pipeline, brokers, monkeypatch):
    """With four partitions on every broker: the in-memory one gives no other number."""
    monkeypatch.setattr(topic, "PARTITIONS", 4)
    ensure_topic(KafkaAccess(brokers), pipeline.topic)
    return pipeline


def rigs(pipeline):
    """Devices enough that each of four partitions has some."""
    from ops.devices import SensorSpec  # noqa: PLC0415

    spec = SensorSpec("sensor", "temperature", "°C", {"warning": (10, 36), "critical": (5, 42)})
    for device in range(1, SENSORS + 1):
        pipeline.register(f"rig {device}", spec)
    pipeline.rows("UPDATE alert_thresholds SET clear_after = 1")


def produce(pipeline, turns, start):
    """Those turns of a log in which every sensor swings around its bounds."""
    producer = Producer(
        {
            "bootstrap.servers": pipeline.values["KAFKA_BOOTSTRAP_SERVERS"],
            "enable.idempotence": True,
        }
    )
    noise = random.Random(turns.start)
    for turn in turns:
        for device in range(1, SENSORS + 1):
            at = start + 250 * turn
            far = (0.0, 18.0, 0.0, 25.0)[(turn // 8 + device) % 4]
            sent = packet(device, f"{device}.{turn}", at, [(device, at, 20 + far + noise.random())])
            producer.produce(pipeline.topic, encode(sent), sent.device_uuid, device % 4)
    assert producer.flush(60) == 0


def wait_for_epochs(pipeline, number):
    """Return when the first process has taken that many more snapshots."""

    def taken():
        return pipeline.metrics().get("iot_flow_epoch_seconds_count", 0)

    before = taken()
    wait_until(lambda: taken() >= before + number)


def pids(pipeline):
    """Of the processes that were started, in order."""
    return [line["pid"] for line in pipeline.log("run") if line["event"] == "flow process started"]


def test_state_moves_with_every_change_of_the_number_of_processes(pipeline):
    """1, 3, a cluster of 2, 2, and 1 again, the log coming meanwhile; one is killed."""
    rigs(pipeline)
    start = int(time()) * 1000 - 60_000
    run = None
    for step, (processes, *more) in enumerate([(1,), (3,), (2, "--cluster"), (2,), (1,)]):
        if run is not None:
            pipeline.children.stop(run)
            assert run.process.returncode == 0
            # a partition whose state is lost loses readings
            pipeline.values["START_FROM"] = "latest"
        run = pipeline.start_run(processes, *more)
        produce(pipeline, range(30 * step, 30 * step + 30), start)
        pipeline.wait_stored(SENSORS * (30 * step + 30))
        if more or processes == 3:
            os.kill(pids(pipeline)[-1], signal.SIGKILL)
        pipeline.children.check()
    roots = sorted(path.name for path in (pipeline.folder / "root").iterdir())
    assert roots == ["0-3"]
    calm = pipeline.again()
    calm.start_flow()  # both go on: what a silence leads to comes to both, however slow they are
    calm.wait_stored(len(pipeline.readings()))
    with suppress(AssertionError):  # the next lines show what differs
        wait_until(lambda: len(tables(calm)["ml_events"]) > 20 and tables(calm) == tables(pipeline))
    assert len(tables(calm)["ml_events"]) > 20
    assert tables(calm) == tables(pipeline)
    pipeline.children.stop(run)
    assert run.process.returncode == 0


@pytest.mark.parametrize(
    ("program", "end"),
    [
        ("import sys; sys.exit(3)", "ended with code 3"),
        ("import os; os.kill(os.getpid(), 11)", "died of SIGSEGV"),
    ],
)
def test_a_process_that_keeps_failing_is_given_up(monkeypatch, program, end):
    monkeypatch.setattr(run_module, "_PAUSES_S", (0.0, 0.0, 0.0))
    group = _Group("test", [([sys.executable, "-c", program], dict(os.environ))])

    def look_on():
        for _ in range(200):
            group.look_after()
            sleep(0.05)

    with pytest.raises(SetupError, match=f"failed 4 times in a row, and last {end}"):
        look_on()
    assert group.running == []


def test_a_process_that_cannot_run_is_not_restarted(pipeline):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        pipeline.metrics_port = taken.getsockname()[1]
        run = pipeline.start_run()
        assert run.process.wait(120) == 1
    said = (pipeline.folder / "run.log").read_text()
    assert "METRICS_PORT: 127.0.0.1:" in said
    assert "iot: the flow of partitions 0-3 cannot run: see its last log line above" in said
    assert "Traceback" not in said
    assert [line["event"] for line in pipeline.log("run")][
        -1
    ] == "giving up, stopping the other processes"
    assert len(pids(pipeline)) == 1


def test_missing_partitions_are_reported_before_state_moves(pipeline):
    pipeline.values["KAFKA_PARTITIONS"] = "0-1000"
    run = pipeline.start_run()
    assert run.process.wait(120) == 1
    said = (pipeline.folder / "run.log").read_text()
    assert f"iot: KAFKA_PARTITIONS: the topic {pipeline.topic} has no partition " in said
    assert not (pipeline.folder / "root").exists()


def test_progress_is_in_the_metrics_and_in_the_committed_offsets(pipeline, brokers):
    rigs(pipeline)
    began = time()
    pipeline.start_run(2)
    produce(pipeline, range(20), int(time()) * 1000 - 60_000)
    pipeline.wait_stored(SENSORS * 20)

    def lag(partition):
        return pipeline.metrics(partition // 2).get(
            f'iot_flow_lag_records{{partition="{partition}"}}'
        )

    def taken():
        name = 'iot_flow_records_total{partition="%d"}'
        return [pipeline.metrics(number // 2).get(name % number) for number in range(4)]

    wait_until(lambda: [lag(number) for number in range(4)] == [0, 0, 0, 0])
    assert taken() == [SENSORS * 20 / 4] * 4
    for process in (0, 1):
        samples = pipeline.metrics(process)
        assert samples["iot_flow_readings_total"] == SENSORS * 10
        assert samples["iot_flow_broker_up"] == 1
        assert samples["iot_flow_panes_total"] > 0
        levels = [
            samples[f'iot_flow_sensors{{level="{level}"}}']
            for level in ("NORMAL", "WARN", "CRITICAL")
        ]
        assert sum(levels) == SENSORS / 2
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": f"{pipeline.topic}.flow"})
    here = [TopicPartition(pipeline.topic, number) for number in range(4)]
    wait_until(
        lambda: [position.offset for position in consumer.committed(here, 10)] == [SENSORS * 5] * 4
    )
    consumer.close()
    wait_until(lambda: pipeline.metrics()["iot_flow_epoch_seconds_count"] > 0)
    assert began < pipeline.metrics()["iot_flow_snapshot_timestamp_seconds"] <= time()


def test_ctrl_c_waits_for_the_database_and_a_second_ctrl_c_does_not(pipeline):
    rigs(pipeline)
    run = pipeline.start_run()
    wait_until(pipeline.metrics)
    with closing(sqlite3.connect(pipeline.settings.iot_sqlite_path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        produce(pipeline, range(20), int(time()) * 1000 - 60_000)
        wait_until(lambda: pipeline.metrics().get("iot_flow_readings_total") == SENSORS * 20)
        run.process.send_signal(signal.SIGINT)
        sleep(2)
        assert run.process.poll() is None
        run.process.send_signal(signal.SIGINT)
        run.process.wait(120)
    pid = pids(pipeline)[-1]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    pipeline.children.stop(run)
    pipeline.start_run()
    pipeline.wait_stored(SENSORS * 20)


def test_a_topic_that_ends_before_the_position_is_reported_and_read_from_its_start_on_request(
    pipeline,
):
    rigs(pipeline)
    produce(pipeline, range(10), int(time()) * 1000 - 60_000)
    root = pipeline.folder / "root"
    write_states(root / "0-3", {number: PartitionState(1000) for number in range(4)})
    run = pipeline.start_run()
    assert run.process.wait(120) == 1
    said = (pipeline.folder / "run.log").read_text()
    assert "begins at 0 and ends at 20: the topic was recreated, or the broker has lost" in said
    pipeline.children.stop(run)
    pipeline.values["IF_OFFSET_GONE"] = "earliest"
    pipeline.start_run()
    pipeline.wait_stored(SENSORS * 10)


def test_a_flow_can_be_stopped_while_the_broker_does_not_answer(pipeline):
    broker = pipeline.children.start("broker", "ops.broker", env=dict(os.environ))
    pipeline.values["KAFKA_BOOTSTRAP_SERVERS"] = broker.process.stdout.readline().strip()
    rigs(pipeline)
    run = pipeline.start_run()
    produce(pipeline, range(20), int(time()) * 1000 - 60_000)
    pipeline.wait_stored(SENSORS * 20)
    broker.process.send_signal(signal.SIGSTOP)
    try:
        sleep(3)  # snapshots are taken meanwhile, but their offsets are not committed
        run.process.terminate()
        assert run.process.wait(120) == 0
    finally:
        broker.process.send_signal(signal.SIGCONT)


def test_partitions_are_split_evenly_or_refused():
    for processes in range(1, 13):
        ranges = split(frozenset(range(12)), processes)
        assert sorted(number for share in ranges for number in share) == list(range(12))
        assert max(map(len, ranges)) - min(map(len, ranges)) <= 1
    with pytest.raises(SetupError, match="13 processes cannot share 12 partitions"):
        split(frozenset(range(12)), 13)
