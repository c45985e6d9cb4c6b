"""Where partitions end: one request per second for all of them, from one thread per process."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from threading import Condition, Thread
from time import monotonic

import structlog
from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from runtime.kafka import KafkaAccess
from runtime.reach import Events

EVERY_S = 1.0
_ANSWER_S = 2.0
_PATIENCE_S = 1.5
"""How long partitions may lack a leader, as after their creation, before it is reported."""
_LEADERS_S = 5.0
"""How often the client refreshes the leaders of partitions. With its default of minutes, it would
keep asking a broker that is no longer the leader."""
_log = structlog.get_logger("source")


@dataclass(frozen=True, slots=True)
class End:
    """The broker's answer about one partition."""

    offset: int
    """Offset after the last record, including records of open transactions."""
    asked_at: float
    """The monotonic clock before the request, seconds."""


class Ends:
    """Asks the broker where the watched partitions end, and keeps the answers.

    A partition has the answer to the last finished request, or none if the broker did not answer
    for it. Logs when the broker becomes unreachable and when it is back.
    """

    def __init__(self, kafka: KafkaAccess, topic: str, group: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._events = Events()
        # a consumer without partitions; `AdminClient.list_offsets` crashes under load
        self._consumer = Consumer(
            kafka.config()
            | {
                "group.id": group,
                "enable.auto.commit": False,
                "isolation.level": "read_uncommitted",  # else an open transaction hides the end
                "metadata.max.age.ms": int(_LEADERS_S * 1000),
                "error_cb": self._events,
            }
        )
        self._changed = Condition()
        self._watched: set[int] = set()
        self._answers: dict[int, End] = {}
        self._away = False
        self._silent_since: float | None = None
        self._refusal = ""
        Thread(target=self._run, name="ends", daemon=True).start()

    def watch(self, partition: int) -> None:
        """Start to ask about this partition."""
        with self._changed:
            self._watched.add(partition)
            self._changed.notify_all()

    def latest(self, partition: int) -> End | None:
        """The answer to the last request; None if there is none."""
        return self._answers.get(partition)

    @property
    def complete(self) -> bool:
        """Whether the broker answered the last request for every watched partition."""
        return bool(self._watched) and self._watched <= self._answers.keys()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._watched)
                asked = sorted(self._watched)
            began = monotonic()
            self._ask(asked)
            with self._changed:  # a new partition does not wait
                rest = max(0.0, began + EVERY_S - monotonic())
                self._changed.wait_for(lambda: len(self._watched) > len(asked), rest)  # noqa: B023

    def _ask(self, partitions: list[int]) -> None:
        began, self._refusal = monotonic(), ""
        try:
            answers = self._ends_of(partitions)
        except KafkaException as failure:  # for all partitions, even if only one leader fails
            self._refusal = failure.args[0].str()
            answers = self._by_leader(partitions)
        self._answers = answers
        self._consumer.poll(0)  # delivers the events
        if len(answers) == len(partitions):
            self._report_back()
        else:
            self._report_away(began)

    def _report_back(self) -> None:
        self._silent_since = None
        if self._away:
            self._away = False
            _log.info("broker back", brokers=self._kafka.brokers)

    def _report_away(self, began: float) -> None:
        self._silent_since = self._silent_since or began
        if self._away or monotonic() - self._silent_since < _PATIENCE_S:
            return
        self._away = True
        _log.warning(
            "broker unreachable, waiting for it",
            brokers=self._kafka.brokers,
            error=self._refusal or "no answer in time",
            client=self._events.newest(),
        )

    def _by_leader(self, partitions: list[int]) -> dict[int, End]:
        """The answers of the leaders that respond."""
        try:
            cluster = self._consumer.list_topics(self._topic, timeout=_ANSWER_S)
        except KafkaException:
            return {}
        led = defaultdict(list)
        for number, partition in cluster.topics[self._topic].partitions.items():
            if number in partitions and partition.leader >= 0:
                led[partition.leader].append(number)
        answers: dict[int, End] = {}
        for numbers in led.values():
            try:
                answers |= self._ends_of(numbers)
            except KafkaException:  # this leader is unreachable; `_ask` reports it
                continue
        return answers

    def _ends_of(self, partitions: list[int]) -> dict[int, End]:
        asked = [TopicPartition(self._topic, number, OFFSET_END) for number in partitions]
        now = monotonic()
        answers = {}
        for end in self._consumer.offsets_for_times(asked, timeout=_ANSWER_S):
            if end.error is not None:  # the offset is then the one of the request
                self._refusal = end.error.str()
            elif end.offset >= 0:
                answers[end.partition] = End(end.offset, now)
        return answers


@cache
def ends_of(kafka: KafkaAccess, topic: str, group: str) -> Ends:
    """The `Ends` of a topic, one per process."""
    return Ends(kafka, topic, group)
