"""The source: each partition of the topic as one sequence of records and heartbeats.

A heartbeat says "up to this arrival time there is nothing more", so that the panes of a sensor
that fell silent close without waiting for another record. It is sent when the broker's own
answer, asked for a moment before, says that we stand at the end of the partition; its arrival
time is the wall clock of that question minus a margin, so that no record that comes later can
have an earlier one. What a heartbeat closes, the next record would have closed the same way:
results do not depend on heartbeats, they only come sooner.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from time import time
from typing import Any

import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from contract.errors import SetupError, UnavailableError
from contract.topic import client_config

_RECORDS_A_BATCH = 1_000
_QUEUE_KB = 16_384
"""What a partition may fetch ahead, in KiB."""
_WAIT_MS = 100
"""How long the broker may hold a fetch back when there is nothing; the embedded one does so even
when something comes meanwhile."""
_PAUSE = timedelta(milliseconds=10)
"""How long to wait before asking again when nothing came."""
_HEARTBEAT_S = 1.0
_MARGIN_MS = 2_000
"""How far the broker's clock may be ahead of ours."""

_REFUSALS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}
"""What waiting does not mend; the client itself waits for everything else."""

_log = structlog.get_logger("source")


def consumer_config(brokers: str, topic: str) -> dict[str, Any]:
    """The settings of a partition's consumer."""
    return client_config(brokers) | {
        "group.id": f"{topic}.flow",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "queued.max.messages.kbytes": _QUEUE_KB,
        "fetch.queue.backoff.ms": 20,
        "fetch.wait.max.ms": _WAIT_MS,
    }


@dataclass(frozen=True, slots=True)
class Records:
    """Consecutive records of one partition, or one heartbeat (no values, one arrival)."""

    topic: str
    partition: int
    offsets: list[int]
    arrivals: list[int]
    """The records' own timestamps, epoch milliseconds UTC."""
    values: list[bytes | None]


@dataclass(frozen=True)
class PacketSource(FixedPartitionedSource[tuple[str, Records], int]):
    """Reads all partitions of a topic; a partition's recovery state is its next offset.

    Ends when `stop` returns true, which leaves a snapshot behind. `start` is where a partition
    without recovery state begins: "earliest" or "latest".
    """

    brokers: str
    topic: str
    start: str
    stop: Callable[[], bool]

    def list_parts(self) -> list[str]:
        """The partitions of the topic, by number.

        Raises:
            UnavailableError: the broker does not answer within 10 s.
        """
        try:
            found = AdminClient(client_config(self.brokers)).list_topics(self.topic, timeout=10)
        except KafkaException as error:
            raise UnavailableError(f"no Kafka broker answers at {self.brokers}") from error
        return [str(partition) for partition in sorted(found.topics[self.topic].partitions)]

    def build_part(
        self, step_id: str, for_part: str, resume_state: int | None
    ) -> "_PacketPartition":
        """Begin at the snapshot's offset, else where `start` says."""
        return _PacketPartition(self, int(for_part), resume_state)


class _Ends:
    """Where partitions end, asked by one client a process: a consumer's own connection would
    answer only after its fetch, up to half a second later. Tells when the broker goes and comes.
    """

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self._admin = AdminClient(client_config(brokers))
        self._away = False

    def ask(self, partition: TopicPartition) -> Future[Any]:
        """The answer to come."""
        question = {partition: OffsetSpec.latest()}  # type: ignore[no-untyped-call]
        answer: Future[Any] = self._admin.list_offsets(question, request_timeout=2)[partition]
        return answer

    def offset(self, answer: Future[Any]) -> int | None:
        """The end that the broker named; None when it did not answer."""
        error = answer.exception()
        if (error is not None) is not self._away:
            self._away = error is not None
            if self._away:
                _log.warning("broker away, waiting for it", brokers=self._brokers, error=str(error))
            else:
                _log.info("broker back", brokers=self._brokers)
        return None if error is not None else int(answer.result().offset)


_ends = cache(_Ends)


class _PacketPartition(StatefulSourcePartition[tuple[str, Records], int]):
    def __init__(self, source: PacketSource, partition: int, resume: int | None) -> None:
        self._source = source
        self._partition = TopicPartition(source.topic, partition)
        self._empty = True
        self._asked_at = 0.0
        self._answer: Future[Any] | None = None
        self._consumer = Consumer(consumer_config(source.brokers, source.topic))
        if resume is None:
            first, end = self._consumer.get_watermark_offsets(self._partition, timeout=10)
            resume = end if source.start == "latest" else first
        self._next = resume
        self._consumer.assign([TopicPartition(source.topic, partition, resume)])

    def next_batch(self) -> list[tuple[str, Records]]:
        if self._source.stop():
            raise StopIteration
        messages = [m for m in self._consumer.consume(_RECORDS_A_BATCH, 0) if self._is_record(m)]
        self._empty = not messages
        if messages:
            self._answer = None
            batch = self._batch(
                [offset for m in messages if (offset := m.offset()) is not None],
                [m.timestamp()[1] for m in messages],
                [m.value() for m in messages],
            )
            self._next = batch.offsets[-1] + 1
        else:
            arrival = self._heartbeat(time())
            if arrival is None:
                return []
            batch = self._batch([], [arrival], [])
        return [(str(self._partition.partition), batch)]

    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + _PAUSE if self._empty else None

    def snapshot(self) -> int:
        return self._next

    def close(self) -> None:
        self._consumer.close()

    def _batch(
        self, offsets: list[int], arrivals: list[int], values: list[bytes | None]
    ) -> Records:
        here = self._partition
        return Records(here.topic, here.partition, offsets, arrivals, values)

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise SetupError(
                f"the broker has no offset {self._next} of {self._source.topic} partition "
                f"{self._partition.partition}: what lay there is gone by retention, or the topic "
                "was made anew. To go on with what is there, start with a new recovery directory"
            )
        if error.fatal() or error.code() in _REFUSALS:
            raise SetupError(f"the broker refuses {self._source.topic}: {error.str()}")
        _log.warning("broker away", partition=self._partition.partition, error=error.str())
        return False

    def _heartbeat(self, now: float) -> int | None:
        """The arrival time up to which there is nothing more, at most once a second."""
        if self._answer is None:
            if now - self._asked_at >= _HEARTBEAT_S:
                self._answer, self._asked_at = _ends(self._source.brokers).ask(self._partition), now
            return None
        if not self._answer.done():
            return None
        answer, self._answer = self._answer, None
        end = _ends(self._source.brokers).offset(answer)
        if end is None or self._next < end:
            return None
        return int(self._asked_at * 1000) - _MARGIN_MS
