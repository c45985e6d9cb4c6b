"""Which part of each partition is read, and the event times of which rows count."""

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
"""How far the last heartbeat lies before the start of the run, as that of the live flow does."""
_ANSWER_S = 10.0
_NEEDS_TIMES = {KafkaError._UNSUPPORTED_FEATURE, KafkaError._NOT_IMPLEMENTED}


_NO_TIMES = (
    "--margin: the broker cannot look offsets up by time (the embedded one cannot): leave "
    "the option out, and the whole log is read"
)


class Part(msgspec.Struct, frozen=True):
    """What a replay takes of one partition."""

    partition: int
    first: int
    """Offset of the first record read."""
    end: int
    """Offset after the last one."""
    until: int
    """Arrival time of the heartbeat after it. All times are epoch milliseconds UTC."""
    rows_from: int
    """Event time of the first row that counts."""
    rows_to: int
    """And of the first one that does not any more."""
    truncated: bool
    """Whether the broker has lost what was before `first`."""

    @property
    def span(self) -> Span:
        """As the source takes it."""
        return Span(self.first, self.end, self.until)


def find_parts(
    settings: Settings, begin: Moment | None, end: Moment | None, margin_ms: int | None, now_ms: int
) -> list[Part]:
    """The part of each partition that has one, as of now.

    None for `begin` and `end` is the beginning of the log and its end now. With a margin only so
    much is read before and after the rows that count.

    Raises:
        SetupError: there is nothing to read, or the broker cannot look offsets up by time.
        UnavailableError: the broker does not answer.
    """
    kafka, topic = kafka_access(settings), settings.kafka_topic
    consumer = Consumer(consumer_config(kafka, topic) | {"enable.partition.eof": True})
    try:
        with _told(kafka, topic):
            log = _Log(consumer, topic)
            parts = [
                part
                for partition in log.partitions(settings.partitions)
                if (part := _part(log, partition, begin, end, margin_ms, now_ms)) is not None
            ]
    finally:
        consumer.close()
    if not parts:
        raise SetupError(f"the topic {topic} has no records there: nothing to replay")
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
    """Questions about a topic."""

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    def partitions(self, wanted: Iterable[int] | None) -> list[int]:
        """Those that the topic has, or `wanted`."""
        found = self._consumer.list_topics(self._topic, timeout=_ANSWER_S).topics[self._topic]
        if found.error is not None or not found.partitions:
            raise SetupError(f"KAFKA_TOPIC: the broker has no topic {self._topic}")
        if wanted is None:
            return sorted(found.partitions)
        if lacking := frozenset(wanted) - frozenset(found.partitions):
            raise SetupError(
                f"KAFKA_PARTITIONS: the topic {self._topic} has no partition "
                + partitions_text(lacking)
            )
        return sorted(wanted)

    def bounds(self, partition: int) -> tuple[int, int]:
        """Offsets of the first record that is there, and after the last one."""
        low, high = self._consumer.get_watermark_offsets(self._at(partition), timeout=_ANSWER_S)
        return int(low), int(high)

    def time_of(self, partition: int, moment: Moment, low: int, high: int) -> int:
        """A moment in that partition; an offset that is still to come lies after everything."""
        if not isinstance(moment, Offset):
            return moment
        if moment.number >= high:
            return MAX_TIME_MS
        self._consumer.assign([self._at(partition, max(low, moment.number))])
        while True:
            found = self._consumer.poll(_ANSWER_S)
            if found is None:
                raise UnavailableError(
                    f"the broker did not give the record at {moment.number} of partition "
                    f"{partition} within {_ANSWER_S:g} s"
                )
            error = found.error()
            if error is None:
                return int(found.timestamp()[1])
            if error.code() == KafkaError._PARTITION_EOF:
                return MAX_TIME_MS
            if not error.retriable():
                raise KafkaException(error)

    def offset_at(self, partition: int, ms: int, high: int) -> int:
        """Offset of the first record that arrived then or later."""
        asked = [self._at(partition, max(0, ms))]
        (found,) = self._consumer.offsets_for_times(asked, timeout=_ANSWER_S)
        if found.error is not None:
            raise KafkaException(found.error)
        if found.offset >= 0:
            return int(found.offset)
        if self.time_of(partition, Offset(high - 1), 0, high) in range(ms, MAX_TIME_MS):
            raise SetupError(_NO_TIMES)  # it says that there is none, and there is one
        return high

    def _at(self, partition: int, offset: int = 0) -> TopicPartition:
        return TopicPartition(self._topic, partition, offset)


@contextmanager
def _told(kafka: KafkaAccess, topic: str) -> Iterator[None]:
    """The client's errors as ours."""
    try:
        yield
    except KafkaException as error:
        refusal = error.args[0]
        if refusal.code() in _NEEDS_TIMES:
            raise SetupError(_NO_TIMES) from error
        if not refusal.name().startswith("_"):
            raise UnavailableError(
                f"KAFKA_TOPIC: the broker at {kafka.brokers} does not tell us of the topic "
                f"{topic}: {refusal.str()}"
            ) from error
        raise why_no_answer(kafka, topic) from error
