"""A connection to the configured database that runs our .sql files by name.

What differs between the engines lives beside their files, in `sql/sqlite` and `sql/mssql`: how
to connect, how a script is cut into batches, and whose fault an error is.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any, Protocol, cast

from contract.errors import IotError, SetupError, UnavailableError
from contract.settings import Settings


class Engine(Protocol):
    """What an engine's folder gives."""

    def connect(self, settings: Settings, *, create: bool) -> Any:
        """A DB-API connection in autocommit mode; `create` makes a missing database first."""

    def batches(self, script: str) -> list[str]:
        """The pieces of a script that go to the server one at a time."""

    def blame(self, error: Exception) -> type[IotError]:
        """Whose fault a driver's error is."""

    turn: AbstractContextManager[Any]
    """What the transactions of this process are in, one at a time where the engine needs it."""

    begin: str | None
    """What opens a transaction around a file, or None where each file is one procedure call."""


class Database:
    """One connection, for one thread at a time.

    Every method raises `UnavailableError`, `RefusedError` or `SetupError`, by blame.
    """

    def __init__(self, settings: Settings, *, create: bool = False) -> None:
        self._settings = settings
        self._engine = cast(Engine, import_module(f"sql.{settings.engine}"))
        with _Blamed(self):
            self._connection = self._engine.connect(settings, create=create)

    def query(self, name: str, *parameters: object) -> list[Any]:
        """The rows of the statement in `NAME.sql`."""
        with _Blamed(self):
            cursor = self._connection.execute(self._text(name), parameters)
            rows: list[Any] = cursor.fetchall()
            cursor.close()
            return rows

    def execute(self, name: str, *parameters: object) -> None:
        """Run all statements of `NAME.sql` with the same parameters, in one transaction."""
        self._run([(batch, parameters) for batch in self._engine.batches(self._text(name))])

    def migrate(self, name: str, batches: Sequence[str], checksum: str) -> None:
        """Run a schema script and record it, in one transaction where the engine can."""
        record = (self._text("add_migration"), (name, checksum))
        self._run([*((batch, ()) for batch in batches), record])

    def _run(self, statements: Sequence[tuple[str, Sequence[object]]]) -> None:
        with _Blamed(self), self._engine.turn:
            if self._engine.begin:
                self._connection.execute(self._engine.begin)
            try:
                for statement, parameters in statements:
                    self._connection.execute(statement, parameters).close()
                if self._engine.begin:
                    self._connection.execute("COMMIT")
            except BaseException:
                if self._engine.begin and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def schema(self) -> list[tuple[str, list[str]]]:
        """The numbered scripts of this engine: (file name, its batches), in order."""
        folder = files(f"sql.{self._settings.engine}") / "schema"
        scripts = sorted(
            (f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name
        )
        return [(f.name, self._engine.batches(f.read_text(encoding="utf-8"))) for f in scripts]

    def close(self) -> None:
        """Let go of the connection; what is not committed is rolled back."""
        self._connection.close()

    def _text(self, name: str) -> str:
        return _read(self._settings.engine, name)

    def blamed(self, error: Exception) -> IotError:
        """Our error for a driver's, with the database's name and what to do."""
        kind = self._engine.blame(error)
        where = self._settings.database
        if kind is UnavailableError:
            return UnavailableError(f"{where} does not answer: {_text_of(error)}")
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
def _read(engine: str, name: str) -> str:
    return (files(f"sql.{engine}") / f"{name}.sql").read_text(encoding="utf-8")


def open_database(settings: Settings) -> Database:
    """A connection to a database whose schema is up to date.

    Raises:
        SetupError: the schema is missing or older than this program; the text says what to do.
        UnavailableError: the server does not answer.
    """
    database = Database(settings)
    done = applied(database)
    missing = [name for name, _ in database.schema() if name not in done]
    if missing:
        database.close()
        raise SetupError(
            f"{settings.database} lacks the schema script {missing[0]}: run `python -m sql`"
        )
    return database


def applied(database: Database) -> dict[str, str]:
    """The scripts that were applied: name -> checksum. Empty on a database without our schema."""
    if not database.query("has_migrations"):
        return {}
    return {row[0]: row[1] for row in database.query("list_migrations")}
