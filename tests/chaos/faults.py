"""Neighbours that go away: the broker, a part of the log, the database."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from signal import SIGKILL, SIGTERM
from subprocess import PIPE
from subprocess import run as run_process
from sys import executable
from time import monotonic, sleep
from uuid import uuid4

from confluent_kafka import Consumer, TopicPartition

from contract.packet import decode, unpack
from ops.children import Children
from runtime.ending import end_of
from runtime.kafka import kafka_access
from tests.chaos.kafka import Kafka
from tests.chaos.proof import (
    acknowledged,
    begin,
    check_calm,
    check_stored,
    start_client,
    until_posted,
)
from tests.chaos.rig import DifferenceError, Rig
from tests.pipeline.conftest import Pipeline

_AWAY_S = 60.0
"""How long the database is locked."""
_BROKER_AWAY_S = 5.0
_KEPT = 10
"""Records of each partition that the broker does not delete."""
_READINGS = "SELECT sensor_id, value FROM sensor_readings"
_ENOUGH = 60
"""So many packets acknowledged are load."""


def broker_stopped(kafka: Kafka, rig: Rig) -> None:
    """The broker is stopped under load, and started again on what it had."""
    _broker_away(kafka, rig, SIGTERM)


def broker_killed(kafka: Kafka, rig: Rig) -> None:
    """The broker is killed under load, and started again on what it had."""
    _broker_away(kafka, rig, SIGKILL)


def _broker_away(kafka: Kafka, rig: Rig, number: int) -> None:
    begin(rig, 1)
    _start(rig)
    client = start_client(rig, 0.2)
    rig.until(lambda: len(acknowledged(rig)) > _ENOUGH, "there is load")
    kafka.stop(number)
    before = len(acknowledged(rig))
    sleep(_BROKER_AWAY_S)
    if len(acknowledged(rig)) > before:
        raise DifferenceError("packets were acknowledged while there was no broker")
    kafka.start()
    _finish(rig, client)


def database_locked(kafka: Kafka, rig: Rig) -> None:
    """Another process locks the database for a minute under load: the flow waits."""
    begin(rig, 2)
    _start(rig)
    client = start_client(rig, 1.6)
    rig.until(lambda: len(acknowledged(rig)) > _ENOUGH, "there is load")
    with closing(sqlite3.connect(rig.pipeline.folder / "iot.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        stored, posted, end = _stored(rig), len(acknowledged(rig)), monotonic() + _AWAY_S
        rig.until(lambda: monotonic() > end, "the minute is over", _AWAY_S + 5)
        if _stored(rig) != stored:
            raise DifferenceError("the database was not locked")
        if len(acknowledged(rig)) < posted + _ENOUGH:
            raise DifferenceError("devices could not post while the database was locked")
        other.execute("ROLLBACK")
    _finish(rig, client)


def _start(rig: Rig) -> None:
    rig.start_flow("0-1")
    rig.start_flow("2-3")
    rig.start_edge()


def _finish(rig: Rig, client) -> None:
    """All that was posted is there once, nobody has ended, and the tables are a calm run's."""
    until_posted(rig, client, 120)
    rig.until(rig.taken, "the log is taken", 120)
    if killed := [name for name, program in rig.programs.items() if program.kills]:
        raise DifferenceError(f"programs were killed: {killed}")
    rig.stop()
    check_stored(rig)
    check_calm(rig)


def _stored(rig: Rig) -> int:
    return rig.pipeline.rows("SELECT count(*) FROM sensor_readings")[0][0]


def offset_gone(kafka: Kafka, rig: Rig) -> None:
    """While the flow is down, the broker deletes records that it has not seen: it refuses to go on,
    says what to do, and with IF_OFFSET_GONE=earliest does so with all that is there.
    """
    begin(rig, 3)
    flow = rig.start_flow("0-3")
    rig.start_edge()
    client = start_client(rig, 0.1)
    rig.until(lambda: len(acknowledged(rig)) > _ENOUGH, "there is load")
    rig.stop("flow 0-3")
    seen = set(rig.pipeline.rows(_READINGS))
    until_posted(rig, client)
    topic = rig.pipeline.topic
    last = [TopicPartition(topic, number, end - _KEPT) for number, end in enumerate(rig.ends())]
    kafka.forget({(topic, one.partition): one.offset for one in last})

    command = [executable, "-m", *flow.command]
    refused = run_process(command, env=flow.env, stderr=PIPE, text=True, timeout=60, check=False)
    said = refused.stderr.splitlines()[-1]
    if not refused.returncode or "Traceback" in refused.stderr or "IF_OFFSET_GONE" not in said:
        raise DifferenceError(f"it {end_of(refused.returncode)}, and said: {said}")

    rig.forget_committed()
    rig.start("flow 0-3", *flow.command, KAFKA_PARTITIONS="0-3", IF_OFFSET_GONE="earliest")
    rig.until(rig.taken, "what is there is taken")
    rig.stop()
    consumer = Consumer(kafka_access(rig.pipeline.settings).config() | {"group.id": "looks"})
    consumer.assign(last)
    kept = [unpack(decode(one.value())) for one in consumer.consume(_KEPT * len(last), 10)]
    consumer.close()
    wanted = {one for packet in kept for one in zip(packet.sensor_id, packet.value, strict=True)}
    found = Counter(rig.pipeline.rows(_READINGS))
    if len(kept) != _KEPT * len(last) or not wanted or found != Counter(seen | wanted):
        raise DifferenceError(
            f"{found.total()} readings are stored, of {len(seen)} that were before and "
            f"{len(wanted)} in the {len(kept)} records that the broker still has"
        )


FAULTS = (broker_stopped, broker_killed, database_locked, offset_gone)


def run_fault(fault: Callable[[Kafka, Rig], None], folder: Path) -> None:
    """Run it, with all it leaves in `folder`.

    Raises:
        DifferenceError: something is lost, twice, invented or different.
        AssertionError: something did not come to its end in time.
    """
    with Kafka(folder / "kafka") as kafka, Children(folder) as children:
        pipeline = Pipeline(folder, kafka.start(), children, f"chaos.{uuid4().hex[:12]}")
        with closing(Rig(pipeline, append_time=True)) as rig:
            fault(kafka, rig)
