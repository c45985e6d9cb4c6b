"""The part of each partition that is read, and the event times of the selected rows."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from contract.errors import SetupError, UnavailableError
from contract.packet import MAX_TIME_MS
from contract.partitions import partitions_text
from contract.settings import Settings
from dataflows.log import Span, consumer_config
from ops.replay.moments import Moment, Offset
from runtime.kafka import KafkaAccess, kafka_access
from runtime.reach import why_no_answer

HEARTBEAT_MS = 2_000
"""Distance of the last heartbeat from the start of the run, the same as in the live flow."""
_ANSWER_S = 10.0
_NEEDS_TIMES = {KafkaError._UNSUPPORTED_FEATURE, KafkaError._NOT_IMPLEMENTED}


_NO_TIMES = (
    "--margin: this broker cannot look up offsets by time, like the in-memory broker: remove the "
    "option to read the whole log"
)


class Part(msgspec.Struct, frozen=True):
    """The part of one partition that a replay reads."""

    partition: int
    first: int
    """Offset of the first record."""
    end: int
    """Offset after the last record."""
    until: int
    """Arrival time of the heartbeat after the last record. All times are epoch milliseconds UTC."""
    rows_from: int
    """Event time from which rows are selected."""
    rows_to: int
    """Event time before which rows are selected."""
    truncated: bool
    """Whether the broker has deleted records before `first`."""

    @property
    def span(self) -> Span:
        """The span as the source expects it."""
        return Span(self.first, self.end, self.until)


def find_parts(
    settings: Settings, begin: Moment | None, end: Moment | None, margin_ms: int | None, now_ms: int
) -> list[Part]:
    """Find the part of each partition that has records in the span, as of now.

    None for `begin` and `end` means the start of the log and its current end. With a margin, only
    that much is read before and after the selected rows.

    Raises:
        SetupError: there is nothing to read, or the broker cannot look up offsets by time.
        UnavailableError: the broker does not answer.
    """
    kafka, topic = kafka_access(settings), settings.kafka_topic
    consumer = Consumer(consumer_config(kafka, topic) | {"enable.partition.eof": True})
    try:
        with _translated(kafka, topic):
            log = _Log(consumer, topic)
            parts = [
                part
                for partition in log.partitions(settings.partitions)
                if (part := _part(log, partition, begin, end, margin_ms, now_ms)) is not None
            ]
    finally:
        consumer.close()
    if not parts:
        raise SetupError(f"the topic {topic} has no records in this span: nothing to replay")
    return parts


def _part(  # noqa: PLR0917 - as `find_parts`
    log: "_Log",
    partition: int,
    begin: Moment | None,
    end: Moment | None,
    margin_ms: int | None,
    now_ms: int,
) -> Part | None:
    low, high = log.bounds(partition)
    if low == high:
        return None
    rows_from = 0 if begin is None else log.time_of(partition, begin, low, high)
    rows_to = MAX_TIME_MS if end is None else log.time_of(partition, end, low, high)
    if rows_from >= rows_to:
        return None
    first, last, until = low, high, now_ms - HEARTBEAT_MS
    if margin_ms is not None:
        if begin is not None:
            first = log.offset_at(partition, rows_from - margin_ms, high)
        if end is not None:
            last = log.offset_at(partition, rows_to + margin_ms, high)
            until = min(until, rows_to + margin_ms)
    if first >= last:
        return None
    return Part(partition, first, last, until, rows_from, rows_to, first == low > 0)


class _Log:
    """Queries about a topic."""

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    def partitions(self, wanted: Iterable[int] | None) -> list[int]:
        """The partitions of the topic, or `wanted`."""
        metadata = self._consumer.list_topics(self._topic, timeout=_ANSWER_S).topics[self._topic]
        if metadata.error is not None or not metadata.partitions:
            raise SetupError(f"KAFKA_TOPIC: the broker has no topic {self._topic}")
        if wanted is None:
            return sorted(metadata.partitions)
        if missing := frozenset(wanted) - frozenset(metadata.partitions):
            raise SetupError(
                f"KAFKA_PARTITIONS: the topic {self._topic} has no partition "
                + partitions_text(missing)
            )
        return sorted(wanted)

    def bounds(self, partition: int) -> tuple[int, int]:
        """Offsets of the oldest record, and after the newest one."""
        low, high = self._consumer.get_watermark_offsets(self._at(partition), timeout=_ANSWER_S)
        return int(low), int(high)

    def time_of(self, partition: int, moment: Moment, low: int, high: int) -> int:
        """The time of `moment` in a partition. A future offset lies after everything."""
        if not isinstance(moment, Offset):
            return moment
        if moment.number >= high:
            return MAX_TIME_MS
        self._consumer.assign([self._at(partition, max(low, moment.number))])
        while True:
            record = self._consumer.poll(_ANSWER_S)
            if record is None:
                raise UnavailableError(
                    f"the broker did not return the record at offset {moment.number} of partition "
                    f"{partition} within {_ANSWER_S:g} s"
                )
            error = record.error()
            if error is None:
                return int(record.timestamp()[1])
            if error.code() == KafkaError._PARTITION_EOF:
                return MAX_TIME_MS
            if not error.retriable():
                raise KafkaException(error)

    def offset_at(self, partition: int, ms: int, high: int) -> int:
        """Offset of the first record that arrived at `ms` or later."""
        query = [self._at(partition, max(0, ms))]
        (answer,) = self._consumer.offsets_for_times(query, timeout=_ANSWER_S)
        if answer.error is not None:
            raise KafkaException(answer.error)
        if answer.offset >= 0:
            return int(answer.offset)
        if self.time_of(partition, Offset(high - 1), 0, high) in range(ms, MAX_TIME_MS):
            raise SetupError(_NO_TIMES)  # the broker reports no such record, but there is one
        return high

    def _at(self, partition: int, offset: int = 0) -> TopicPartition:
        return TopicPartition(self._topic, partition, offset)


@contextmanager
def _translated(kafka: KafkaAccess, topic: str) -> Iterator[None]:
    """Translate the client's errors into ours."""
    try:
        yield
    except KafkaException as error:
        refusal = error.args[0]
        if refusal.code() in _NEEDS_TIMES:
            raise SetupError(_NO_TIMES) from error
        if not refusal.name().startswith("_"):
            raise UnavailableError(
                f"KAFKA_TOPIC: the broker at {kafka.brokers} does not describe the topic "
                f"{topic}: {refusal.str()}"
            ) from error
        raise why_no_answer(kafka, topic) from error
