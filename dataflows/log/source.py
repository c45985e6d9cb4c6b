"""The source: each partition of the topic as one sequence of records and heartbeats.

A heartbeat says "up to this arrival time there is nothing more", so that the panes of a sensor
that fell silent close without waiting for another record. It is sent when the broker's own
answer, see `ends`, says that we have taken everything up to the end of the partition; its arrival
time is the broker's clock before that question, see `clock`, minus a margin, so that no record that
comes later can have an earlier one. What a heartbeat closes, the next record would have closed the
same way: results do not depend on heartbeats, they only come sooner.

A position is one in a certain log. Where a partition resumes, the topic's id and the last record
taken must be the same as before; else the topic was created again, or the broker was restored, and
`IF_OFFSET_GONE` decides what to do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event
from time import monotonic, sleep
from typing import Any, Literal

import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from contract.errors import SetupError, UnavailableError
from contract.partitions import partitions_text
from dataflows.log.clock import broker_clock
from dataflows.log.commits import Commits
from dataflows.log.ends import End, Ends, ends_of
from dataflows.log.position import Position, fingerprint
from dataflows.log.topic_watch import TopicWatch
from dataflows.metrics import EPOCH_SECONDS, RECORDS, SNAPSHOT_AT
from runtime.kafka import KafkaAccess
from runtime.reach import cluster_metadata, why_no_answer
from sinks.progress import StoredProgress

_RECORDS_A_BATCH = 1_000
_QUEUE_KB = 2_048
"""What a partition may fetch ahead, in KiB: more is no faster, and memory while catching up."""
_WAIT_MS = 100
"""How long the broker may hold a fetch back when there is nothing; the embedded one does so even
when something comes meanwhile."""
_PAUSE_S = 0.01
"""How long to wait before asking again when no partition had anything."""
_AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)
_ANSWER_S, _AGAIN_S = 10.0, 0.1
_SETTLE_S = 1.0
"""How long the end may wait for the last offsets to be committed."""
_MARGIN_MS = 2_000
"""How far the clocks of a cluster's brokers may be apart."""

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
    messages: Sequence[Message] = ()
    """As the client gave them, for what is seldom wanted: keys and headers."""

    @property
    def by_producers(self) -> bool:
        """Whether it was not the broker that dated them."""
        return bool(self.messages) and self.messages[0].timestamp()[0] != TIMESTAMP_LOG_APPEND_TIME


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


class _Pause:
    """Lets the worker rest when none of its partitions has anything.

    Bytewax would do so by the machine's clock: after a step back, not for 10 ms but for the step.
    """

    def __init__(self) -> None:
        self._partitions = 0
        self._empty = 0
        self._never = Event()

    def joined(self, partitions: int) -> None:
        """`partitions` came or, below zero, went."""
        self._partitions += partitions

    def found(self, anything: bool) -> None:
        """A partition had something or nothing. Blocks for 10 ms when all in a row had nothing."""
        self._empty = 0 if anything else self._empty + 1
        if self._empty >= self._partitions:
            self._empty = 0
            self._never.wait(_PAUSE_S)


@dataclass(frozen=True)
class PacketSource(FixedPartitionedSource[tuple[str, Records], Any]):
    """Reads partitions of a topic; a partition's recovery state is its `Position`.

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
    """What to do where the broker does not have the recovery state's offset any more, or has
    another log under the topic's name."""
    added: frozenset[int] = frozenset()
    """Partitions that the topic got later: without recovery state they begin at their first record,
    whatever `start` says."""
    progress: Callable[[int, int, int | None], None] = _nobody
    """Told of each batch: partition, next offset, arrival time of the last record."""
    spans: Mapping[int, Span] | None = None
    """What to read of each partition instead of all that comes, without heartbeats between."""
    commits: Commits | None = None
    """Given each snapshot's offset."""
    stored: StoredProgress | None = None
    """What the database has of the topic: no partition resumes beyond that."""
    watch: TopicWatch | None = None
    """Knows the topic's id."""
    pause: _Pause = field(default_factory=_Pause)

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

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> "_PacketPartition":
        """Begin at the snapshot's position, else where `start` says."""
        resume = None if resume_state is None else Position.of(resume_state)
        return _PacketPartition(self, int(for_part), resume)


