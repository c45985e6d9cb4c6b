"""The source: each partition of the topic as one sequence of records and heartbeats.

A heartbeat says "up to this arrival time there is nothing more", so that the panes of a sensor
that fell silent close without waiting for another record. It is sent when the broker's own
answer, see `ends`, says that we have taken everything up to the end of the partition; its arrival
time is the wall clock before that question minus a margin, so that no record that comes later can
have an earlier one. What a heartbeat closes, the next record would have closed the same way:
results do not depend on heartbeats, they only come sooner.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Literal

import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from contract.errors import SetupError
from contract.partitions import partitions_text
from dataflows.commits import Commits
from dataflows.ends import End, Ends, ends_of
from dataflows.metrics import EPOCH_SECONDS, RECORDS, SNAPSHOT_AT
from runtime.kafka import KafkaAccess
from runtime.reach import cluster_metadata, why_no_answer

_RECORDS_A_BATCH = 1_000
_QUEUE_KB = 16_384
"""What a partition may fetch ahead, in KiB."""
_WAIT_MS = 100
"""How long the broker may hold a fetch back when there is nothing; the embedded one does so even
when something comes meanwhile."""
_PAUSE = timedelta(milliseconds=10)
"""How long to wait before asking again when nothing came."""
_SETTLE_S = 1.0
"""How long the end may wait for the last offsets to be committed."""
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


def group(topic: str) -> str:
    """The consumer group as which the flow is known to the broker."""
    return f"{topic}.flow"


def consumer_config(kafka: KafkaAccess, topic: str) -> dict[str, Any]:
    """The settings of a partition's consumer."""
    return kafka.config() | {
        "group.id": group(topic),
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


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a partition that is read and then ends."""

    first: int
    """Offset of its first record."""
    end: int
    """Offset after its last record."""
    until: int
    """Arrival time of the heartbeat that comes after it, epoch milliseconds UTC."""


def _nobody(partition: int, next_offset: int, arrival: int | None) -> None:
    """Who does not want to know how far the source is."""


@dataclass(frozen=True)
class PacketSource(FixedPartitionedSource[tuple[str, Records], int]):
    """Reads partitions of a topic; a partition's recovery state is its next offset.

    Ends when `stop` returns true, which leaves a snapshot behind.
    """

    kafka: KafkaAccess
    topic: str
    start: Literal["earliest", "latest"]
    """Where a partition without recovery state begins."""
    stop: Callable[[], bool]
    partitions: frozenset[int] | None = None
    """Which ones; None: all that the topic has."""
    if_gone: Literal["stop", "earliest"] = "stop"
    """What to do where the broker does not have the recovery state's offset any more."""
    progress: Callable[[int, int, int | None], None] = _nobody
    """Told of each batch: partition, next offset, arrival time of the last record."""
    spans: Mapping[int, Span] | None = None
    """What to read of each partition instead of all that comes, without heartbeats between."""
    commits: Commits | None = None
    """Whom to tell of each snapshot's offset."""

    def list_parts(self) -> list[str]:
        """The partitions by number.

        Raises:
            IotError: no broker answers, by cause; see `cluster_metadata`.
            SetupError: the topic lacks one of `partitions`.
        """
        cluster = cluster_metadata(self.kafka, self.topic)
        found = frozenset(cluster.topics[self.topic].partitions)
        if self.spans is not None:
            return [str(partition) for partition in sorted(self.spans)]
        if self.partitions is None:
            return [str(partition) for partition in sorted(found)]
        if lacking := self.partitions - found:
            raise SetupError(
                f"KAFKA_PARTITIONS: the topic {self.topic} has no partition "
                f"{partitions_text(lacking)}; it has {partitions_text(found)}"
            )
        return [str(partition) for partition in sorted(self.partitions)]

    def build_part(
        self, step_id: str, for_part: str, resume_state: int | None
    ) -> "_PacketPartition":
        """Begin at the snapshot's offset, else where `start` says."""
        return _PacketPartition(self, int(for_part), resume_state)


class _PacketPartition(StatefulSourcePartition[tuple[str, Records], int]):
    def __init__(self, source: PacketSource, partition: int, resume: int | None) -> None:
        self._source = source
        self._partition = TopicPartition(source.topic, partition)
        self._span = None if source.spans is None else source.spans[partition]
        self._ended = False
        self._empty = True
        self._ends: Ends | None = None
        self._heard: End | None = None
        self._epoch_at = monotonic()
        self._counter = RECORDS.labels(str(partition))
        config = consumer_config(source.kafka, source.topic)
        self._consumer = Consumer(config | {"enable.partition.eof": self._span is not None})
        self._next = self._first(resume)
        self._consumer.assign([TopicPartition(source.topic, partition, self._next)])
        if self._span is None:
            self._ends = ends_of(source.kafka, source.topic, group(source.topic))
            self._ends.watch(partition)
        source.progress(partition, self._next, None)

    def next_batch(self) -> list[tuple[str, Records]]:
        if self._source.stop():
            raise StopIteration
        if self._span is not None and self._next >= self._span.end:
            return self._last_heartbeat(self._span)
        messages = [m for m in self._consumer.consume(_RECORDS_A_BATCH, 0) if self._is_record(m)]
        if self._span is not None:
            end = self._span.end
            messages = [m for m in messages if (m.offset() or 0) < end]
        self._empty = not messages
        if messages:
            batch = self._batch(
                [offset for m in messages if (offset := m.offset()) is not None],
                [m.timestamp()[1] for m in messages],
                [m.value() for m in messages],
            )
            self._next = batch.offsets[-1] + 1
            self._counter.inc(len(messages))
            self._source.progress(self._partition.partition, self._next, batch.arrivals[-1])
        else:
            arrival = self._heartbeat()
            if arrival is None:
                return []
            batch = self._batch([], [arrival], [])
        return [(str(self._partition.partition), batch)]

    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + _PAUSE if self._empty else None

    def snapshot(self) -> int:
        now = monotonic()
        EPOCH_SECONDS.observe(now - self._epoch_at)
        SNAPSHOT_AT.set_to_current_time()
        self._epoch_at = now
        if self._source.commits is not None:
            self._source.commits.put(self._partition.partition, self._next)
        return self._next

    def close(self) -> None:
        if self._source.commits is not None:
            self._source.commits.settle(_SETTLE_S)
        self._consumer.close()

    def _first(self, resume: int | None) -> int:
        """The offset to begin at.

        Raises:
            SetupError: the broker does not have what comes next, and nobody said to go on.
            IotError: no broker answers, by cause.
        """
        if self._span is not None:
            return self._span.first if resume is None else resume
        try:
            first, end = self._consumer.get_watermark_offsets(self._partition, timeout=10)
        except KafkaException as error:
            raise why_no_answer(self._source.kafka, self._source.topic) from error
        if resume is None:
            return int(end if self._source.start == "latest" else first)
        if first <= resume <= end:
            return resume
        return self._gone(resume, int(first), int(end))

    def _gone(self, wanted: int, first: int, end: int) -> int:
        source, partition = self._source, self._partition.partition
        if source.if_gone == "stop":
            why = (
                "the records between are gone by retention, or the topic was made anew"
                if wanted < first
                else "the topic was made anew, or the broker has lost its newest records"
            )
            raise SetupError(
                f"the flow was at offset {wanted} of {source.topic} partition {partition}, and "
                f"what the broker has of it begins at {first} and ends at {end}: {why}. To go on "
                "with what is there, start once with IF_OFFSET_GONE=earliest"
            )
        _log.error(
            "records gone, going on with the first that is there",
            partition=partition,
            wanted=wanted,
            first=first,
            end=end,
        )
        return first

    def _last_heartbeat(self, span: Span) -> list[tuple[str, Records]]:
        if self._ended:
            raise StopIteration
        self._ended = True
        return [(str(self._partition.partition), self._batch([], [span.until], []))]

    def _batch(
        self, offsets: list[int], arrivals: list[int], values: list[bytes | None]
    ) -> Records:
        here = self._partition
        return Records(here.topic, here.partition, offsets, arrivals, values)

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            self._next = max(self._next, message.offset() or 0)  # over what is no record
            return False
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            first, end = self._consumer.get_watermark_offsets(self._partition, timeout=10)
            self._next = self._gone(self._next, int(first), int(end))
            here = self._partition
            self._consumer.assign([TopicPartition(here.topic, here.partition, self._next)])
            return False
        if error.fatal() or error.code() in _REFUSALS:
            raise SetupError(f"the broker refuses {self._source.topic}: {error.str()}")
        _log.warning("broker away", partition=self._partition.partition, error=error.str())
        return False

    def _heartbeat(self) -> int | None:
        """The arrival time up to which there is nothing more, once for each answer."""
        end = None if self._ends is None else self._ends.latest(self._partition.partition)
        if end is None or end is self._heard or self._next < end.offset:
            return None
        self._heard = end
        return int(end.asked_at * 1000) - _MARGIN_MS
