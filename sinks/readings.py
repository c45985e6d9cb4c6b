"""Readings, one row each in `sensor_readings`."""

import numpy as np

from contract.columns import NEVER, Floats, PacketColumns
from contract.settings import Settings
from sinks.table import TableSink
from sinks.writer import Row

_DECIMALS = 5
"""`sensor_readings.value` is decimal(15,5)."""


def rounded(value: Floats) -> Floats:
    """(N,) to 5 decimals, each as Python's `round` does it, that is, correctly: numpy multiplies
    first, which is off by one where a value lies next to the middle between two results.

    >>> rounded(np.array([-2.728085, 1.5])).tolist(), np.round(-2.728085, 5).item()
    ([-2.72809, 1.5], -2.72808)
    """
    fast = np.round(value, _DECIMALS)
    with np.errstate(over="ignore", invalid="ignore"):
        fraction = np.abs(value * 10.0**_DECIMALS) % 1.0
        near_middle = np.flatnonzero(~(np.abs(fraction - 0.5) > 1e-3))
    fast[near_middle] = [round(one, _DECIMALS) for one in value[near_middle].tolist()]
    return fast


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
