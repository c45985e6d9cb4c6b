"""Records that cannot be decoded, byte for byte, to the dead-letter topic."""

from dataclasses import dataclass, replace

import structlog
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import KafkaError, KafkaException, Producer

from contract.errors import SetupError
from dataflows.decode import BadRecord
from dataflows.metrics import DEAD_LETTERS
from runtime.kafka import KafkaAccess

_LARGEST = 16_777_216
"""Bytes; the broker's own bound on the topic decides."""
_log = structlog.get_logger("dead_letters")


@dataclass(frozen=True)
class DeadLetterSink(FixedPartitionedSink[BadRecord, None]):
    """Copies each bad record to `topic` with the headers error, topic, partition and offset.

    A batch is done when the broker has acknowledged it; while the broker is away the flow waits.
    After a crash the same record may be copied once more, with the same headers.
    """

    kafka: KafkaAccess
    topic: str

    def list_parts(self) -> list[str]:
        """One: bad records are few."""
        return ["0"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_DeadLetterPartition":
        """A producer of its own; it connects when there is something to write."""
        return _DeadLetterPartition(self.kafka, self.topic)


class _DeadLetterPartition(StatefulSinkPartition[BadRecord, None]):
    def __init__(self, kafka: KafkaAccess, topic: str) -> None:
        self._topic = topic
        config = {
            "acks": "all",
            "enable.idempotence": True,
            "message.timeout.ms": 0,
            "message.max.bytes": _LARGEST,
        }
        self._producer = Producer(kafka.config() | config)

    def write_batch(self, values: list[BadRecord]) -> None:
        for bad in values:
            if self._send(bad, bad.value) == KafkaError.MSG_SIZE_TOO_LARGE:
                # no reason to stop for good: where it stood is kept, and the log has the bytes
                _log.error("bad record too large to copy", topic=bad.topic, offset=bad.offset)
                self._send(replace(bad, error=f"too large to copy; {bad.error}"), None)
            DEAD_LETTERS.inc()
            _log.warning("bad record buried", topic=bad.topic, offset=bad.offset, error=bad.error)

    def snapshot(self) -> None:
        return None

    def _send(self, bad: BadRecord, value: bytes | None) -> int | None:
        """Copy the record and wait for the broker; MSG_SIZE_TOO_LARGE when that is its answer."""
        headers = {
            "error": bad.error[:1000],
            "topic": bad.topic,
            "partition": str(bad.partition),
            "offset": str(bad.offset),
        }
        answers: list[KafkaError | None] = []
        try:
            self._producer.produce(
                self._topic,
                value,
                headers=list(headers.items()),
                on_delivery=lambda error, _: answers.append(error),
            )
        except KafkaException as error:
            answers.append(error.args[0])
        self._producer.flush()
        (answer,) = answers
        if answer is None:
            return None
        if answer.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return KafkaError.MSG_SIZE_TOO_LARGE
        raise SetupError(f"the broker refuses the topic {self._topic}: {answer.str()}")
