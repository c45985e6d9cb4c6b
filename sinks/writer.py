"""The writer thread. It merges waiting rows into batches, and never loses or repeats a row.

A batch is one JSON parameter, sorted by the key of the rows. It closes at 20 000 rows (SQL Server:
4 000) or 4 MiB, when a flush waits for it, or 100 ms after its first row arrived.

While the database is unavailable, the batch is retried on a new connection without limit, and a
bounded queue applies back-pressure to the flow. A batch that times out repeatedly is halved. A
batch that the database refuses is halved until the bad row is alone; that row goes to
`sink_dead_letters` with its error. After a conflict with another writer, the same batch is retried.
Any other error stops the flow.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from math import inf
from threading import Condition, Thread
from time import monotonic
from typing import Any

import msgspec
import stamina
import structlog

from contract.errors import (
    ConflictError,
    RefusedError,
    SchemaError,
    SetupError,
    TimedOutError,
    UnavailableError,
)
from contract.settings import Settings
from sinks.metrics import (
    BATCH_ROWS,
    BLOCKED_SECONDS,
    DEAD_LETTERS,
    FLUSH_SECONDS,
    RETRIES,
    WAITING_ROWS,
    WRITE_SECONDS,
    begin,
)
from sql.database import Database, engine_module
from sql.schema import open_database

Execute = Callable[..., list[Any]]
"""Runs a statement, given its name and parameters, and returns its rows."""
Row = tuple[Any, ...]
"""A NamedTuple of the sink, with the fields of the statement's rows, in their order."""

_BYTES_A_BATCH = 4 << 20
_LINGER_S = 0.1
_QUEUED_ROWS = 100_000
_RESTART_S = 180.0
"""How long a starting server may refuse a login that it accepted before."""
_TOO_SLOW = 3
"""Time-outs after which a batch is halved."""
_CONFLICTS = 5
"""Conflicts with another writer after which a batch is halved."""
_log = structlog.get_logger("sinks")


class _TooMuchError(Exception):
    """The batch takes too long."""


def first_counts(new: Row, old: Row) -> bool:
    """Keep the first row of each key."""
    return False


