"""How fast readings came once things ran: the start does not count."""

from time import perf_counter

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

    def count(self, readings: int) -> None:
        """So many more readings have come."""
        self._readings += readings
        self.marks.append((perf_counter(), self._readings))

    def full(self) -> bool:
        """Whether all have come."""
        return self._readings >= self._total

    def rate(self) -> float:
        """Readings a second, from the batch that completed the first 20 % to the last batch.

        Raises:
            SetupError: readings are missing, or all came in one batch.
        """
        if self._readings != self._total:
            raise SetupError(f"{self._readings} readings came, the topic has {self._total}")
        begun, before = next(mark for mark in self.marks if mark[1] >= WARM_UP * self._total)
        ended, after = self.marks[-1]
        if after == before:
            raise SetupError("all readings came in one batch: give more --readings")
        return (after - before) / (ended - begun)
