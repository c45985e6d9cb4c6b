"""The source: each partition of the topic as one sequence of records and heartbeats.

A heartbeat means "there are no more records up to this arrival time". It closes the panes of a
silent sensor without waiting for another record. The source emits one when the broker's answer
(see `ends`) shows that it has read everything up to the end of the partition. Its arrival time is
the broker's clock before that request (see `clock`) minus a margin, so that no later record can
have an earlier arrival. What a heartbeat closes, the next record would close in the same way:
heartbeats make results come sooner, and do not change them.

A position belongs to one log. When a partition resumes, the topic's id and the last record read
must be the same as before. Otherwise the topic was created again, or the broker was restored from
a copy, and `IF_OFFSET_GONE` decides what happens.
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
"""Prefetch per partition, in KiB. More is not faster, and takes memory while catching up."""
_WAIT_MS = 100
"""How long the broker may hold back an empty fetch. The embedded broker waits for this time even
if a record arrives meanwhile."""
_PAUSE_S = 0.01
"""How long to wait before the next poll if no partition had records."""
_AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)
_ANSWER_S, _AGAIN_S = 10.0, 0.1
_SETTLE_S = 1.0
"""How long `close` waits until the last offsets are committed."""
_MARGIN_MS = 2_000
"""The largest allowed difference between the clocks of a cluster's brokers."""

_REFUSALS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}
"""Errors that waiting does not fix; the client itself retries all others."""

_log = structlog.get_logger("source")


def group(topic: str) -> str:
    """The flow's consumer group."""
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
    """The client's messages, for keys and headers."""

    @property
    def by_producers(self) -> bool:
        """Whether producers, not the broker, set the timestamps."""
        return bool(self.messages) and self.messages[0].timestamp()[0] != TIMESTAMP_LOG_APPEND_TIME


@dataclass(frozen=True, slots=True)
class Span:
    """A bounded part of a partition."""

    first: int
    """Offset of its first record."""
    end: int
    """Offset after its last record."""
    until: int
    """Arrival time of the heartbeat after it, epoch milliseconds UTC."""


def _ignore(partition: int, next_offset: int, arrival: int | None) -> None:
    """Ignores progress reports."""


class _Pause:
    """Pauses the worker when none of its partitions has records.

    Bytewax would time the pause by the machine's clock: after a step back, it would last for the
    whole step instead of 10 ms.
    """

    def __init__(self) -> None:
        self._partitions = 0
        self._empty = 0
        self._never = Event()

    def joined(self, partitions: int) -> None:
        """Add `partitions`, or remove them if below zero."""
        self._partitions += partitions

    def polled(self, any_records: bool) -> None:
        """Note whether a poll returned records. Blocks for 10 ms when all in a row had none."""
        self._empty = 0 if any_records else self._empty + 1
        if self._empty >= self._partitions:
            self._empty = 0
            self._never.wait(_PAUSE_S)


