"""Rollups, one row each in `sensor_readings_1m`, `_5m` or `_1h`."""

from operator import attrgetter
from typing import NamedTuple

from contract.rollups import Rollups
from contract.settings import Settings
from sinks.decimals import rounded
from sinks.table import TableSink
from sinks.times import as_text


class RollupRow(NamedTuple):
    """What `write_rollups` takes for each rollup."""

    period_ms: int
    sensor_id: int
    bucket: str
    """When it begins, as text."""
    mean: float
    minimum: float
    maximum: float
    last: float
    samples: int
    """How many readings it has."""


def rollup_rows(rollups: Rollups) -> list[RollupRow]:
    """A row for each rollup."""
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
"""What makes two rows the same rollup."""


def fuller(new: RollupRow, old: RollupRow) -> bool:
    """A rollup replaces itself when it comes again with at least as many readings."""
    return new.samples >= old.samples


def rollups_sink(settings: Settings) -> TableSink[Rollups]:
    """Stores every rollup once, as full as it came."""
    return TableSink(settings, "write_rollups", rollup_rows, rollup_key, fuller)
