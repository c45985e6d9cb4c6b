"""Checks periodically that the topic is still the one that the flow started with."""

from threading import Event, Thread

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from contract.errors import UnavailableError
from contract.partitions import partitions_text
from dataflows.metrics import PARTITIONS_UNTAKEN
from runtime.kafka import KafkaAccess
from runtime.reach import why_no_answer
from runtime.topic import Topic, describe_topic, takes_orders

_EVERY_S = 10.0
_ANSWER_S = 6.0
_log = structlog.get_logger("topic")


class TopicWatch:
    """Requests the topic's id and partitions every ten seconds, from its own thread.

    A partition is untaken if it has records and no committed offset of the group in two successive
    checks. Untaken partitions are logged and counted.
    """

    def __init__(
        self, kafka: KafkaAccess, topic: str, group: str, ours: frozenset[int] | None
    ) -> None:
        """`ours` are the partitions that the flow takes; None if it takes all.

        Raises:
            IotError: the broker does not answer, or has no such topic.
        """
        self._name = topic
        self._ours = ours
        self._admin = AdminClient(kafka.config())
        try:
            cluster = self._admin.list_topics(topic, timeout=_ANSWER_S)
            self._describes = takes_orders(cluster)
            described = self._described()
        except KafkaException as error:
            raise why_no_answer(kafka, topic) from error
        if described is None:
            raise UnavailableError(f"KAFKA_TOPIC: the broker has no topic {topic}; start again")
        self.partitions = described.partitions
        """The partitions at the start."""
        self.topic_id = described.id
        """The topic's id; None if the broker has none."""
        self.grown = False
        """Whether the topic has new partitions that the flow would take."""
        self._consumer = Consumer(kafka.config() | {"group.id": group, "enable.auto.commit": False})
        self._untaken: frozenset[int] = frozenset()
        self._told: frozenset[int] = frozenset()
        Thread(target=self._run, name="topic", daemon=True).start()

    def _run(self) -> None:
        pause = Event()
        while not self.grown and not pause.wait(_EVERY_S):
            try:
                self._look()
            except KafkaException:  # broker unreachable; `Ends` reports it
                continue

    def _described(self) -> Topic | None:
        if self._describes:
            return describe_topic(self._admin, self._name)
        there = self._admin.list_topics(self._name, timeout=_ANSWER_S).topics[self._name]
        return Topic(self._name, None, frozenset(there.partitions))

    def _look(self) -> None:
        now = self._described()
        if now is None:  # deleted; the source reports it
            return
        if now.id is not None and now.id != self.topic_id:
            self.topic_id = now.id
            return
        new = now.partitions - self.partitions
        if self._ours is None:
            if new and not self.grown:
                _log.warning(
                    "the topic has new partitions",
                    topic=self._name,
                    partitions=partitions_text(new),
                )
                self.grown = True
            return
        self._report(untaken(self._consumer, self._name, now.partitions - self._ours))

    def _report(self, now: frozenset[int]) -> None:
        lasting = now & self._untaken  # a flow for the others may be starting
        self._untaken = now
        PARTITIONS_UNTAKEN.set(len(lasting))
        if lasting and lasting != self._told:
            _log.error(
                "no flow takes these partitions, and they have records: assign them to a process "
                "(KAFKA_PARTITIONS)",
                topic=self._name,
                partitions=partitions_text(lasting),
            )
        self._told = lasting


def untaken(consumer: Consumer, topic: str, partitions: frozenset[int]) -> frozenset[int]:
    """The partitions that have records but no committed offset of the consumer's group.

    Raises:
        KafkaException: the broker does not answer.
    """
    if not partitions:
        return frozenset()
    asked = [TopicPartition(topic, partition) for partition in sorted(partitions)]
    never = [end for end in consumer.committed(asked, timeout=_ANSWER_S) if end.offset < 0]
    return frozenset(
        end.partition for end in never if consumer.get_watermark_offsets(end, timeout=_ANSWER_S)[1]
    )
