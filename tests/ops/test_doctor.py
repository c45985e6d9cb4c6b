import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import run
from time import time
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from contract.settings import Settings, child_environment
from dataflows.state.stores import MARK, WATCH, PartitionState, write_states
from ops.doctor.examine import examine
from ops.doctor.finding import State
from ops.doctor.machine import DiskLimits, Port
from ops.doctor.recovery import check_recovery
from ops.status import Flow
from runtime.kafka import KafkaAccess
from runtime.topic import ensure_topic
from sql.database import Database
from sql.schema import apply_schema
from tests.ports import free_ports
from tests.servers import missing, odbc_loads


@dataclass
class Place:
    """A healthy environment for `iot doctor`."""

    folder: Path
    environment: dict[str, str]
    port: int
    brokers: str
    more: dict = field(default_factory=dict)

    @property
    def recovery(self):
        return self.folder / "recovery"

    @property
    def database(self):
        return Path(self.environment["IOT_SQLITE_PATH"])

    def do(self, statement):
        database = Database(Settings(iot_sqlite_path=self.database))
        database._connection.execute(statement)
        database.close()

    def set(self, **values):
        self.environment |= values

    def new_topic(self, **config):
        """Another topic, created outside the pipeline."""
        name = f"test.{uuid4().hex[:12]}"
        config = {name.replace("_", "."): value for name, value in config.items()}
        config = {"message.timestamp.type": "LogAppendTime"} | config
        admin = AdminClient(KafkaAccess(self.brokers).config())
        new = NewTopic(name, 2, config=config)
        admin.create_topics([new], request_timeout=6)[name].result()
        ensure_topic(KafkaAccess(self.brokers), f"{name}.dlq")
        self.set(KAFKA_TOPIC=name)


@pytest.fixture
def place(tmp_path, brokers):
    topic = f"test.{uuid4().hex[:12]}"
    for name in (topic, f"{topic}.dlq"):
        ensure_topic(KafkaAccess(brokers), name)
    apply_schema(Settings(iot_sqlite_path=tmp_path / "iot.db"))
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": brokers,
        "KAFKA_TOPIC": topic,
        "IOT_SQLITE_PATH": str(tmp_path / "iot.db"),
        "INGEST_API_KEY": "k",
    }
    return Place(tmp_path, environment, free_ports(), brokers)


@pytest.fixture
def findings(place, monkeypatch):
    def look():
        for name, value in place.environment.items():
            monkeypatch.setenv(name, value)
        limits = DiskLimits(warn=1 << 20, fail=1 << 10)
        port = Port(place.port, Flow, "iot run --metrics-port")
        options = {"limits": limits, "ports": [port]} | place.more
        return list(examine(place.recovery, **options))

    return look


def lines(findings):
    return "\n".join(f"{finding.state} {finding.about}: {finding.text}" for finding in findings)


def test_on_a_healthy_system_nothing_fails_and_with_a_real_broker_nothing_warns(
    findings, given_brokers
):
    results = findings()
    states = {finding.state for finding in results}
    assert states == ({State.OK} if given_brokers else {State.OK, State.WARN}), lines(results)
    abouts = {finding.about for finding in results}
    assert abouts > {"settings", "key", "broker", "topic", "database", "clock", "schema"}
    assert abouts > {"recovery", "disk", "ports", "open files"}


def test_states_in_a_known_version_are_ok(place, findings):
    write_states(place.recovery / "0-1", {1: PartitionState(7, {MARK: (1, {})})})
    (result,) = (finding for finding in findings() if finding.about == "recovery")
    assert (result.state, "1 partitions" in result.text) == (State.OK, True), result


def test_a_relative_root_is_checked(tmp_path, monkeypatch):
    write_states(tmp_path / "recovery" / "0-1", {1: PartitionState(7, {MARK: (1, {})})})
    monkeypatch.chdir(tmp_path)
    (finding,) = check_recovery(Path("recovery"))
    assert "has the state of 1 partitions" in finding.text


def _garbage(place):
    (place.recovery / "0-5").mkdir(parents=True)
    (place.recovery / "0-5" / "part-0.sqlite3").write_bytes(b"no store" * 1000)


def _other_version(place, step):
    write_states(place.recovery / "0-5", {0: PartitionState(7, {step: (99, {})})})


def _bad_claim(place):
    write_states(place.recovery / "0-5", {})
    (place.recovery / "0-5" / "claim.json").write_text("{")


def _taken(place):
    server = socket.create_server(("127.0.0.1", place.port))
    place.more["kept"] = server


def _real(**config):
    def break_(place):
        place.new_topic(**config)

    return break_


