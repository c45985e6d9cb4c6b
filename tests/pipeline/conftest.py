"""The pipeline as users run it: edge and flow as processes, with a broker and a database file."""

import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import httpx
import pytest
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from contract.settings import Settings, child_environment, load_settings
from ops.children import Child, Children, with_stack
from ops.devices import RegisteredDevice, SensorSpec, register
from sql.schema import apply_schema, open_database
from tests.databases import environment_of, plain
from tests.ports import free_ports
from tests.sql.installations import new_database

ABOVE_80 = SensorSpec("boiler", "temperature", "°C", {"warning": (0, 80), "critical": (-10, 90)})
PLAIN = SensorSpec("pump", "power", "W")

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For plain HTTP: the default loads all certificates for each request, 30 ms of CPU."""


def wait_until(condition, seconds=120.0, message="the condition did not hold in time"):
    """Wait until the condition holds. The limit is for conditions that never hold."""
    asked = monotonic()
    end = asked + seconds
    while not condition():
        assert monotonic() < end, message
        sleep(max(0.05, monotonic() - asked))  # an expensive condition gets longer pauses
        asked = monotonic()


def create_topic(brokers: str, name: str, partitions: int, timestamps: str) -> None:
    """Make a topic with `timestamps` as its `message.timestamp.type`, unless it is there; the
    embedded broker makes its topics by itself, and does not answer.
    """
    admin = AdminClient({"bootstrap.servers": brokers})
    if str(admin.list_topics(timeout=60).cluster_id).startswith("mockCluster"):
        return
    new = NewTopic(name, partitions, config={"message.timestamp.type": timestamps})
    try:
        admin.create_topics([new])[name].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def a_file(folder: Path) -> Settings:
    """Settings with a new SQLite file."""
    return Settings(db_engine="sqlite", iot_sqlite_path=folder / "iot.db")


on_each_engine = pytest.mark.parametrize("pipeline", ["sqlite", "mssql"], indirect=True)
"""For tests that also run on the T-SQL server, if there is one."""


class Pipeline:
    """A new database, a new topic, and the processes between them."""

    def __init__(
        self,
        folder: Path,
        brokers: str,
        children: Children,
        topic: str,
        new: Callable[[Path], Settings] = a_file,
    ) -> None:
        self.folder, self.children, self.topic, self._new = folder, children, topic, new
        self.values = environment_of(new(folder)) | {
            "KAFKA_BOOTSTRAP_SERVERS": brokers,
            "KAFKA_TOPIC": self.topic,
            "IOT_LANG": "en",
        }
        self.settings = load_settings(**{k.lower(): v for k, v in self.values.items()})
        apply_schema(self.settings)
        self.database = open_database(self.settings)
        self.port = free_ports()
        self.metrics_port = free_ports(4)
        """Of the first process. Each further process has the next port."""
        self.url = f"http://127.0.0.1:{self.port}"
        self.recovery = folder / "recovery"

    def register(self, name: str = "rig", *sensors: SensorSpec) -> RegisteredDevice:
        return register(self.database, name, sensors or (ABOVE_80, PLAIN))

    def start_edge(self, *options: str, module=("ingest_edge",), **values: str) -> Child:
        env = child_environment(self.values | values)
        arguments = (*module, "--port", str(self.port), *options)
        edge = self.children.start("edge", *arguments, env=env)
        wait_until(lambda: self._answers() or self.children.check(), message="no edge")
        return edge

    def start_flow(self, epoch_s: int = 1) -> Child:
        if not self.recovery.exists():
            self.recovery.mkdir()
            command = [sys.executable, "-m", "bytewax.recovery", str(self.recovery), "1"]
            subprocess.run(command, check=True)
        return self.children.start(
            "flow", "bytewax.run", "dataflows.readings:flow()",
            "-r", str(self.recovery), "-s", str(epoch_s), "-b", "0",
            env=with_stack(child_environment(self.values)),
        )  # fmt: skip

    def start_run(self, processes: int = 1, *more: str) -> Child:
        """Start the flow with `iot run`, with metrics ports from `metrics_port`."""
        options = ("--recovery", str(self.folder / "root"), "--processes", str(processes))
        return self.children.start(
            "run", "ops.cli", "run", *options, "--snapshot-seconds", "1",
            "--metrics-port", str(self.metrics_port), *more, env=child_environment(self.values),
        )  # fmt: skip

    def metrics(self, process: int = 0) -> dict[str, float]:
        """Exposed samples by name and labels. Empty while no process answers."""
        port = self.metrics_port + process
        try:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60, verify=_NO_TLS).text
        except httpx.HTTPError:
            return {}
        lines = [line.rpartition(" ") for line in text.splitlines() if line[:1] != "#"]
        return {name: float(value) for name, _, value in lines}

    def again(self) -> "Pipeline":
        """A second pipeline on the same topic, with a new database that has the same devices."""
        folder = self.folder / "again"
        folder.mkdir()
        brokers = self.values["KAFKA_BOOTSTRAP_SERVERS"]
        made = Pipeline(folder, brokers, self.children, self.topic, self._new)
        if "IF_CREATE_TIME" in self.values:
            made.values["IF_CREATE_TIME"] = self.values["IF_CREATE_TIME"]
        for table in ("devices", "sensors", "alert_thresholds"):
            self._copy(table, made)
        made.rows("UPDATE sensors SET operational_state = 'INITIALIZING', valid_readings_count = 0")
        return made

    def _copy(self, table: str, other: "Pipeline") -> None:
        cursor = self.database._connection.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in cursor.description]
        target = other.database._connection
        insert = (
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' for _ in names)})"
        )
        if self.settings.engine == "mssql":
            target.execute(f"SET IDENTITY_INSERT {table} ON")
        for row in cursor.fetchall():
            target.execute(insert, tuple(row))
        if self.settings.engine == "mssql":
            target.execute(f"SET IDENTITY_INSERT {table} OFF")

    def kill(self, child: Child) -> None:
        child.process.send_signal(signal.SIGKILL)
        child.process.wait()
        self.children.stop(child)

    def post(self, body: dict, path: str = "/ingest/packets", **headers: str) -> httpx.Response:
        return httpx.post(self.url + path, json=body, headers=headers, timeout=120, verify=_NO_TLS)

    def iot(self, *arguments: str, **values: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ops.cli", *arguments],
            env=child_environment(self.values | values),
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    def rows(self, statement: str) -> list[tuple]:
        cursor = self.database._connection.execute(statement)
        if cursor.description is None:
            return []
        return [tuple(map(plain, row)) for row in cursor.fetchall()]

    def readings(self) -> list[tuple]:
        return self.rows(
            "SELECT s.name, r.value, r.event_timestamp, r.device_timestamp, r.seq"
            " FROM sensor_readings r JOIN sensors s ON s.id = r.sensor_id"
            " ORDER BY s.id, r.event_timestamp, r.seq"
        )

    def events(self) -> list[tuple]:
        """All columns of events and notifications except their ids."""
        return self.rows(
            "SELECT e.event_key, e.device_id, e.sensor_id, e.event_type, e.event_code, e.title,"
            " e.message, e.status, e.created_at, e.resolved_at, e.payload, n.severity, n.title,"
            " n.message, n.created_at, n.triggered_value"
            " FROM ml_events e JOIN alert_notifications n"
            " ON n.source_event_id = e.id AND n.source = 'ml_event'"
            " ORDER BY e.created_at, e.event_key"
        )

    def wait_stored(self, count: int, seconds: float = 240.0) -> None:
        def stored() -> bool:
            self.children.check()
            return self.rows("SELECT count(*) FROM sensor_readings")[0][0] >= count

        wait_until(stored, seconds, f"{count} readings were not stored in time")

    def forget_progress(self) -> None:
        """Reset the committed offsets, so that `wait_taken` waits for the next flow."""
        with closing(self._group()) as consumer:
            topics = consumer.list_topics(self.topic, timeout=60).topics
            here = [
                TopicPartition(self.topic, number, 0) for number in topics[self.topic].partitions
            ]
            consumer.commit(offsets=here, asynchronous=False)

    def wait_taken(self) -> None:
        """Wait until the flow has taken a snapshot after the last record of the topic."""
        with closing(self._group()) as consumer:
            here = self._partitions(consumer)
            ends = [consumer.get_watermark_offsets(place, 60)[1] for place in here]

            def taken() -> bool:
                self.children.check()
                try:
                    return [position.offset for position in consumer.committed(here, 60)] == ends
                except KafkaException:  # a busy broker is still looking for its coordinator
                    return False

            wait_until(taken, 240, "the flow did not take the log")

    def _group(self) -> Consumer:
        """A member of the flow's group that reads nothing."""
        brokers = self.values["KAFKA_BOOTSTRAP_SERVERS"]
        return Consumer({"bootstrap.servers": brokers, "group.id": f"{self.topic}.flow"})

    def _partitions(self, consumer: Consumer, offset: int = OFFSET_INVALID) -> list[TopicPartition]:
        partitions = consumer.list_topics(self.topic, timeout=60).topics[self.topic].partitions
        return [TopicPartition(self.topic, number, offset) for number in partitions]

    def log(self, name: str) -> list[dict]:
        lines = (self.folder / f"{name}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", verify=_NO_TLS).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture
def pipeline(request: pytest.FixtureRequest, tmp_path: Path, brokers: str) -> Iterator[Pipeline]:
    new: Callable[[Path], Settings] = a_file
    with ExitStack() as stack:
        if getattr(request, "param", "sqlite") == "mssql":
            server = request.getfixturevalue("mssql_server")
            new = lambda _: stack.enter_context(new_database(server))  # noqa: E731
        children = stack.enter_context(Children(tmp_path))
        made = Pipeline(tmp_path, brokers, children, f"test.{uuid4().hex[:12]}", new)
        stack.callback(made.database.close)
        yield made
