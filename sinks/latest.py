"""Newest values, one row a sensor in `sensor_readings_latest`."""

from contract.latest import Latest
from contract.settings import Settings
from sinks.decimals import rounded
from sinks.table import TableSink
from sinks.writer import Row


def latest_rows(latest: Latest) -> list[Row]:
    """The columns of `write_latest.sql`, in its order, for each sensor."""
    return list(
        zip(
            latest.sensor_id.tolist(),
            rounded(latest.value).tolist(),
            latest.ts.tolist(),
            strict=True,
        )
    )


def latest_key(row: Row) -> int:
    """The sensor."""
    return int(row[0])


def not_older(new: Row, old: Row) -> bool:
    """A value replaces one of an earlier or the same time."""
    return bool(new[2] >= old[2])


def latest_sink(settings: Settings) -> TableSink[Latest]:
    """Keeps the newest value of every sensor."""
    return TableSink(settings, "write_latest", latest_rows, latest_key, not_older)
