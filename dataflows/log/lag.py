"""The flow's lag by partition, for Prometheus."""

from time import time

from dataflows.log.ends import Ends
from dataflows.metrics import BROKER_UP, LAG_RECORDS, LAG_SECONDS


class Lag:
    """Compares the position of the source with the ends of the partitions, also while the flow is
    stalled.
    """

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._next: dict[int, int] = {}
        self._arrival: dict[int, int] = {}
        """Arrival of the last record read, epoch milliseconds UTC."""
        self._end: dict[int, int] = {}
        """The end offset in the last answer."""
        BROKER_UP.set_function(lambda: ends.complete)

    def at(self, partition: int, next_offset: int, arrival: int | None) -> None:
        """Note the position of the source; see `PacketSource.progress`."""
        if partition not in self._next:
            self._ends.watch(partition)
            label = str(partition)
            LAG_RECORDS.labels(label).set_function(lambda: self._records(partition))
            LAG_SECONDS.labels(label).set_function(lambda: self._seconds(partition))
        self._next[partition] = next_offset
        if arrival is not None:
            self._arrival[partition] = arrival

    def _records(self, partition: int) -> int:
        if (end := self._ends.latest(partition)) is not None:
            self._end[partition] = end.offset
        return max(0, self._end.get(partition, 0) - self._next[partition])

    def _seconds(self, partition: int) -> float:
        """NaN while records wait and none was read since the start: their age is unknown."""
        if not self._records(partition):
            return 0.0
        arrival = self._arrival.get(partition)
        return float("nan") if arrival is None else max(0.0, time() - arrival / 1000)
