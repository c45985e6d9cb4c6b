"""Stores rollups, one row each in `sensor_readings_1m`, `_5m` or `_1h`."""

from operator import attrgetter
from typing import NamedTuple

from contract.rollups import Rollups
from contract.settings import Settings
from sinks.decimals import rounded
from sinks.table import TableSink
from sinks.times import as_text


class RollupRow(NamedTuple):
    """A row of `write_rollups`."""

    period_ms: int
    sensor_id: int
    bucket: str
    """The start of the bucket, as text."""
    mean: float
    minimum: float
    maximum: float
    last: float
    samples: int
    """The number of readings."""


def rollup_rows(rollups: Rollups) -> list[RollupRow]:
    """One row for each rollup."""
    rows = zip(
        rollups.period.tolist(),
        rollups.sensor_id.tolist(),
        as_text(rollups.bucket).tolist(),
        rounded(rollups.mean).tolist(),
        rounded(rollups.minimum).tolist(),
        rounded(rollups.maximum).tolist(),
        rounded(rollups.last).tolist(),
        rollups.count.tolist(),
        strict=True,
    )
    return list(map(RollupRow._make, rows))


rollup_key = attrgetter("period_ms", "sensor_id", "bucket")
"""Identifies a rollup."""


def fuller(new: RollupRow, old: RollupRow) -> bool:
    """A rollup replaces an earlier one if it has at least as many readings."""
    return new.samples >= old.samples


def rollups_sink(settings: Settings) -> TableSink[Rollups]:
    """A sink that stores every rollup once, in its fullest version."""
    return TableSink(settings, "write_rollups", rollup_rows, rollup_key, fuller)
