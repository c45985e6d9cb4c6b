"""A pipeline whose processes are killed and restarted: what happened to each, and what is in the
tables.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from time import sleep, time

from bytewax.recovery import init_db_dir
from confluent_kafka import Consumer, Producer, TopicPartition

from contract.packet import Packet, encode
from contract.settings import child_environment
from ops.children import Child, with_stack
from runtime.ending import end_of
from runtime.kafka import kafka_access
from tests.pipeline.conftest import Pipeline, create_topic, wait_until
from tests.ports import free_ports

PARTITIONS = 4
"""What the embedded broker gives every topic."""
_SAID = 20
"""Log lines shown of a program that should not have ended."""
_END_MS = 90_000
"""How far after all records the last ones are dated: everything that is open closes."""
_IDLE_S = 7.0
"""How long after all records the last ones come, where they cannot be dated."""


Death = tuple[str, int] | None
"""At which point of `launch`, and the how-manieth time that it is reached."""

Values = Mapping[str, str]
"""Environment variables of one program."""
_NONE: Values = {}


class DifferenceError(Exception):
    """The tables differ from what they must be."""


class MissingError(Exception):
    """This machine does not have what a test needs."""


@dataclass
class Program:
    """One process of the pipeline: how to start it, and the child that it is now."""

    name: str
    command: tuple[str, ...]
    env: dict[str, str]
    child: Child
    ends: bool = False
    """Whether it should end with code 0 without a signal."""
    kills: int = 0


class Rig:
    """Programs around one topic and one database. One of them may be launched to its death; who was
    killed is restarted, and continues.

    With `append_time` arrival times are the broker's, as on every topic that the pipeline makes: a
    record that waited in its producer for a broker is not older than heartbeats before it. Else
    they are the producer's: only then the log's end needs no waiting.
    """

    def __init__(self, pipeline: Pipeline, *, append_time: bool = False) -> None:
        self.pipeline = pipeline
        self._append_time = append_time
        self._kafka = kafka_access(pipeline.settings)
        kind = "LogAppendTime" if append_time else "CreateTime"
        self.programs: dict[str, Program] = {}
        self.partitions = PARTITIONS
        """Of the topic."""
        create_topic(self._brokers, pipeline.topic, PARTITIONS, kind)
        if not append_time:
            pipeline.values["IF_CREATE_TIME"] = "accept"
        self._committed = Consumer(self._kafka.config() | {"group.id": f"{pipeline.topic}.flow"})

    @property
    def _brokers(self) -> str:
        return self.pipeline.values["KAFKA_BOOTSTRAP_SERVERS"]

    def beside(self, name: str) -> "Rig":
        """Another one on the same topic, with a database and recovery store of its own."""
        folder = self.pipeline.folder / name
        pipeline = Pipeline(folder, self._brokers, self.pipeline.children, self.pipeline.topic)
        return Rig(pipeline, append_time=self._append_time)

    def start(self, name: str, *command: str, death: Death = None, **values: str) -> Program:
        """Start `python -m COMMAND`; with `death` it kills itself there."""
        env = with_stack(child_environment(self.pipeline.values | values))
        launch = ("tests.chaos.launch", death[0], str(death[1])) if death else ()
        child = self._start(name, *launch, *command, env=env)
        self.programs[name] = Program(name, command, env, child)
        return self.programs[name]

    def start_edge(self, death: Death = None, values: Values = _NONE) -> Program:
        port = str(self.pipeline.port)
        return self.start("edge", "ingest_edge", "--port", port, death=death, **values)

    def start_flow(self, partitions: str, death: Death = None, values: Values = _NONE) -> Program:
        """A flow of these partitions, or of all that the topic has ("")."""
        name = f"flow {partitions}".strip()
        recovery = self.pipeline.folder / "recovery" / (partitions or "all")
        if not recovery.exists() or not any(recovery.iterdir()):
            recovery.mkdir(parents=True, exist_ok=True)
            init_db_dir(recovery, 1)
        range_ = {"KAFKA_PARTITIONS": partitions} if partitions else {}
        return self.start(
            name, "bytewax.run", "dataflows.readings:flow()",
            "-r", str(recovery), "-s", "1", "-b", "0", death=death, **range_, **values,
        )  # fmt: skip

    def start_run(self, processes: int) -> Program:
        """`iot run`, which restarts flows itself."""
        return self.start(
            "flow run", "ops.cli", "run", "--recovery", str(self.pipeline.folder / "recovery"),
            "--processes", str(processes), "--snapshot-seconds", "1",
            "--metrics-port", str(free_ports(processes)),
        )  # fmt: skip

    def revive(self) -> None:
        """Restart the programs that were killed.

        Raises:
            DifferenceError: a program ended in any other way.
        """
        for program in self.programs.values():
            code = program.child.process.poll()
            if code is None or (code == 0 and program.ends):
                continue
            if code != -SIGKILL:
                log = program.child.log
                said = "\n    ".join(log.read_text().splitlines()[-_SAID:])
                raise DifferenceError(f"{program.name} {end_of(code)}; {log}:\n    {said}")
            self.pipeline.children.stop(program.child)
            program.kills += 1
            if program.name.startswith("flow"):
                self.forget_committed()
            program.child = self._start(program.name, *program.command, env=program.env)

    def until(self, condition, what: str, seconds: float = 240.0) -> None:
        """Return when the condition holds; who is killed meanwhile is started again."""

        def holds() -> bool:
            self.revive()
            return condition()

        wait_until(holds, seconds, f"not within {seconds:.0f} s: {what}")

    def refusal(self, name: str, seconds: float = 60.0) -> str:
        """Wait until a program ends by itself, and return the last line of its log.

        Raises:
            DifferenceError: it does not, or not in order.
        """
        program = self.programs.pop(name)
        child = program.child
        try:
            wait_until(lambda: child.process.poll() is not None, seconds)
        except AssertionError as error:
            raise DifferenceError(f"{name} has not ended within {seconds:.0f} s") from error
        code, said = child.process.returncode, child.log.read_text()
        self.pipeline.children.stop(child)
        last = (said.splitlines() or [""])[-1]
        if code <= 0 or "Traceback" in said:
            raise DifferenceError(f"{name} {end_of(code)}, and said: {last}")
        return last

    def stop(self, *names: str) -> None:
        """Ask programs to end; a flow leaves a snapshot, with everything stored.

        Raises:
            DifferenceError: a flow did not end well.
        """
        for name in names or list(self.programs):
            program = self.programs.pop(name)
            self.pipeline.children.stop(program.child)
            code = program.child.process.returncode
            if code and name.startswith("flow"):
                raise DifferenceError(f"{name} was asked to stop, but {end_of(code)}")

    def end_log(self) -> None:
        """Write a last record to each partition, of a time at which all before it is over."""
        producer = Producer(self._kafka.config() | {"linger.ms": 0})
        if self._append_time:
            sleep(_IDLE_S)
        at = int(time() * 1000) + _END_MS
        for partition in range(self.partitions):
            last = Packet(
                packet_id="end", device_id=0, device_uuid="", received_at=at * 1000,
                sensor_id=[], ts=[], device_ts=None, value=[], seq=[],
            )  # fmt: skip
            producer.produce(self.pipeline.topic, encode(last), partition=partition, timestamp=at)
        assert producer.flush(10) == 0

    def forget_committed(self) -> None:
        """Let what the flow has said of its progress be nothing, so that what it says next is of
        the process that runs now.
        """
        start = [
            TopicPartition(self.pipeline.topic, number, 0) for number in range(self.partitions)
        ]
        self._committed.commit(offsets=start, asynchronous=False)

    def ends(self) -> list[int]:
        """The offset after the last record of each partition."""
        return [self._committed.get_watermark_offsets(place, 5)[1] for place in self._here()]

    def taken(self) -> bool:
        """Whether the flow has taken a snapshot behind all that is on the topic."""
        committed = self._committed.committed(self._here(), timeout=5)
        return [position.offset for position in committed] == self.ends()

    def _here(self) -> list[TopicPartition]:
        return [TopicPartition(self.pipeline.topic, number) for number in range(self.partitions)]

    def _start(self, name: str, *command: str, env: dict[str, str]) -> Child:
        module, *arguments = command
        return self.pipeline.children.start(name, module, *arguments, env=env)

    def close(self) -> None:
        self._committed.close()
        self.pipeline.database.close()


def copy_database(old: Path, new: Path) -> None:
    """A copy of the current state, even while the file is open."""
    with sqlite3.connect(old) as source, sqlite3.connect(new) as target:
        source.backup(target)
    source.close()
    target.close()
