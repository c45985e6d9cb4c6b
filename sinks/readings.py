"""Readings, one row each in `sensor_readings`."""

from operator import attrgetter
from typing import NamedTuple

import numpy as np

from contract.columns import PacketColumns, taken
from contract.packet import NO_TIME
from contract.settings import Settings
from sinks.decimals import rounded
from sinks.metrics import REPEATED
from sinks.progress import Covered
from sinks.table import TableSink
from sinks.times import microseconds_as_text


class ReadingRow(NamedTuple):
    """What `write_readings` takes for each reading; times are text."""

    sensor_id: int
    value: float
    received_at: str
    device_ts: str | None
    """What the device said, where it said anything."""
    ts: str
    """Event time."""
    seq: int


def reading_rows(columns: PacketColumns) -> list[ReadingRow]:
    """A row for each reading.

    Values are rounded to 5 decimals, times are text. A repeated packet's readings are left out
    where the device did not date them: no key tells that they are the same.
    """
    records, readings = columns.records, columns.readings
    dated = readings.device_ts == readings.ts
    keep = np.repeat(records.fresh, records.count) | dated
    ts = microseconds_as_text(readings.ts)
    device_ts = ts.copy()
    device_ts[~dated] = None
    doubted = np.flatnonzero(~dated & (readings.device_ts != NO_TIME))
    device_ts[doubted] = microseconds_as_text(readings.device_ts[doubted])
    rows = zip(
        readings.sensor_id[keep].tolist(),
        rounded(readings.value[keep]).tolist(),
        np.repeat(microseconds_as_text(records.received_at), records.count)[keep].tolist(),
        device_ts[keep].tolist(),
        ts[keep].tolist(),
        readings.seq[keep].tolist(),
        strict=True,
    )
    return list(map(ReadingRow._make, rows))


reading_key = attrgetter("sensor_id", "ts", "seq", "value")
"""What makes two readings the same one."""


def readings_sink(
    settings: Settings, topic_id: str | None = None, *, progress: bool = False
) -> TableSink[PacketColumns]:
    """Stores every reading once, and counts those that were there already. With `progress` it also
    stores how far the readings of the log `topic_id` are stored.
    """

    def rows(columns: PacketColumns) -> list[ReadingRow]:
        found = reading_rows(columns)
        REPEATED.inc(len(columns.readings.ts) - len(found))
        return found

    def covers(columns: PacketColumns) -> dict[int, Covered]:
        records = taken(columns.records, columns.records.offset >= 0)
        # in order: of each partition the last one stays
        offsets = zip(records.partition.tolist(), records.offset.tolist(), strict=True)
        return {
            partition: Covered(settings.kafka_topic, topic_id, offset)
            for partition, offset in dict(offsets).items()
        }

    return TableSink(
        settings,
        "write_readings",
        rows,
        reading_key,
        connections=4,
        covers=covers if progress else None,
        repeated=REPEATED.inc,
    )
