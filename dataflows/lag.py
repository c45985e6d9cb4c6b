"""How far the flow is behind the topic, by partition, for Prometheus."""

from concurrent.futures import wait
from threading import Thread
from time import sleep, time

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from dataflows.metrics import BROKER_UP, LAG_RECORDS, LAG_SECONDS
from runtime.topic import asking_config, end_told

_EVERY_S = 3.0


class Lag:
    """Asks the broker every 3 s where the partitions end, also while the flow stands still."""

    def __init__(self, brokers: str, topic: str) -> None:
        self._brokers = brokers
        self._topic = topic
        self._next: dict[int, int] = {}
        self._arrival: dict[int, int] = {}
        """Of the last record taken, epoch milliseconds UTC."""
        self._end: dict[int, int] = {}
        Thread(target=self._run, name="lag", daemon=True).start()

    def at(self, partition: int, next_offset: int, arrival: int | None) -> None:
        """The source is there; see `PacketSource.progress`."""
        if partition not in self._next:
            label = str(partition)
            LAG_RECORDS.labels(label).set_function(lambda: self._records(partition))
            LAG_SECONDS.labels(label).set_function(lambda: self._seconds(partition))
        self._next[partition] = next_offset
        if arrival is not None:
            self._arrival[partition] = arrival

    def _records(self, partition: int) -> int:
        return max(0, self._end.get(partition, 0) - self._next[partition])

    def _seconds(self, partition: int) -> float:
        """While nothing was taken since the start, nobody knows how old what waits is."""
        if not self._records(partition):
            return 0.0
        arrival = self._arrival.get(partition)
        return float("nan") if arrival is None else max(0.0, time() - arrival / 1000)

    def _run(self) -> None:
        admin = AdminClient(asking_config(self._brokers))
        while True:
            sleep(_EVERY_S if self._end else 0.1)
            asked = {
                TopicPartition(self._topic, partition): OffsetSpec.latest()  # type: ignore[no-untyped-call]
                for partition in list(self._next)
            }
            if not asked:
                continue
            answers = admin.list_offsets(asked, request_timeout=_EVERY_S)
            wait(answers.values())
            ends = {
                here.partition: end
                for here, answer in answers.items()
                if (end := end_told(answer)) is not None
            }
            self._end |= ends
            BROKER_UP.set(len(ends) == len(asked))
