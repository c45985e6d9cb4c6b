"""Rollups, one row each in `sensor_readings_1m`, `_5m` or `_1h`."""

from contract.rollups import Rollups
from contract.settings import Settings
from sinks.decimals import rounded
from sinks.table import TableSink
from sinks.times import as_text
from sinks.writer import Row


def rollup_rows(rollups: Rollups) -> list[Row]:
    """The columns of `write_rollups.sql`, in its order, for each bucket."""
    return list(
        zip(
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
    )


def rollup_key(row: Row) -> tuple[int, int, str]:
    """What makes two rows the same bucket: period, sensor, start."""
    return row[0], row[1], row[2]


def fuller(new: Row, old: Row) -> bool:
    """A bucket replaces itself when it comes again with at least as many readings."""
    return bool(new[7] >= old[7])


def rollups_sink(settings: Settings) -> TableSink[Rollups]:
    """Stores every bucket once, as full as it came."""
    return TableSink(settings, "write_rollups", rollup_rows, rollup_key, fuller)
