"""A connection to the configured database that runs our .sql files by name.

The parts that differ between the engines are beside their files, in `sql/sqlite` and `sql/mssql`:
how to connect, how to split a script into batches, and how to classify an error.
"""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any, Protocol, Self, cast

from contract.errors import IotError, SetupError, UnavailableError
from contract.settings import Settings
from sql.statements import Query, R


class EngineModule(Protocol):
    """The interface of an engine's package."""

    def connect(self, settings: Settings, *, create: bool) -> Any:
        """Open a DB-API connection in autocommit mode; `create` creates a missing database."""

    def batches(self, script: str) -> list[str]:
        """Split a script into the batches that are sent to the server one at a time."""

    def execute(self, connection: Any, statement: str, parameters: Sequence[object]) -> Any:
        """Start a statement and return its cursor."""

    def check(self, connection: Any) -> None:
        """Check that the connection still belongs to the database that the settings name.

        Raises:
            SetupError: it does not.
        """

    def alone(self, settings: Settings, connection: Any) -> AbstractContextManager[None]:
        """Hold the schema lock for the duration of the block."""

    def finish(self, cursor: Any) -> None:
        """Wait for the statement to finish. Raises its late errors."""

    def blame(self, error: Exception) -> type[IotError]:
        """The class of our error for a driver's error."""

    rows_a_batch: int
    """How many rows a statement takes at most."""
    writers: int
    """How many connections may write at once."""
    between_scripts: str
    """What separates scripts for the engine's own command line."""

    turn: AbstractContextManager[Any]
    """Held during each transaction, so that they run one at a time if the engine requires it."""

    begin: str | None
    """Statement that opens a transaction around a file; None if each file is one procedure call."""


class Database:
    """One connection, for use by one thread at a time. As a context manager, it closes at the end.

    Every method raises `UnavailableError`, `RefusedError` or `SetupError`, by cause.
    """

    def __init__(self, settings: Settings, *, create: bool = False) -> None:
        self._settings = settings
        self._engine = engine_module(settings.engine)
        with _Blamed(self):
            self._connection = self._engine.connect(settings, create=create)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def query(self, query: Query[R], *parameters: object) -> list[R]:
        """Run a query and return its rows, in order."""
        with _Blamed(self):
            self._engine.check(self._connection)
            text = _text(self._settings.engine, query.name)
            cursor = self._engine.execute(self._connection, text, parameters)
            rows = list(map(query.row._make, cursor.fetchall()))  # type: ignore[attr-defined]
            cursor.close()
            return rows

    def execute(self, name: str, *parameters: object) -> list[Any]:
        """Run all statements of one of `COMMANDS` with the same parameters, in one transaction.
        Returns the rows of the last statement that returns any.
        """
        return self._run(self._statements(name, parameters))

    def alone(self) -> AbstractContextManager[None]:
        """Hold the schema lock for the duration of the block. Waits for another holder."""
        return self._engine.alone(self._settings, self._connection)

    def migrate(self, name: str, batches: Sequence[str], checksum: str) -> None:
        """Run a schema script and record it, in one transaction if the engine supports that."""
        record = self._statements("record_migration", (name, checksum))
        self._run([*((batch, ()) for batch in batches), *record])

    def _run(self, statements: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
        rows: list[Any] = []
        with _Blamed(self), self._engine.turn:
            self._engine.check(self._connection)
            if self._engine.begin:
                self._connection.execute(self._engine.begin)
            try:
                for statement, parameters in statements:
                    cursor = self._engine.execute(self._connection, statement, parameters)
                    rows = cursor.fetchall() if cursor.description else rows
                    self._engine.finish(cursor)
                if self._engine.begin:
                    self._connection.execute("COMMIT")
            except BaseException:
                if self._engine.begin and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        return rows

    def close(self) -> None:
        """Close the connection. Uncommitted changes are rolled back."""
        self._connection.close()

    def _statements(
        self, name: str, parameters: Sequence[object]
    ) -> list[tuple[str, Sequence[object]]]:
        return [
            (statement, parameters if takes_any else ())
            for statement, takes_any in _statements(self._settings.engine, name)
        ]

    def blamed(self, error: Exception) -> IotError:
        """Our error for a driver's error, with the name of the database."""
        kind = self._engine.blame(error)
        where = self._settings.database
        if issubclass(kind, UnavailableError):
            return kind(f"{where} does not answer: {_text_of(error)}")
        if kind is SetupError:
            return SetupError(f"{where} cannot be used: {_text_of(error)}")
        return kind(_text_of(error))


class _Blamed:
    """Translates driver errors inside the block into ours."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, IotError):
            raise self._database.blamed(error) from error


def _text_of(error: Exception) -> str:
    return str(error.args[-1]) if error.args else type(error).__name__


@cache
def _text(engine: str, name: str) -> str:
    return (files(f"sql.{engine}") / "statements" / f"{name}.sql").read_text(encoding="utf-8")


@cache
def _statements(engine: str, name: str) -> list[tuple[str, bool]]:
    """The statements of a file, and whether each takes parameters."""
    batches = engine_module(engine).batches(_text(engine, name))
    return [(batch, "?" in re.sub("--.*", "", batch)) for batch in batches]


def schema_scripts(engine: str) -> list[tuple[str, tuple[str, ...]]]:
    """The schema scripts of an engine, in no particular order: (file name, batches)."""
    folder = files(f"sql.{engine}")
    return [
        (file.name, tuple(engine_module(engine).batches(file.read_text(encoding="utf-8"))))
        for place in (folder, folder / "schema")
        for file in place.iterdir()
        if file.name.endswith(".sql")
    ]


def engine_module(name: str) -> EngineModule:
    """What an engine's folder gives, by the name of the folder."""
    return cast(EngineModule, import_module(f"sql.{name}"))
