"""Measures the rate and the CPU cost of readings; the warm-up does not count."""

import resource
import sys
from time import perf_counter, process_time

from contract.errors import SetupError

WARM_UP = 0.2
"""The share of the readings before the measurement starts."""


class Meter:
    """Counts readings up to `total`, and records when each batch arrived."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._readings = 0
        self.marks: list[tuple[float, int]] = []
        """For each batch, its time and the number of readings so far."""
        self._cpu: list[float] = []
        """CPU seconds of this process, all threads, at each mark."""

    def count(self, readings: int) -> None:
        """Add a batch of `readings` readings."""
        self._readings += readings
        self.marks.append((perf_counter(), self._readings))
        self._cpu.append(process_time())

    def full(self) -> bool:
        """Whether all readings were counted."""
        return self._readings >= self._total

    def rate(self) -> float:
        """Readings per second, from the batch that completed the first 20 % to the last batch.

        Raises:
            SetupError: readings are missing, or all were in one batch.
        """
        first = self._first()
        (begun, before), (ended, after) = self.marks[first], self.marks[-1]
        return (after - before) / (ended - begun)

    def cpu_s_per_million(self) -> float:
        """CPU seconds per million readings, over the same batches."""
        first = self._first()
        return (self._cpu[-1] - self._cpu[first]) / (self._total - self.marks[first][1]) * 1e6

    def _first(self) -> int:
        if self._readings != self._total:
            raise SetupError(f"received {self._readings} readings, but the topic has {self._total}")
        first = next(i for i, mark in enumerate(self.marks) if mark[1] >= WARM_UP * self._total)
        if self.marks[first][1] == self._total:
            raise SetupError("all readings were in one batch: increase --readings")
        return first


def peak_mb() -> float:
    """The largest resident size of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