class _PacketPartition(StatefulSourcePartition[tuple[str, Records], Any]):
    def __init__(self, source: PacketSource, partition: int, resume: Position | None) -> None:
        self._source = source
        self._partition = TopicPartition(source.topic, partition)
        self._span = None if source.spans is None else source.spans[partition]
        self._ended = False
        self._topic_id = None if source.watch is None else source.watch.topic_id
        self._last: Message | None = None
        """The last record taken in this process."""
        self._before = Position(0) if resume is None else resume
        """Knows the last record taken by the processes before."""
        self._compare = False
        """Whether the next record to come is that one, to be compared and not taken again."""
        self._ends: Ends | None = None
        self._heard: End | None = None
        self._epoch_at = monotonic()
        self._counter = RECORDS.labels(str(partition))
        config = consumer_config(source.kafka, source.topic)
        # reports the end even where the last offsets are markers of transactions
        self._consumer = Consumer(config | {"enable.partition.eof": True})
        self._next = self._first(resume)
        self._assign()
        if self._span is None:
            self._ends = ends_of(source.kafka, source.topic, group(source.topic))
            self._ends.watch(partition)
        source.progress(partition, self._next, None)
        source.pause.joined(1)

    def next_batch(self) -> list[tuple[str, Records]]:
        if self._source.stop():
            raise StopIteration
        if self._source.watch is not None and self._source.watch.topic_id != self._topic_id:
            self._other_log("the topic was deleted and created again")
        if self._span is not None and self._next >= self._span.end:
            return self._last_heartbeat(self._span)
        messages = [m for m in self._consumer.consume(_RECORDS_A_BATCH, 0) if self._is_record(m)]
        if self._compare and messages:
            messages = self._compared(messages)
        if self._span is not None:
            end = self._span.end
            messages = [m for m in messages if (m.offset() or 0) < end]
        self._source.pause.found(bool(messages))
        if messages:
            batch = self._batch(
                [offset for m in messages if (offset := m.offset()) is not None],
                [m.timestamp()[1] for m in messages],
                [m.value() for m in messages],
                messages,
            )
            self._next, self._last = batch.offsets[-1] + 1, messages[-1]
            broker_clock.heard(*self._last.timestamp())
            self._counter.inc(len(messages))
            self._source.progress(self._partition.partition, self._next, batch.arrivals[-1])
        else:
            arrival = self._heartbeat()
            if arrival is None:
                return []
            batch = self._batch([], [arrival], [])
        return [(str(self._partition.partition), batch)]

    def next_awake(self) -> datetime:
        return _AT_ONCE  # after a pause of our own

    def snapshot(self) -> tuple[Any, ...]:
        now = monotonic()
        EPOCH_SECONDS.observe(now - self._epoch_at)
        SNAPSHOT_AT.set_to_current_time()
        self._epoch_at = now
        if self._source.commits is not None:
            self._source.commits.put(self._partition.partition, self._next)
        last, print_ = self._before.last, self._before.fingerprint
        if self._last is not None:
            last, print_ = self._last.offset(), fingerprint(self._last)
        return Position(self._next, self._topic_id, last, print_).state()

    def close(self) -> None:
        self._source.pause.joined(-1)
        if self._source.commits is not None:
            self._source.commits.settle(_SETTLE_S)
        self._consumer.close()

    def _first(self, resume: Position | None) -> int:
        """The offset to begin at.

        Raises:
            SetupError: the broker does not have what comes next, and nobody said to go on.
            IotError: no broker answers, by cause.
        """
        if self._span is not None:
            return self._span.first if resume is None else resume.next
        first, end = self._bounds()
        if resume is None:
            new = self._partition.partition in self._source.added
            return int(end if self._source.start == "latest" and not new else first)
        if None is not resume.topic_id != self._topic_id is not None:
            return self._other_log("the topic was deleted and created again", first)
        if not first <= resume.next <= end:
            return self._gone(resume.next, int(first), int(end))
        if self._source.stored is not None and resume.last is not None:
            self._source.stored.check(self._partition.partition, resume.topic_id, resume.last)
        self._compare = resume.last is not None and resume.last >= first
        return resume.next

    def _bounds(self) -> tuple[int, int]:
        """Offsets of the first record that is there, and after the last one."""
        tried_until = monotonic() + _ANSWER_S
        while True:
            try:
                first, end = self._consumer.get_watermark_offsets(
                    self._partition, timeout=_ANSWER_S
                )
            except KafkaException as error:  # a new partition has no leader for a moment
                code = error.args[0].code()
                if code < 0 or code in _REFUSALS or monotonic() > tried_until:
                    raise why_no_answer(self._source.kafka, self._source.topic) from error
                sleep(_AGAIN_S)
            else:
                return int(first), int(end)

    def _assign(self) -> None:
        """Have the consumer read what comes next, or, to compare it, the record before that."""
        here, begin = self._partition, self._before.last if self._compare else self._next
        assert begin is not None
        self._consumer.assign([TopicPartition(here.topic, here.partition, begin)])

    def _compared(self, messages: list[Message]) -> list[Message]:
        """The messages that are new, once the first is known to be what was taken last."""
        self._compare = False
        first, *rest = messages
        if first.offset() != self._before.last:  # retention was faster
            return messages
        if fingerprint(first) == self._before.fingerprint:
            return rest
        low, _ = self._consumer.get_watermark_offsets(self._partition, timeout=10)
        self._next = self._other_log(
            f"the record at offset {first.offset()} is not the one that was there", low
        )
        self._before = Position(self._next)
        self._assign()
        return []

    def _other_log(self, why: str, first: int | None = None) -> int:
        """Where to go on in another log under the topic's name: at `first`, where the setting says
        so and it is known.

        Raises:
            SetupError: nobody said to go on.
            UnavailableError: the next start will go on.
        """
        source, partition = self._source, self._partition.partition
        text = (
            f"{source.topic} partition {partition} is not the log that the flow has read: {why}. "
            "The topic was created again, or the broker was restored from an older copy"
        )
        if source.if_gone == "stop":
            raise SetupError(
                f"{text}. To take the log that is there from its first record on, start once with "
                "IF_OFFSET_GONE=earliest: what is stored is not stored again"
            )
        if first is None:
            raise UnavailableError(f"{text}. Starting again, from its first record on")
        _log.error("another log, taking it from its first record on", partition=partition, why=why)
        self._before = Position(first)
        return int(first)

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
        self,
        offsets: list[int],
        arrivals: list[int],
        values: list[bytes | None],
        messages: Sequence[Message] = (),
    ) -> Records:
        here = self._partition
        return Records(here.topic, here.partition, offsets, arrivals, values, messages)

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            end = message.offset() or 0
            if end > self._next:  # over what is no record
                self._next = end
                if self._span is None:
                    self._source.progress(self._partition.partition, end, None)
            return False
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            first, end = self._consumer.get_watermark_offsets(self._partition, timeout=10)
            self._next = self._gone(self._next, int(first), int(end))
            self._compare = False
            self._assign()
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
        return broker_clock.at(end.asked_at) - _MARGIN_MS
