"""How fast readings came once things ran, and what they cost: the start does not count."""

import resource
import sys
from time import perf_counter, process_time

from contract.errors import SetupError

WARM_UP = 0.2
"""The share of the readings that comes before the measurement begins."""


class Meter:
    """Counts readings until `total` have come, and notes when each batch of them came."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._readings = 0
        self.marks: list[tuple[float, int]] = []
        """When each batch came, and how many readings had come by then."""
        self._cpu: list[float] = []
        """The CPU time of this process, all threads, at each mark; seconds."""

    def count(self, readings: int) -> None:
        """So many more readings have come."""
        self._readings += readings
        self.marks.append((perf_counter(), self._readings))
        self._cpu.append(process_time())

    def full(self) -> bool:
        """Whether all have come."""
        return self._readings >= self._total

    def rate(self) -> float:
        """Readings a second, from the batch that completed the first 20 % to the last batch.

        Raises:
            SetupError: readings are missing, or all came in one batch.
        """
        first = self._first()
        (begun, before), (ended, after) = self.marks[first], self.marks[-1]
        return (after - before) / (ended - begun)

    def cpu_s_per_million(self) -> float:
        """CPU seconds a million readings, over the same batches."""
        first = self._first()
        return (self._cpu[-1] - self._cpu[first]) / (self._total - self.marks[first][1]) * 1e6

    def _first(self) -> int:
        if self._readings != self._total:
            raise SetupError(f"{self._readings} readings came, the topic has {self._total}")
        first = next(i for i, mark in enumerate(self.marks) if mark[1] >= WARM_UP * self._total)
        if self.marks[first][1] == self._total:
            raise SetupError("all readings came in one batch: give more --readings")
        return first


def peak_mb() -> float:
    """The largest resident size of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
