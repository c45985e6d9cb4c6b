"""The thread that writes: it merges what waits, and never loses or repeats a row.

A batch is one JSON parameter, sorted by the rows' key. When the database is away the batch is
tried again on a fresh connection for as long as it takes, and the flow waits behind a bounded
queue. When the database refuses a batch it is split in halves until the bad row stands alone,
which goes to `sink_dead_letters` with its error. Any other error stops the flow.
"""

from collections.abc import Callable
from hashlib import sha256
from queue import Empty, Full, Queue
from threading import Thread
from typing import Any

import msgspec
import stamina
import structlog

from contract.errors import RefusedError, UnavailableError
from contract.settings import Settings
from sql.database import Database, open_database

Row = tuple[Any, ...]

_ROWS_A_BATCH = 5_000
_QUEUED = 64
_log = structlog.get_logger("sinks")


def first_counts(new: Row, old: Row) -> bool:
    """No row replaces an earlier one with its key."""
    return False


class Writer:
    """Writes rows with the statement `statement`, from a thread of its own.

    `key` gives what makes a row the same row. Of rows with equal keys in one batch one is written:
    `replaces(new, old)` tells whether a later one counts instead of an earlier one, by the rule
    that the statement has for a row that is there. `put` and `flush` raise the thread's error,
    after which nothing is written any more.
    """

    def __init__(
        self,
        settings: Settings,
        statement: str,
        key: Callable[[Row], Any],
        replaces: Callable[[Row, Row], bool],
    ) -> None:
        self._settings = settings
        self._statement = statement
        self._key = key
        self._replaces = replaces
        self._queue: Queue[list[Row] | None] = Queue(_QUEUED)
        self._error: BaseException | None = None
        self._database: Database | None = None
        self._thread = Thread(target=self._run, name=statement, daemon=True)
        self._thread.start()

    def put(self, rows: list[Row]) -> None:
        """Hand over rows; blocks while the queue is full."""
        while True:
            self._check()
            try:
                return self._queue.put(rows, timeout=0.2)
            except Full:
                continue

    def flush(self) -> None:
        """Return when every row that was handed over is committed."""
        with self._queue.all_tasks_done:
            while self._queue.unfinished_tasks and self._error is None:
                self._queue.all_tasks_done.wait(0.2)
        self._check()

    def close(self) -> None:
        """Flush, and end the thread. One that has failed has told so to `put` or `flush`."""
        if self._error is None:
            self.flush()
            self._queue.put(None)
        self._thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while (rows := self._queue.get()) is not None:
                taken = 1
                while len(rows) < _ROWS_A_BATCH:
                    try:
                        more = self._queue.get_nowait()
                    except Empty:
                        break
                    if more is None:  # close() flushes first, so nothing can follow
                        self._queue.put(None)
                        break
                    rows = rows + more
                    taken += 1
                self._write(self._distinct(rows))
                for _ in range(taken):
                    self._queue.task_done()
        except BaseException as error:  # noqa: BLE001 - the flow's own thread raises it
            _log.error("the sink stops the flow", sink=self._statement, error=str(error))
            self._error = error
        finally:
            if self._database is not None:
                self._database.close()

    def _distinct(self, rows: list[Row]) -> list[Row]:
        kept: dict[Any, Row] = {}
        for row in rows:
            key = self._key(row)
            old = kept.setdefault(key, row)
            if old is not row and self._replaces(row, old):
                kept[key] = row
        return [kept[key] for key in sorted(kept)]

    def _write(self, rows: list[Row]) -> None:
        try:
            self._execute(self._statement, msgspec.json.encode(rows).decode())
        except RefusedError as error:
            if len(rows) > 1:
                half = len(rows) // 2
                self._write(rows[:half])
                self._write(rows[half:])
            else:
                self._bury(rows[0], error)

    def _bury(self, row: Row, error: RefusedError) -> None:
        text = msgspec.json.encode(row).decode()
        row_key = sha256(f"{self._statement}|{text}".encode()).hexdigest()
        self._execute("write_dead_letter", self._statement, row_key, str(error)[:2000], text)
        _log.warning("row refused, see sink_dead_letters", sink=self._statement, error=str(error))

    def _execute(self, name: str, *parameters: object) -> None:
        attempts = stamina.retry_context(
            on=UnavailableError, attempts=None, timeout=None, wait_initial=0.1, wait_max=5.0
        )
        for attempt in attempts:
            with attempt:
                try:
                    if self._database is None:
                        self._database = open_database(self._settings)
                    self._database.execute(name, *parameters)
                except UnavailableError as error:
                    _log.warning("database away, trying again", sink=name, error=str(error))
                    if self._database is not None:
                        self._database.close()
                        self._database = None
                    raise