@dataclass(frozen=True)
class PacketSource(FixedPartitionedSource[tuple[str, Records], Any]):
    """Reads partitions of a topic. The recovery state of a partition is its `Position`.

    Ends with a snapshot when `stop` returns true.
    """

    kafka: KafkaAccess
    topic: str
    start: Literal["earliest", "latest"]
    """Where a partition without recovery state begins."""
    stop: Callable[[], bool]
    partitions: frozenset[int] | None = None
    """The partitions to read; None: all of the topic."""
    if_gone: Literal["stop", "earliest"] = "stop"
    """What to do if the broker no longer has the offset of the recovery state, or has another log
    under the topic's name."""
    added: frozenset[int] = frozenset()
    """Partitions that were added to the topic later. Without recovery state, they begin at their
    first record, regardless of `start`."""
    progress: Callable[[int, int, int | None], None] = _ignore
    """Called with each batch: partition, next offset, arrival time of the last record."""
    spans: Mapping[int, Span] | None = None
    """The span to read of each partition, without heartbeats inside it; None: read without end."""
    commits: Commits | None = None
    """Commits the offset of each snapshot."""
    stored: StoredProgress | None = None
    """The progress stored in the database; no partition resumes beyond it."""
    watch: TopicWatch | None = None
    """Knows the topic's id."""
    pause: _Pause = field(default_factory=_Pause)

    def list_parts(self) -> list[str]:
        """The numbers of the partitions.

        Raises:
            IotError: no broker answers; see `cluster_metadata` for the types.
            SetupError: the topic does not have one of `partitions`.
        """
        cluster = cluster_metadata(self.kafka, self.topic)
        existing = frozenset(cluster.topics[self.topic].partitions)
        if self.spans is not None:
            return [str(partition) for partition in sorted(self.spans)]
        if self.partitions is None:
            return [str(partition) for partition in sorted(existing)]
        if missing := self.partitions - existing:
            raise SetupError(
                f"KAFKA_PARTITIONS: the topic {self.topic} has no partition "
                f"{partitions_text(missing)}; it has {partitions_text(existing)}"
            )
        return [str(partition) for partition in sorted(self.partitions)]

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> "_PacketPartition":
        """Begin at the position of the snapshot, or where `start` says."""
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
        """The last record read by this process."""
        self._before = Position(0) if resume is None else resume
        """Has the last record read by earlier processes."""
        self._compare = False
        """Whether the next record is that one again: it is compared, not emitted."""
        self._ends: Ends | None = None
        self._heard: End | None = None
        self._epoch_at = monotonic()
        self._counter = RECORDS.labels(str(partition))
        config = consumer_config(source.kafka, source.topic)
        # reports the end even if the last offsets are transaction markers
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
        self._source.pause.polled(bool(messages))
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
        return _AT_ONCE  # `_Pause` has paused already

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
            SetupError: the broker does not have the next record, and IF_OFFSET_GONE is `stop`.
            IotError: no broker answers; see `why_no_answer` for the types.
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
        """Offsets of the first available record, and after the last one."""
        tried_until = monotonic() + _ANSWER_S
        while True:
            try:
                first, end = self._consumer.get_watermark_offsets(
                    self._partition, timeout=_ANSWER_S
                )
            except KafkaException as error:  # a new partition briefly has no leader
                code = error.args[0].code()
                if code < 0 or code in _REFUSALS or monotonic() > tried_until:
                    raise why_no_answer(self._source.kafka, self._source.topic) from error
                sleep(_AGAIN_S)
            else:
                return int(first), int(end)

    def _assign(self) -> None:
        """Assign the next offset to the consumer, or that of the last record, to compare it."""
        here, begin = self._partition, self._before.last if self._compare else self._next
        assert begin is not None
        self._consumer.assign([TopicPartition(here.topic, here.partition, begin)])

    def _compared(self, messages: list[Message]) -> list[Message]:
        """The new messages, after checking that the first one is the last record read."""
        self._compare = False
        first, *rest = messages
        if first.offset() != self._before.last:  # deleted by retention
            return messages
        if fingerprint(first) == self._before.fingerprint:
            return rest
        low, _ = self._consumer.get_watermark_offsets(self._partition, timeout=10)
        self._next = self._other_log(f"the record at offset {first.offset()} has changed", low)
        self._before = Position(self._next)
        self._assign()
        return []

    def _other_log(self, why: str, first: int | None = None) -> int:
        """The offset at which to continue in another log under the topic's name: `first`, if the
        setting allows it and `first` is known.

        Raises:
            SetupError: IF_OFFSET_GONE is `stop`.
            UnavailableError: `first` is unknown; the next start continues.
        """
        source, partition = self._source, self._partition.partition
        text = (
            f"{source.topic} partition {partition} is not the log that the flow has read: {why}. "
            "The topic was created again, or the broker was restored from an older copy"
        )
        if source.if_gone == "stop":
            raise SetupError(
                f"{text}. To read the present log from its first record, start once with "
                "IF_OFFSET_GONE=earliest; stored data is not duplicated"
            )
        if first is None:
            raise UnavailableError(
                f"{text}. Start again to read the present log from its first record"
            )
        _log.error("another log, reading it from its first record", partition=partition, why=why)
        self._before = Position(first)
        return int(first)

    def _gone(self, wanted: int, first: int, end: int) -> int:
        source, partition = self._source, self._partition.partition
        if source.if_gone == "stop":
            why = (
                "retention deleted the records between, or the topic was recreated"
                if wanted < first
                else "the topic was recreated, or the broker has lost its newest records"
            )
            raise SetupError(
                f"the flow was at offset {wanted} of {source.topic} partition {partition}, but "
                f"the partition begins at {first} and ends at {end}: {why}. To continue at its "
                "first record, start once with IF_OFFSET_GONE=earliest"
            )
        _log.error(
            "records are missing, continuing at the first available one",
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
            if end > self._next:  # past offsets without records
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
            raise SetupError(
                f"KAFKA_TOPIC: the broker refuses access to {self._source.topic}: {error.str()}"
            )
        _log.warning("broker unreachable", partition=self._partition.partition, error=error.str())
        return False

    def _heartbeat(self) -> int | None:
        """The arrival time of a heartbeat, once for each answer that shows the end; else None."""
        end = None if self._ends is None else self._ends.latest(self._partition.partition)
        if end is None or end is self._heard or self._next < end.offset:
            return None
        self._heard = end
        return broker_clock.at(end.asked_at) - _MARGIN_MS
