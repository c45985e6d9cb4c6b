"""Readings, one row each in `sensor_readings`."""

from contract.columns import NEVER, PacketColumns
from contract.settings import Settings
from sinks.table import TableSink
from sinks.writer import Row

_DECIMALS = 5
"""`sensor_readings.value` is decimal(15,5)."""


def reading_rows(columns: PacketColumns) -> list[Row]:
    """(sensor_id, value, received_at, device_ts or None, ts, seq) for each reading.

    Values are rounded to 5 decimals, times are epoch milliseconds UTC.
    """
    device_ts = [None if ts == NEVER else ts for ts in columns.device_ts.tolist()]
    return list(
        zip(
            columns.sensor_id.tolist(),
            columns.value.round(_DECIMALS).tolist(),
            columns.received_at.tolist(),
            device_ts,
            columns.ts.tolist(),
            columns.seq.tolist(),
            strict=True,
        )
    )


def reading_key(row: Row) -> tuple[int, int, int]:
    """What makes two readings the same one: sensor, event time, seq."""
    return row[0], row[4], row[5]


def readings_sink(settings: Settings) -> TableSink[PacketColumns]:
    """Stores every reading once."""
    return TableSink(settings, "write_readings", reading_rows, reading_key, connections=4)