FAIL, WARN = State.FAIL, State.WARN
BROKEN = {
    "no broker named": (
        lambda place: place.set(KAFKA_BOOTSTRAP_SERVERS=""),
        FAIL, "broker", "KAFKA_BOOTSTRAP_SERVERS is not set",
    ),
    "broker address wrong": (
        lambda place: place.set(KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1"),
        FAIL, "broker", "no Kafka broker answers at 127.0.0.1:1",
    ),
    "topic missing": (
        lambda place: place.set(KAFKA_TOPIC="test.nowhere"), WARN, "topic", "test.nowhere"
    ),
    "partitions beyond the topic": (
        lambda place: place.set(KAFKA_PARTITIONS="1-2,70-99"), FAIL, "partitions", "70-99",
    ),
    "the sender's clock as arrival": (
        _real(message_timestamp_type="CreateTime"), FAIL, "timestamps", "CreateTime"
    ),
    "retention too short": (
        _real(retention_ms="7200000"), WARN, "retention", "for 2 hours"
    ),
    "records of a device compacted": (
        _real(cleanup_policy="compact"), FAIL, "retention", "cleanup.policy=compact"
    ),
    "database file missing": (
        lambda place: place.database.unlink(), FAIL, "database", "IOT_SQLITE_PATH: there is no file"
    ),
    "database file garbage": (
        lambda place: place.database.write_bytes(b"no base" * 1000), FAIL, "database", "iot.db"
    ),
    "schema missing": (
        lambda place: place.database.write_bytes(b""), FAIL, "schema", "run `python -m sql`"
    ),
    "schema older": (
        lambda place: place.do("DELETE FROM schema_migrations WHERE name LIKE '005%'"),
        FAIL, "schema", "lacks the schema script 005",
    ),
    "an index gone": (
        lambda place: place.do("DROP VIEW v_ml_events_active"), WARN, "schema", "v_ml_events_active"
    ),
    "recovery root is a file": (
        lambda place: place.recovery.write_text("file"), FAIL, "recovery", "is not a directory"
    ),
    "recovery store garbage": (_garbage, FAIL, "recovery", "is damaged"),
    "state of another version": (
        lambda place: _other_version(place, WATCH), FAIL, "recovery", "another version"
    ),
    "packets seen of another version": (
        lambda place: _other_version(place, MARK), FAIL, "recovery", "another version"
    ),
    "claim garbage": (_bad_claim, FAIL, "recovery", "claim.json cannot be read"),
    "port taken": (_taken, FAIL, "ports", "is taken"),
    "disk nearly full": (
        lambda place: place.more.update(limits=DiskLimits(warn=1 << 60, fail=0)),
        WARN, "disk", "free some space",
    ),
    "disk full": (
        lambda place: place.more.update(limits=DiskLimits(warn=1 << 60, fail=1 << 60)),
        FAIL, "disk", "free some space",
    ),
    "ODBC driver missing": (
        lambda place: place.set(
            DB_ENGINE="mssql", DB_HOST="127.0.0.1", DB_PORT="1", DB_PASSWORD="x",  # noqa: S106
            ODBC_DRIVER="Nonsense 99",
        ),
        FAIL, "ODBC driver", "Nonsense 99",
    ),
    "a wrong setting": (lambda place: place.set(GRACE_MS="-1"), FAIL, "settings", "GRACE_MS"),
    "clocks apart": (
        lambda place: place.more.update(now=lambda: time() + 5), FAIL, "clock", "5.0 s apart"
    ),
    "no key": (lambda place: place.set(INGEST_API_KEY=""), WARN, "key", "INGEST_API_KEY"),
}  # fmt: skip
NEEDS_REAL = {"topic missing", "timestamps", "retention"}
NEEDS_ODBC = {"ODBC driver"}


@pytest.mark.parametrize("name", BROKEN)
def test_only_what_is_broken_is_reported(name, place, findings, given_brokers):
    break_, state, about, words = BROKEN[name]
    if about in NEEDS_REAL and not given_brokers:
        pytest.skip(missing("a real Kafka"))
    if about in NEEDS_ODBC and not odbc_loads():
        pytest.skip(missing("unixODBC"))
    break_(place)
    kept = place.more.pop("kept", None)
    results = findings()
    if kept:
        kept.close()
    matching = [finding for finding in results if (finding.state, finding.about) == (state, about)]
    assert any(words in finding.text for finding in matching), lines(results)
    failed = {finding.about for finding in results if finding.state is FAIL}
    assert failed <= {about}, lines(results)
    assert {"recovery", "disk", "ports", "open files"} <= {finding.about for finding in results}


def test_without_unixodbc_one_line_says_what_to_install(tmp_path):
    """On any machine: the loader finds a file with the library's name that is not a library."""
    (tmp_path / "libodbc.so.2").touch()
    values = {"DB_HOST": "127.0.0.1", "DB_PASSWORD": "x", "LD_LIBRARY_PATH": str(tmp_path)}
    for command in (["ops.cli", "doctor"], ["sql"]):
        told = run(
            [sys.executable, "-m", *command], cwd=tmp_path, env=child_environment(values),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = [line for line in (told.stdout + told.stderr).splitlines() if "ODBC" in line]
        assert told.returncode == 1
        assert len(said) == 1, told
        assert "apt-get install unixodbc" in said[0]
        assert "Traceback" not in told.stderr


def test_an_error_in_one_check_is_reported_and_the_others_still_run(place, findings):
    def broken():
        raise RuntimeError("no clock")

    place.more["now"] = broken
    results = findings()
    assert ("database", "RuntimeError: no clock") in [
        (finding.about, finding.text[-len("RuntimeError: no clock") :])
        for finding in results
        if finding.state is FAIL
    ]
    assert {"recovery", "disk", "ports"} <= {finding.about for finding in results}
