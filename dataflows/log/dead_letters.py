"""Copies records that cannot be decoded, byte for byte, to the dead-letter topic."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from time import monotonic, sleep

import structlog
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import KafkaError, KafkaException, Producer

from contract.errors import IotError, UnavailableError
from dataflows.log.decode import BadRecord
from dataflows.metrics import DEAD_LETTERS, DEAD_LETTERS_WAITING
from runtime.kafka import KafkaAccess
from runtime.topic import ensure_topic

DEAD_LETTER_CONFIG = {"max.message.bytes": "4194304"}
"""The topic's configuration, if this program creates it."""
_LARGEST = 16_777_216
"""Bytes. The broker's limit for the topic decides."""
_PATIENCE_S = 5.0
"""Seconds without an answer before the wait is logged."""
_AGAIN_S = 60.0
"""Seconds before it is logged again."""
_PAUSE_S = 0.5
_TIMEOUT_MS = 30_000
_HEADER = 1000
"""The length in characters at which an error is cut for its header."""
_log = structlog.get_logger("dead_letters")


@dataclass(frozen=True)
class DeadLetterSink(FixedPartitionedSink[BadRecord, None]):
    """Copies each bad record to `topic`, with its key and headers and the headers error, topic,
    partition and offset.

    A batch is done when the broker has acknowledged it. While it cannot be written, the flow waits
    and logs that it does. A missing topic is created again. After a crash, the same record may be
    copied again, with the same headers.
    """

    kafka: KafkaAccess
    topic: str
    stop: Callable[[], bool] = lambda: False
    """Whether to stop waiting because the process is ending."""

    def list_parts(self) -> list[str]:
        """One part: bad records are rare."""
        return ["0"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_DeadLetterPartition":
        """A part with its own producer, which connects when there is something to write."""
        return _DeadLetterPartition(self)


class _DeadLetterPartition(StatefulSinkPartition[BadRecord, None]):
    def __init__(self, sink: DeadLetterSink) -> None:
        self._sink = sink
        self._said_at = -inf
        config = {
            "acks": "all",
            "enable.idempotence": True,
            "message.timeout.ms": _TIMEOUT_MS,
            "message.max.bytes": _LARGEST,
        }
        self._producer = Producer(sink.kafka.config() | config)

    def write_batch(self, values: list[BadRecord]) -> None:
        for bad in values:
            if self._send(bad) == KafkaError.MSG_SIZE_TOO_LARGE:
                # keep its place instead of stopping for good; the source topic has the bytes
                _log.error(
                    "bad record is too large for the dead-letter topic",
                    topic=bad.topic,
                    offset=bad.offset,
                )
                self._send(replace(bad, value=None, error=f"value too large to copy; {bad.error}"))
            DEAD_LETTERS.inc()
            _log.warning(
                "bad record written to the dead-letter topic",
                topic=bad.topic,
                offset=bad.offset,
                error=bad.error,
            )

    def snapshot(self) -> None:
        return None

    def _send(self, bad: BadRecord) -> int | None:
        """Copy the record, and retry until it succeeds. Returns MSG_SIZE_TOO_LARGE if that is the
        broker's answer.

        Raises:
            UnavailableError: the process is ending before the record was copied.
        """
        self._said_at = -inf
        try:
            while (error := self._answer(bad)) is not None:
                if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    return KafkaError.MSG_SIZE_TOO_LARGE
                self._wait(error.str())
            return None
        finally:
            DEAD_LETTERS_WAITING.set(0)

    def _answer(self, bad: BadRecord) -> KafkaError | None:
        """The broker's error for one attempt; None if it has the record."""
        answers: list[KafkaError | None] = []
        try:
            self._producer.produce(
                self._sink.topic,
                bad.value,
                bad.key,
                headers=_headers(bad),
                on_delivery=lambda error, _: answers.append(error),
            )
        except KafkaException as error:
            return error.args[0]  # type: ignore[no-any-return]
        while self._producer.flush(_PATIENCE_S):
            self._wait("no answer yet")
        return answers[0]

    def _wait(self, error: str) -> None:
        """Log the wait at intervals, and create the topic if it is missing."""
        DEAD_LETTERS_WAITING.set(1)
        if self._sink.stop():
            raise UnavailableError(
                f"stopped while a bad record waits for the topic {self._sink.topic} ({error}): the "
                "next start reads it again"
            )
        if monotonic() - self._said_at >= _AGAIN_S:
            self._said_at = monotonic()
            _log.error(
                "the flow waits: a bad record cannot be written to the dead-letter topic",
                topic=self._sink.topic,
                error=error,
            )
        try:
            ensure_topic(self._sink.kafka, self._sink.topic, DEAD_LETTER_CONFIG)
        except IotError as failure:
            _log.warning("the dead-letter topic cannot be created", error=str(failure))
        sleep(_PAUSE_S)


def _headers(bad: BadRecord) -> list[tuple[str, str | bytes | None]]:
    return [
        *bad.headers,
        ("error", bad.error[:_HEADER]),
        ("topic", bad.topic),
        ("partition", str(bad.partition)),
        ("offset", str(bad.offset)),
    ]
