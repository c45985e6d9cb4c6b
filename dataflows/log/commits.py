"""Commits offsets for Kafka's own tools. Recovery does not depend on them."""

from contextlib import suppress
from threading import Condition, Thread
from time import monotonic

from confluent_kafka import Consumer, KafkaException, TopicPartition

from runtime.kafka import KafkaAccess


class Commits:
    """Commits offsets for a group, from a thread with its own client: a commit may block for as
    long as the broker does not respond, and must not block the flow.
    """

    def __init__(self, kafka: KafkaAccess, topic: str, group: str) -> None:
        self._topic = topic
        self._consumer = Consumer(kafka.config() | {"group.id": group, "enable.auto.commit": False})
        self._turn = Condition()
        self._waiting: dict[int, int] = {}
        self._at_it = False
        self._patience: float | None = None
        """The time until which `settle` waits; None before its first call."""
        Thread(target=self._run, name="commits", daemon=True).start()

    def put(self, partition: int, next_offset: int) -> None:
        """Commit this offset, unless a newer one replaces it first."""
        with self._turn:
            self._waiting[partition] = next_offset
            self._turn.notify_all()

    def settle(self, seconds: float) -> None:
        """Wait until all offsets are committed, for at most `seconds` in total over all calls."""
        with self._turn:
            self._patience = self._patience or monotonic() + seconds
            left = max(0.0, self._patience - monotonic())
            self._turn.wait_for(lambda: not self._waiting and not self._at_it, left)

    def _run(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._waiting)
                waiting, self._waiting = self._waiting, {}
                self._at_it = True
            offsets = [TopicPartition(self._topic, *offset) for offset in waiting.items()]
            with suppress(KafkaException):  # broker unreachable; the next snapshot commits again
                self._consumer.commit(offsets=offsets, asynchronous=False)
            with self._turn:
                self._at_it = False
                self._turn.notify_all()
