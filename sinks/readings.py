"""Readings, one row each in `sensor_readings`."""

import numpy as np

from contract.columns import NEVER, PacketColumns
from contract.settings import Settings
from sinks.decimals import rounded
from sinks.table import TableSink
from sinks.writer import Row


def reading_rows(columns: PacketColumns) -> list[Row]:
    """(sensor_id, value, received_at, device_ts or None, ts, seq) for each reading.

    Values are rounded to 5 decimals, times are epoch milliseconds UTC. A repeated packet's readings
    are left out where the device did not date them: no key tells that they are the same.
    """
    received_at = np.repeat(columns.received_at, columns.count)
    keep = np.repeat(columns.fresh, columns.count) | (columns.device_ts == columns.ts)
    device_ts = [None if ts == NEVER else ts for ts in columns.device_ts[keep].tolist()]
    return list(
        zip(
            columns.sensor_id[keep].tolist(),
            rounded(columns.value[keep]).tolist(),
            received_at[keep].tolist(),
            device_ts,
            columns.ts[keep].tolist(),
            columns.seq[keep].tolist(),
            strict=True,
        )
    )


def reading_key(row: Row) -> tuple[int, int, int]:
    """What makes two readings the same one: sensor, event time, seq."""
    return row[0], row[4], row[5]


def readings_sink(settings: Settings) -> TableSink[PacketColumns]:
    """Stores every reading once."""
    return TableSink(settings, "write_readings", reading_rows, reading_key, connections=4)
