"""The sink that every table of ours is written with."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from contract.settings import Settings
from sinks.progress import Covered, write_progress
from sinks.writer import Row, Writer, first_counts

X = TypeVar("X")
_CLOSE_S = 10.0


@dataclass(frozen=True)
class TableSink(FixedPartitionedSink[X, None], Generic[X]):
    """Stores the rows of each item once; a snapshot waits until all of them are committed."""

    settings: Settings
    statement: str
    """The .sql file that takes a batch of rows as its one JSON parameter."""
    rows: Callable[[X], Iterable[Row]]
    """The rows of an item."""
    key: Callable[[Any], Any]
    """What makes a row the same row; batches are sorted by it."""
    replaces: Callable[[Any, Any], bool] = first_counts
    """Whether a row counts instead of an earlier one with its key, as the statement has it."""
    connections: int = 1
    """How many writers, where the database takes more than one. A partition keeps to one."""
    rows_a_batch: int | None = None
    """How many rows a statement takes at most; None: `ROWS_A_BATCH`."""
    covers: Callable[[X], Mapping[int, Covered]] | None = None
    """What an item covers of the log; a snapshot stores the last of each partition, once the rows
    are committed."""
    repeated: Callable[[int], None] = lambda _: None
    """Given the number of rows that were there already, where the statement tells it."""

    def list_parts(self) -> list[str]:
        """One name a connection; SQLite takes a single writer."""
        return [
            str(part) for part in range(1 if self.settings.engine == "sqlite" else self.connections)
        ]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_TablePartition[X]":
        """Start a writer; it connects when there is something to write."""
        writer = Writer(
            self.settings,
            self.statement,
            self.key,
            self.replaces,
            self.rows_a_batch,
            self.repeated,
        )
        return _TablePartition(writer, self)


class _TablePartition(StatefulSinkPartition[X, None]):
    def __init__(self, writer: Writer, sink: TableSink[X]) -> None:
        self._writer = writer
        self._sink = sink
        self._covered: dict[int, Covered] = {}
        """By partition, since the last snapshot."""

    def write_batch(self, values: list[X]) -> None:
        if rows := [row for value in values for row in self._sink.rows(value)]:
            self._writer.put(rows)
        if self._sink.covers is not None:
            for value in values:
                self._covered.update(self._sink.covers(value))

    def snapshot(self) -> None:
        covered, self._covered = self._covered, {}
        self._writer.flush(write_progress(covered) if covered else None)

    def close(self) -> None:
        """Raise nothing: Bytewax closes partitions while it unwinds from an error of another one,
        where a second error would abort the process. What is not stored by now belongs to an epoch
        without a snapshot, and is taken again.
        """
        self._writer.close(_CLOSE_S)