class Writer:
    """Writes rows with the statement `statement`, in its own thread.

    `key` identifies a row. Of the rows of a batch with equal keys, one is written:
    `replaces(new, old)` says whether a later row replaces an earlier one, by the same rule that the
    statement applies to stored rows. If the statement returns the number of new rows, `repeated` is
    called with the number of the other rows of each batch. `put` and `flush` raise the error of the
    thread, after which nothing more is written.
    """

    def __init__(  # noqa: PLR0917 - the same as those of `TableSink`
        self,
        settings: Settings,
        statement: str,
        key: Callable[[Row], Any],
        replaces: Callable[[Row, Row], bool],
        rows_a_batch: int | None = None,
        repeated: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._statement = statement
        self._key = key
        self._replaces = replaces
        self._repeated = repeated
        self._rows_a_batch = rows_a_batch or engine_module(settings.engine).rows_a_batch
        self._turn = Condition()
        self._waiting: list[Row] = []
        self._since = 0.0
        """When the first of the waiting rows arrived."""
        self._writing = 0
        """Number of rows that are being written."""
        self._flushing = False
        self._then: Callable[[Execute], None] | None = None
        """What to do when all rows are committed."""
        self._closing = False
        self._error: BaseException | None = None
        self._refused_since = -inf
        """Since when the server refuses a login that it accepted before; `inf` if it does not."""
        self._database: Database | None = None
        begin(statement)
        self._thread = Thread(target=self._run, name=statement, daemon=True)
        self._thread.start()

    def put(self, rows: Sequence[Row]) -> None:
        """Queue rows. Blocks while the queue is full."""
        with self._turn:
            if len(self._waiting) >= _QUEUED_ROWS:
                began = monotonic()
                self._turn.wait_for(lambda: len(self._waiting) < _QUEUED_ROWS or self._error)
                BLOCKED_SECONDS.labels(self._statement).inc(monotonic() - began)
            self._check()
            if not self._waiting:
                self._since = monotonic()
            self._waiting += rows
            WAITING_ROWS.labels(self._statement).inc(len(rows))
            self._turn.notify_all()

    def flush(self, then: Callable[[Execute], None] | None = None) -> None:
        """Return when every queued row is committed, and after them the statements that `then`
        runs. Each of them is retried while the database is unavailable.
        """
        with FLUSH_SECONDS.labels(self._statement).time(), self._turn:
            self._flushing, self._then = True, then
            self._turn.notify_all()
            self._turn.wait_for(
                lambda: not (self._waiting or self._writing or self._then) or self._error
            )
            self._flushing = False
            self._check()

    def close(self, seconds: float | None = None) -> None:
        """Let the thread write the waiting rows and end. Waits at most `seconds`, because the
        database may be unavailable. Raises nothing.
        """
        with self._turn:
            self._closing = True
            self._turn.notify_all()
        self._thread.join(seconds)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while (rows := self._next()) is not None:
                if not rows and self._then is not None:
                    self._then(self._execute)
                    self._then = None
                    continue
                distinct = self._distinct(rows)
                self._repeated(len(rows) - len(distinct))
                self._write(distinct)
        except BaseException as error:  # noqa: BLE001 - raised again in the flow's thread
            _log.error("sink failed, stopping the flow", sink=self._statement, error=str(error))
            with self._turn:
                self._error = error
                self._turn.notify_all()
        finally:
            if self._database is not None:
                self._database.close()

    def _next(self) -> list[Row] | None:
        """The rows of the next batch; an empty list if the final statement is due; None if the
        thread should end. All earlier rows are committed.
        """
        with self._turn:
            WAITING_ROWS.labels(self._statement).dec(self._writing)
            self._writing = 0
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._waiting or self._then or self._closing)
            if not self._waiting:
                return [] if self._then else None
            self._turn.wait_for(
                lambda: len(self._waiting) >= self._rows_a_batch or self._flushing or self._closing,
                self._since + _LINGER_S - monotonic(),
            )
            rows = self._waiting[: self._rows_a_batch]
            del self._waiting[: self._rows_a_batch]
            self._writing = len(rows)
            self._turn.notify_all()
            return rows

    def _distinct(self, rows: list[Row]) -> list[Row]:
        kept: dict[Any, Row] = dict(zip(map(self._key, rows), rows, strict=True))
        if len(kept) < len(rows):
            kept.clear()
            for row in rows:
                key = self._key(row)
                old = kept.setdefault(key, row)
                if old is not row and self._replaces(row, old):
                    kept[key] = row
        return [kept[key] for key in sorted(kept)]

    def _write(self, rows: list[Row], attempts: int = _CONFLICTS) -> None:
        text = msgspec.json.encode(rows)
        if len(text) > _BYTES_A_BATCH and len(rows) > 1:
            self._halve(rows)
            return
        try:
            with WRITE_SECONDS.labels(self._statement).time():
                answer = self._execute(self._statement, text.decode(), splits=len(rows) > 1)
        except _TooMuchError:
            self._halve(rows)
        except RefusedError as error:
            if isinstance(error, ConflictError) and attempts > 1:
                RETRIES.labels(self._statement).inc()
                self._write(rows, attempts - 1)
            elif len(rows) > 1:
                self._halve(rows)
            else:
                self._bury(rows[0], error)
        else:
            BATCH_ROWS.labels(self._statement).observe(len(rows))
            if answer:
                ((new,),) = answer
                self._repeated(len(rows) - new)

    def _halve(self, rows: list[Row]) -> None:
        half = len(rows) // 2
        self._write(rows[:half])
        self._write(rows[half:])

    def _bury(self, row: Row, error: RefusedError) -> None:
        text = msgspec.json.encode(row).decode()
        row_key = sha256(f"{self._statement}|{text}".encode()).hexdigest()
        self._execute("write_dead_letter", self._statement, row_key, str(error)[:2000], text)
        DEAD_LETTERS.labels(self._statement).inc()
        _log.warning(
            "row refused by the database, see sink_dead_letters",
            sink=self._statement,
            error=str(error),
        )

    def _execute(self, name: str, *parameters: object, splits: bool = False) -> list[Any]:
        """Run a statement, with unlimited retries; with `splits`, give up after `_TOO_SLOW`
        time-outs. Returns the result of `Database.execute`.
        """
        answer: list[Any] = []
        attempts = stamina.retry_context(
            on=UnavailableError, attempts=None, timeout=None, wait_initial=0.1, wait_max=5.0
        )
        for attempt in attempts:
            with attempt:
                try:
                    if self._database is None:
                        self._database = self._opened()
                    answer = self._database.execute(name, *parameters)
                    self._refused_since = inf
                except UnavailableError as error:
                    RETRIES.labels(self._statement).inc()
                    _log.warning("database unavailable, retrying", sink=name, error=str(error))
                    if self._database is not None:
                        self._database.close()
                        self._database = None
                    if splits and isinstance(error, TimedOutError) and attempt.num >= _TOO_SLOW:
                        raise _TooMuchError from error
                    raise
        return answer

    def _opened(self) -> Database:
        """Connect. A server that is restarting reports for a while that the database does not
        exist, or that the login failed.
        """
        try:
            return open_database(self._settings)
        except SchemaError:
            raise
        except SetupError as error:
            self._refused_since = min(self._refused_since, monotonic())
            if monotonic() - self._refused_since > _RESTART_S:
                raise
            raise UnavailableError(str(error)) from error
