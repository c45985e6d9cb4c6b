"""Aggregates of a sensor's readings per minute, five minutes or hour of event time, as columns."""

from dataclasses import dataclass

from contract.columns import Floats, Ints

ROLLUP_MS = (60_000, 300_000, 3_600_000)
"""The periods: rows of `sensor_readings_1m`, `_5m` and `_1h`."""


@dataclass(frozen=True, slots=True)
class Rollups:
    """B buckets. A bucket may be emitted again with more readings; the fullest one is kept."""

    period: Ints
    """(B,) one of `ROLLUP_MS`."""
    sensor_id: Ints
    """(B,)"""
    bucket: Ints
    """(B,) start of the bucket, epoch milliseconds UTC, a multiple of the period."""
    count: Ints
    """(B,) number of readings, at least 1."""
    mean: Floats
    """(B,)"""
    minimum: Floats
    """(B,)"""
    maximum: Floats
    """(B,)"""
    last: Floats
    """(B,) the value with the highest event time."""


@dataclass(frozen=True, slots=True)
class StaleRollups:
    """B distinct buckets whose rows have to be computed again from `sensor_readings`, because
    readings were stored for them that the flow has in no pane of its live lane.
    """

    period: Ints
    """(B,) one of `ROLLUP_MS`."""
    sensor_id: Ints
    """(B,)"""
    bucket: Ints
    """(B,) start of the bucket, epoch milliseconds UTC, a multiple of the period."""

    def __len__(self) -> int:
        """The number of buckets."""
        return len(self.period)
