"""Up to which record of the log the database has the readings of each partition.

It is stored after the rows and before the flow's own snapshot. So a database that has less than the
recovery store is an older one that was put in the place of the newer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from contract.errors import SetupError
from sql.database import Database
from sql.statements import HAS_READINGS, LIST_PROGRESS


@dataclass(frozen=True, slots=True)
class Covered:
    """A partition's last record whose readings are stored."""

    topic: str
    topic_id: str | None
    """The broker's id of the topic, where it has one."""
    offset: int


class ProgressRow(NamedTuple):
    """What `write_progress` takes for each partition."""

    topic: str
    partition: int
    topic_id: str | None
    last_offset: int


def write_progress(covered: Mapping[int, Covered]) -> tuple[str, str]:
    """The statement that stores it, by partition, and its parameter."""
    rows = [
        ProgressRow(last.topic, partition, last.topic_id, last.offset)
        for partition, last in covered.items()
    ]
    return "write_progress", msgspec.json.encode(sorted(rows)).decode()


class StoredProgress:
    """What a database has of a topic, as it was when a flow started."""

    def __init__(self, database: Database, topic: str) -> None:
        self._topic = topic
        self._covered = {
            row.partition_number: Covered(topic, row.topic_id, row.last_offset)
            for row in database.query(LIST_PROGRESS, topic)
        }
        (readings,) = database.query(HAS_READINGS)
        self._unknown = not self._covered and bool(readings.present)
        """Whether it is of before there was such a thing."""

    def last(self, partition: int) -> int:
        """Offset of the partition's last record that it has; -1 where it has none."""
        found = self._covered.get(partition)
        return -1 if found is None else found.offset

    def check(self, partition: int, topic_id: str | None, last: int) -> None:
        """See that it has everything up to the record `last`, which the flow has taken.

        Raises:
            SetupError: it has not; the text says how to bring the rest.
        """
        found = self._covered.get(partition)
        if self._unknown or (found is not None and found.offset >= last):
            return
        if found is not None and None is not found.topic_id != topic_id is not None:
            return  # of another log
        has = "nothing" if found is None else f"the records up to offset {found.offset}"
        raise SetupError(
            f"the database is older than the recovery store: of {self._topic} partition "
            f"{partition} it has {has}, and the flow has taken those up to {last}. Bring the rest "
            "from the log with `iot replay --into live`, and start again"
        )
