"""Records that cannot be decoded, byte for byte, to the dead-letter topic."""

from dataclasses import dataclass

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import KafkaError, Message, Producer

from contract.topic import client_config
from dataflows.decode import BadRecord


@dataclass(frozen=True)
class DeadLetterSink(FixedPartitionedSink[BadRecord, None]):
    """Copies each bad record to `topic` with the headers error, topic, partition and offset.

    A batch is done when the broker has acknowledged it; while the broker is away the flow waits.
    After a crash the same record may be copied once more, with the same headers.
    """

    brokers: str
    topic: str

    def list_parts(self) -> list[str]:
        """One: bad records are few."""
        return ["0"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_DeadLetterPartition":
        """A producer of its own; it connects when there is something to write."""
        return _DeadLetterPartition(self.brokers, self.topic)


class _DeadLetterPartition(StatefulSinkPartition[BadRecord, None]):
    def __init__(self, brokers: str, topic: str) -> None:
        self._topic = topic
        self._failed: KafkaError | None = None
        config = {"acks": "all", "enable.idempotence": True, "message.timeout.ms": 0}
        self._producer = Producer(client_config(brokers) | config)

    def write_batch(self, values: list[BadRecord]) -> None:
        for bad in values:
            headers = {
                "error": bad.error,
                "topic": bad.topic,
                "partition": str(bad.partition),
                "offset": str(bad.offset),
            }
            self._producer.produce(
                self._topic, bad.value, headers=list(headers.items()), on_delivery=self._delivered
            )
        self._producer.flush()
        if self._failed is not None:
            raise RuntimeError(f"the broker refuses the topic {self._topic}: {self._failed.str()}")

    def snapshot(self) -> None:
        return None

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        self._failed = self._failed or error
