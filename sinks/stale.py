"""Computes the rollups of buckets with late readings again, from the stored readings."""

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from msgspec.json import encode

from contract.rollups import StaleRollups
from sinks.times import as_text
from sinks.writer import Execute
from sql.statements import ROLLUPS_OF_BUCKETS

_BUCKETS_AT_ONCE = 500


class StaleRow(NamedTuple):
    """A row of `rollups_of_buckets`. Times are text."""

    period_ms: int
    sensor_id: int
    bucket: str
    """The start of the bucket."""
    end: str
    """The end of the bucket, exclusive."""


def stale_rows(stale: StaleRollups) -> list[StaleRow]:
    """One row for each bucket that has to be computed again."""
    rows = zip(
        stale.period.tolist(),
        stale.sensor_id.tolist(),
        as_text(stale.bucket).tolist(),
        as_text(stale.bucket + stale.period).tolist(),
        strict=True,
    )
    return list(map(StaleRow._make, rows))


def correct_rollups(execute: Execute, stale: Iterable[StaleRow]) -> None:
    """Compute buckets again. All their readings must be stored."""
    rest = iter(sorted(stale))
    while rows := list(islice(rest, _BUCKETS_AT_ONCE)):
        if computed := execute(ROLLUPS_OF_BUCKETS.name, encode(rows).decode()):
            execute("write_rollups", encode(sorted(map(tuple, computed))).decode())
