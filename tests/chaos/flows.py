"""Flows for the long tests: each with its own topic, database and device, and without an edge."""

from pathlib import Path
from time import monotonic, sleep, time_ns
from uuid import uuid4

from confluent_kafka import Producer

from contract.errors import UnavailableError
from contract.packet import Packet, encode
from ops.children import Child, Children
from runtime.ending import end_of
from runtime.kafka import kafka_access
from runtime.topic import ensure_topic
from tests.chaos.rig import DifferenceError
from tests.pipeline.conftest import PLAIN, Pipeline

START_S = 180.0
"""How long a flow may take to start or to end while the machine is busy."""
_SHOWN = 20


class Flow:
    """One flow, started and stopped repeatedly, with all its files in `folder`."""

    def __init__(self, folder: Path, brokers: str) -> None:
        folder.mkdir()
        self._children = Children(folder)
        self.pipeline = Pipeline(folder, brokers, self._children, f"chaos.{uuid4().hex[:12]}")
        self.pipeline.values["METRICS_PORT"] = str(self.pipeline.metrics_port)
        settings = self.pipeline.settings
        for topic in (settings.kafka_topic, settings.dead_letter_topic):
            until(lambda topic=topic: self._has(topic), f"the broker knows {topic}")
        self._device = self.pipeline.register("rig", PLAIN)
        self._stored = 0
        self._child: Child | None = None

    def start(self) -> None:
        """Start the process. `ready` returns true when it works."""
        self._child = self.pipeline.start_flow()

    def ready(self) -> bool:
        """Whether the flow has heard from the broker where its partitions end.

        Raises:
            DifferenceError: the process has ended.
        """
        self.check()
        return self.pipeline.metrics().get("iot_flow_broker_up") == 1

    def check(self) -> None:
        """Raise DifferenceError, with the last lines of the log, if the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise DifferenceError(f"a flow {end_of(code)}:\n    {self._last_lines()}")

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def wait_stopped(self) -> None:
        """Return when the process has ended in order.

        Raises:
            DifferenceError: it ended in another way.
        """
        code = self._process.wait(START_S)
        assert self._child is not None
        self.pipeline.children.stop(self._child)
        if code:
            raise DifferenceError(f"a flow {end_of(code)} when stopped:\n    {self._last_lines()}")

    def store_one(self) -> None:
        """Put a packet on the topic, and wait until the flow has stored it."""
        self._stored += 1
        (device,), *_ = self.pipeline.rows("SELECT id FROM devices")
        (sensor,), *_ = self.pipeline.rows("SELECT id FROM sensors")
        now = time_ns() // 1000
        packet = Packet(
            packet_id=uuid4().hex, device_id=device, device_uuid=self._device.uuid,
            received_at=now, sensor_id=[sensor], ts=[now], device_ts=None,
            value=[float(self._stored)], seq=[0],
        )  # fmt: skip
        producer = Producer(kafka_access(self.pipeline.settings).config())
        producer.produce(self.pipeline.topic, encode(packet), packet.device_uuid)
        assert producer.flush(START_S) == 0, "the broker did not take a record"
        until(self._is_stored, f"reading {self._stored} is stored")

    def said(self, event: str) -> int:
        """How often the flow has logged this event."""
        return sum(line["event"] == event for line in self.pipeline.log("flow"))

    def close(self) -> None:
        """Stop the process, and close the database."""
        self._children.__exit__(None, None, None)
        self.pipeline.database.close()

    def _has(self, topic: str) -> bool:
        """Create the topic. A busy broker may need more than the 3 s that a program waits."""
        try:
            return ensure_topic(kafka_access(self.pipeline.settings), topic) > 0
        except UnavailableError:
            return False

    def _is_stored(self) -> bool:
        self.check()
        return self.pipeline.rows("SELECT count(*) FROM sensor_readings")[0][0] == self._stored

    @property
    def _process(self):
        assert self._child is not None, "the flow was not started"
        return self._child.process

    def _last_lines(self) -> str:
        assert self._child is not None
        return "\n    ".join(self._child.log.read_text().splitlines()[-_SHOWN:])


def until(condition, what: str) -> None:
    """Return when the condition holds.

    Raises:
        DifferenceError: it does not within `START_S`.
    """
    end = monotonic() + START_S
    while not condition():
        if monotonic() > end:
            raise DifferenceError(f"not within {START_S:.0f} s: {what}")
        sleep(0.1)
