"""A connection to the configured database that runs our .sql files by name.

What differs between the engines lives beside their files, in `sql/sqlite` and `sql/mssql`: how
to connect, how a script is cut into batches, and whose fault an error is.
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
    """What an engine's folder gives."""

    def connect(self, settings: Settings, *, create: bool) -> Any:
        """A DB-API connection in autocommit mode; `create` makes a missing database first."""

    def batches(self, script: str) -> list[str]:
        """The pieces of a script that go to the server one at a time."""

    def execute(self, connection: Any, statement: str, parameters: Sequence[object]) -> Any:
        """The cursor of a statement that was begun."""

    def check(self, connection: Any) -> None:
        """See that the connection still leads to the database that the settings name.

        Raises:
            SetupError: it does not.
        """

    def alone(self, settings: Settings, connection: Any) -> AbstractContextManager[None]:
        """Keeps others who change the schema waiting while the block lasts."""

    def finish(self, cursor: Any) -> None:
        """Wait for all that a statement does; errors of what comes late are raised here."""

    def blame(self, error: Exception) -> type[IotError]:
        """Whose fault a driver's error is."""

    turn: AbstractContextManager[Any]
    """What the transactions of this process are in, one at a time where the engine needs it."""

    begin: str | None
    """What opens a transaction around a file, or None where each file is one procedure call."""


class Database:
    """One connection, for one thread at a time. As a context manager it is closed at the end.

    Every method raises `UnavailableError`, `RefusedError` or `SetupError`, by blame.
    """

    def __init__(self, settings: Settings, *, create: bool = False) -> None:
        self._settings = settings
        self._engine = _engine(settings.engine)
        with _Blamed(self):
            self._connection = self._engine.connect(settings, create=create)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def query(self, query: Query[R], *parameters: object) -> list[R]:
        """The rows that a query gives for its parameters, in their order."""
        with _Blamed(self):
            self._engine.check(self._connection)
            text = _text(self._settings.engine, query.name)
            cursor = self._engine.execute(self._connection, text, parameters)
            rows = list(map(query.row._make, cursor.fetchall()))  # type: ignore[attr-defined]
            cursor.close()
            return rows

    def execute(self, name: str, *parameters: object) -> list[Any]:
        """Run all statements of one of `COMMANDS` with the same parameters, in one transaction.
        Returns the rows of the last statement that gives any.
        """
        return self._run(self._statements(name, parameters))

    def alone(self) -> AbstractContextManager[None]:
        """Nobody else changes the schema while the block lasts; whoever does now is waited for."""
        return self._engine.alone(self._settings, self._connection)

    def migrate(self, name: str, batches: Sequence[str], checksum: str) -> None:
        """Run a schema script and record it, in one transaction where the engine can."""
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
        """Let go of the connection; what is not committed is rolled back."""
        self._connection.close()

    def _statements(
        self, name: str, parameters: Sequence[object]
    ) -> list[tuple[str, Sequence[object]]]:
        return [
            (statement, parameters if takes_any else ())
            for statement, takes_any in _statements(self._settings.engine, name)
        ]

    def blamed(self, error: Exception) -> IotError:
        """Our error for a driver's, with the database's name and what to do."""
        kind = self._engine.blame(error)
        where = self._settings.database
        if issubclass(kind, UnavailableError):
            return kind(f"{where} does not answer: {_text_of(error)}")
        if kind is SetupError:
            return SetupError(f"{where} cannot be used: {_text_of(error)}")
        return kind(_text_of(error))


class _Blamed:
    """Turns driver errors inside the block into ours."""

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
    batches = _engine(engine).batches(_text(engine, name))
    return [(batch, "?" in re.sub("--.*", "", batch)) for batch in batches]


def schema_scripts(engine: str) -> list[tuple[str, tuple[str, ...]]]:
    """The scripts of an engine's schema, in no order: (file name, its batches)."""
    folder = files(f"sql.{engine}")
    return [
        (file.name, tuple(_engine(engine).batches(file.read_text(encoding="utf-8"))))
        for place in (folder, folder / "schema")
        for file in place.iterdir()
        if file.name.endswith(".sql")
    ]


def _engine(name: str) -> EngineModule:
    return cast(EngineModule, import_module(f"sql.{name}"))
