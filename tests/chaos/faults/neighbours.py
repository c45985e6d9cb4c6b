"""Servers that are down for a while, and edge and flow that die at the same time."""

import sqlite3
from contextlib import closing
from signal import SIGKILL, SIGTERM
from time import monotonic, sleep

from tests.chaos.kafka import Kafka
from tests.chaos.proof import (
    acknowledged,
    begin,
    finish,
    start_client,
    until_load,
)
from tests.chaos.rig import DifferenceError, Rig

_AWAY_S = 60.0
"""How long the database is locked."""
_BROKER_AWAY_S = 5.0
_POSTED = 60
"""Packets that must be acknowledged meanwhile."""
_DEATHS = 3


def broker_stopped(kafka: Kafka, rig: Rig) -> None:
    """The broker is stopped under load, and restarted with its data."""
    _broker_away(kafka, rig, SIGTERM)


def broker_killed(kafka: Kafka, rig: Rig) -> None:
    """The broker is killed under load, and restarted with its data."""
    _broker_away(kafka, rig, SIGKILL)


def _broker_away(kafka: Kafka, rig: Rig, number: int) -> None:
    begin(rig, 1)
    _start(rig)
    client = start_client(rig, 0.2)
    until_load(rig)
    kafka.stop(number)
    before = len(acknowledged(rig))
    sleep(_BROKER_AWAY_S)
    if len(acknowledged(rig)) > before:
        raise DifferenceError("packets were acknowledged while there was no broker")
    kafka.start()
    finish(rig, client)


def database_locked(kafka: Kafka, rig: Rig) -> None:
    """Another process locks the database for a minute under load: the flow waits."""
    begin(rig, 2)
    _start(rig)
    client = start_client(rig, 1.6)
    until_load(rig)
    with closing(sqlite3.connect(rig.pipeline.folder / "iot.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        stored, posted, end = _stored(rig), len(acknowledged(rig)), monotonic() + _AWAY_S
        rig.until(lambda: monotonic() > end, "the minute is over", _AWAY_S + 5)
        if _stored(rig) != stored:
            raise DifferenceError("the database was not locked")
        if len(acknowledged(rig)) < posted + _POSTED:
            raise DifferenceError("devices could not post while the database was locked")
        other.execute("ROLLBACK")
    finish(rig, client)


def _start(rig: Rig) -> None:
    rig.start_flow("0-1")
    rig.start_flow("2-3")
    rig.start_edge()


def _stored(rig: Rig) -> int:
    return rig.pipeline.rows("SELECT count(*) FROM sensor_readings")[0][0]


def edge_and_flow_killed(kafka: Kafka, rig: Rig) -> None:
    """Edge and flow are killed at the same moment under load, three times in a run."""
    begin(rig, 4)
    flow, edge = rig.start_flow("0-3"), rig.start_edge()
    client = start_client(rig, 0.3)
    for death in range(1, _DEATHS + 1):
        there = len(acknowledged(rig)) + _POSTED
        rig.until(lambda there=there: len(acknowledged(rig)) > there, "there is load")
        for program in (edge, flow):
            program.child.process.send_signal(SIGKILL)
        rig.until(lambda death=death: flow.kills == edge.kills == death, "both are dead")
    finish(rig, client, killed=True)
