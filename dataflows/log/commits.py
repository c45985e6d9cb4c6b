"""How far the flow is, told to the broker for Kafka's own tools; recovery does not rest on it."""

from contextlib import suppress
from threading import Condition, Thread
from time import monotonic

from confluent_kafka import Consumer, KafkaException, TopicPartition

from runtime.kafka import KafkaAccess


class Commits:
    """Commits offsets for a group, from a thread with a client of its own: a commit takes as long
    as a broker that stands still lets it wait, and then nobody should be waiting with it.
    """

    def __init__(self, kafka: KafkaAccess, topic: str, group: str) -> None:
        self._topic = topic
        self._consumer = Consumer(kafka.config() | {"group.id": group, "enable.auto.commit": False})
        self._turn = Condition()
        self._waiting: dict[int, int] = {}
        self._at_it = False
        self._patience: float | None = None
        """Until when the end waits, as soon as somebody has asked."""
        Thread(target=self._run, name="commits", daemon=True).start()

    def put(self, partition: int, next_offset: int) -> None:
        """Commit this, unless a newer one comes first."""
        with self._turn:
            self._waiting[partition] = next_offset
            self._turn.notify_all()

    def settle(self, seconds: float) -> None:
        """Wait until all is told, but no longer than so, however many ask one after the other."""
        with self._turn:
            self._patience = self._patience or monotonic() + seconds
            left = max(0.0, self._patience - monotonic())
            self._turn.wait_for(lambda: not self._waiting and not self._at_it, left)

    def _run(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._waiting)
                found, self._waiting = self._waiting, {}
                self._at_it = True
            offsets = [TopicPartition(self._topic, *one) for one in found.items()]
            with suppress(KafkaException):  # the broker is away; the next snapshot tells again
                self._consumer.commit(offsets=offsets, asynchronous=False)
            with self._turn:
                self._at_it = False
                self._turn.notify_all()
