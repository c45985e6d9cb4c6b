"""The sink that writes to any of the tables."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from contract.settings import Settings
from sinks.progress import Covered, write_progress
from sinks.stale import StaleRow, correct_rollups
from sinks.writer import Execute, Row, Writer, first_counts
from sql.database import engine_module

X = TypeVar("X")
_CLOSE_S = 10.0


@dataclass(frozen=True)
class TableSink(FixedPartitionedSink[X, None], Generic[X]):
    """Stores the rows of each item once. A snapshot waits until all rows are committed."""

    settings: Settings
    statement: str
    """The .sql file that takes a batch of rows as its one JSON parameter."""
    rows: Callable[[X], Iterable[Row]]
    """The rows of an item."""
    key: Callable[[Any], Any]
    """Identifies a row; batches are sorted by it."""
    replaces: Callable[[Any, Any], bool] = first_counts
    """Whether a row replaces an earlier one with its key; the same rule as in the statement."""
    connections: int = 1
    """Number of writers, if the database allows several. A partition always uses the same one."""
    rows_a_batch: int | None = None
    """Limit on the rows of a batch; None means the engine's own number."""
    covers: Callable[[X], Mapping[int, Covered]] | None = None
    """The records of the log that an item covers. A snapshot stores the last record of each
    partition, after the rows are committed."""
    stale: Callable[[X], Iterable[StaleRow]] = lambda _: ()
    """The buckets of rollups that a snapshot computes again, after the rows are committed."""
    repeated: Callable[[int], None] = lambda _: None
    """Called with the number of rows that were already stored, if the statement returns it."""

    def list_parts(self) -> list[str]:
        """One name per connection. SQLite has a single writer."""
        writers = min(self.connections, engine_module(self.settings.engine).writers)
        return [str(part) for part in range(writers)]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_TablePartition[X]":
        """Start a writer. It connects when there is something to write."""
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
        """Progress since the last snapshot, by partition."""
        self._stale: set[StaleRow] = set()
        """Buckets that became stale since the last snapshot."""

    def write_batch(self, values: list[X]) -> None:
        if rows := [row for value in values for row in self._sink.rows(value)]:
            self._writer.put(rows)
        if self._sink.covers is not None:
            for value in values:
                self._covered.update(self._sink.covers(value))
        for value in values:
            self._stale.update(self._sink.stale(value))

    def snapshot(self) -> None:
        covered, self._covered = self._covered, {}
        stale, self._stale = self._stale, set()

        def then(execute: Execute) -> None:
            correct_rollups(execute, stale)
            if covered:
                write_progress(execute, covered)

        self._writer.flush(then if covered or stale else None)

    def close(self) -> None:
        """Close without raising. Bytewax closes partitions while it unwinds from an error in
        another one, and a second error would abort the process. Rows that are not stored by now
        belong to an epoch without a snapshot, so they are read again.
        """
        self._writer.close(_CLOSE_S)
