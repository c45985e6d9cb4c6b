"""Progress: the last record of each partition whose readings are in the database.

It is stored after the rows and before the flow's own snapshot. So a database that is behind the
recovery store was replaced by an older copy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from contract.errors import SetupError
from sinks.writer import Execute
from sql.database import Database
from sql.statements import HAS_READINGS, LIST_PROGRESS


@dataclass(frozen=True, slots=True)
class Covered:
    """The last record of a partition whose readings are stored."""

    topic: str
    topic_id: str | None
    """The broker's id of the topic, if it has one."""
    offset: int


class ProgressRow(NamedTuple):
    """A row of `write_progress`, one per partition."""

    topic: str
    partition: int
    topic_id: str | None
    last_offset: int


def write_progress(execute: Execute, covered: Mapping[int, Covered]) -> None:
    """Store progress, by partition."""
    rows = [
        ProgressRow(last.topic, partition, last.topic_id, last.offset)
        for partition, last in covered.items()
    ]
    execute("write_progress", msgspec.json.encode(sorted(rows)).decode())


class StoredProgress:
    """The progress of a topic in the database when the flow started."""

    def __init__(self, database: Database, topic: str) -> None:
        self._topic = topic
        self._covered = {
            row.partition_number: Covered(topic, row.topic_id, row.last_offset)
            for row in database.query(LIST_PROGRESS, topic)
        }
        (readings,) = database.query(HAS_READINGS)
        self._unknown = not self._covered and bool(readings.present)
        """Whether the database is from a release that stored no progress."""

    def last(self, partition: int) -> int:
        """Offset of the last stored record of the partition; -1 if there is none."""
        covered = self._covered.get(partition)
        return -1 if covered is None else covered.offset

    def check(self, partition: int, topic_id: str | None, last: int) -> None:
        """Check that the database has everything up to record `last`, which the flow has read.

        Raises:
            SetupError: it does not; the text says how to restore what is missing.
        """
        covered = self._covered.get(partition)
        if self._unknown or (covered is not None and covered.offset >= last):
            return
        if covered is not None and None is not covered.topic_id != topic_id is not None:
            return  # the progress is that of another log
        has = "nothing" if covered is None else f"the records up to offset {covered.offset}"
        raise SetupError(
            f"the database is older than the recovery store: of {self._topic} partition "
            f"{partition} it has {has}, but the flow has read those up to {last}. Restore what is "
            "missing from the log with `iot replay --into live`, then start again"
        )
