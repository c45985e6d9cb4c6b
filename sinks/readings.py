"""Readings, one row each in `sensor_readings`."""

from operator import itemgetter

import numpy as np

from contract.columns import NEVER, PacketColumns
from contract.settings import Settings
from sinks.decimals import rounded
from sinks.table import TableSink
from sinks.times import as_text
from sinks.writer import Row


def reading_rows(columns: PacketColumns) -> list[Row]:
    """(sensor_id, value, received_at, device_ts or None, ts, seq) for each reading.

    Values are rounded to 5 decimals, times are text. A repeated packet's readings are left out
    where the device did not date them: no key tells that they are the same.
    """
    dated = columns.device_ts == columns.ts
    keep = np.repeat(columns.fresh, columns.count) | dated
    ts = as_text(columns.ts)
    device_ts = ts.copy()
    device_ts[~dated] = None
    doubted = np.flatnonzero(~dated & (columns.device_ts != NEVER))
    device_ts[doubted] = as_text(columns.device_ts[doubted])
    return list(
        zip(
            columns.sensor_id[keep].tolist(),
            rounded(columns.value[keep]).tolist(),
            np.repeat(as_text(columns.received_at), columns.count)[keep].tolist(),
            device_ts[keep].tolist(),
            ts[keep].tolist(),
            columns.seq[keep].tolist(),
            strict=True,
        )
    )


reading_key = itemgetter(0, 4, 5)
"""What makes two readings the same one: sensor, event time, seq."""


def readings_sink(settings: Settings) -> TableSink[PacketColumns]:
    """Stores every reading once."""
    return TableSink(settings, "write_readings", reading_rows, reading_key, connections=4)
