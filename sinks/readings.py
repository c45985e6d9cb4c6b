"""Stores readings, one row each in `sensor_readings`, and then corrects the rollups of buckets that
the flow reports as stale.
"""

from operator import itemgetter
from typing import NamedTuple

import numpy as np

from contract.columns import PacketColumns, taken
from contract.packet import NO_TIME
from contract.rollups import StaleRollups
from contract.settings import Settings
from sinks.decimals import rounded
from sinks.metrics import REPEATED
from sinks.progress import Covered
from sinks.stale import stale_rows
from sinks.table import TableSink
from sinks.times import microseconds_as_text
from sinks.writer import Row


class ReadingRow(NamedTuple):
    """A row of `write_readings`. Times are text."""

    sensor_id: int
    value: float
    received_at: str
    device_ts: str | None
    """The time that the device sent, if any."""
    ts: str
    """Event time."""
    seq: int


def reading_rows(columns: PacketColumns) -> list[Row]:
    """One row for each reading: a plain tuple in the order of `ReadingRow`, since the collector has
    to look at every instance of a subclass, and 100 000 rows may wait.

    Values are rounded to 5 decimals, times are text. Readings of a repeated packet are skipped if
    they have no device time, because no key identifies them.
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
    return list(rows)


reading_key = itemgetter(*map(ReadingRow._fields.index, ("sensor_id", "ts", "seq", "value")))
"""Identifies a reading."""


def readings_sink(
    settings: Settings, topic_id: str | None = None, *, progress: bool = False
) -> TableSink[PacketColumns | StaleRollups]:
    """A sink that stores every reading once, and counts those that were already stored. A snapshot
    also computes the stale buckets again. With `progress`, it stores the progress in the log
    `topic_id`.
    """

    def rows(columns: PacketColumns | StaleRollups) -> list[Row]:
        if isinstance(columns, StaleRollups):
            return []
        distinct = reading_rows(columns)
        REPEATED.inc(len(columns.readings.ts) - len(distinct))
        return distinct

    def covers(columns: PacketColumns | StaleRollups) -> dict[int, Covered]:
        if isinstance(columns, StaleRollups):
            return {}
        records = taken(columns.records, columns.records.offset >= 0)
        # in order, so the last record of each partition is kept
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
        stale=lambda item: stale_rows(item) if isinstance(item, StaleRollups) else (),
        repeated=REPEATED.inc,
    )
