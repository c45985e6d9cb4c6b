"""SQLite: connecting, splitting scripts, and classifying errors."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from contract.errors import IotError, RefusedError, SetupError, UnavailableError
from contract.settings import Settings

begin = "BEGIN IMMEDIATE"
rows_a_batch = 20_000
writers = 1
between_scripts = "\n"
turn = Lock()  # SQLite allows one writer, and would make our other threads sleep and poll

_BUSY_S = 5.0


class _Connection(sqlite3.Connection):
    """Remembers its file, because SQLite would keep writing to a deleted or replaced one."""

    path: Path
    file: tuple[int, int]


def check(connection: sqlite3.Connection) -> None:
    """Check that the path still names the file that is open.

    Raises:
        SetupError: it was deleted or replaced.
    """
    assert isinstance(connection, _Connection)
    try:
        there = connection.path.stat()
    except FileNotFoundError:
        what = "was deleted"
    else:
        if (there.st_dev, there.st_ino) == connection.file:
            return
        what = "was replaced by another file"
    raise SetupError(
        f"IOT_SQLITE_PATH: {connection.path} {what} while it was open. Put the right file there "
        "(`python -m sql` creates an empty one), then start again: on start, the flow reports "
        "whether readings are missing and how to restore them"
    )


def connect(settings: Settings, *, create: bool) -> sqlite3.Connection:
    """Open the file `IOT_SQLITE_PATH` in WAL mode, so that readers never block the writer."""
    path = settings.iot_sqlite_path
    if not path.parent.is_dir():
        raise SetupError(f"IOT_SQLITE_PATH: the folder {path.parent} does not exist")
    if not create and not path.is_file():
        raise SetupError(
            f"IOT_SQLITE_PATH: there is no file {path}: run `python -m sql` to create it"
        )
    connection = sqlite3.connect(
        path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, factory=_Connection
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a commit survives a power failure
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -65536")  # 64 MiB
    there = path.stat()
    connection.path, connection.file = path, (there.st_dev, there.st_ino)
    return connection


@contextmanager
def alone(settings: Settings, connection: sqlite3.Connection) -> Iterator[None]:
    """Lock a file beside the database, which is removed at the end."""
    file = settings.iot_sqlite_path.with_name(f"{settings.iot_sqlite_path.name}.schema-lock")
    descriptor = _locked(file)
    try:
        yield
    finally:
        file.unlink()
        os.close(descriptor)


def _locked(file: Path) -> int:
    while True:
        descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):  # the previous holder removed the file after we opened it
            if file.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)


def batches(script: str) -> list[str]:
    """Split a script into its statements."""
    statements, rest = [], ""
    for line in script.splitlines(keepends=True):
        rest += line
        if sqlite3.complete_statement(rest):
            statements.append(rest)
            rest = ""
    return statements


def execute(
    connection: sqlite3.Connection, statement: str, parameters: Sequence[Any]
) -> sqlite3.Cursor:
    """Run a statement."""
    return connection.execute(statement, parameters)


def finish(cursor: sqlite3.Cursor) -> None:
    """A statement is done when it returns."""
    cursor.close()


def blame(error: Exception) -> type[IotError]:
    """Classify by SQLite's result code."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return SetupError
    if code & 0xFF in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
    ):
        return UnavailableError
    if code & 0xFF in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG):
        return RefusedError
    return SetupError
