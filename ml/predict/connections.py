"""A small pool of database connections, shared by many threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, LifoQueue

from contract.errors import IotError, SetupError, UnavailableError
from contract.settings import Settings
from sql.database import Database
from sql.schema import open_database

_BROKEN = (UnavailableError, SetupError)
"""After one of these errors, the connection is closed and not reused."""


class Connections:
    """At most `most` connections, opened on demand."""

    def __init__(self, settings: Settings, most: int = 8, wait_s: float = 3.0) -> None:
        self._settings = settings
        self._wait_s = wait_s
        self._free: LifoQueue[Database | None] = LifoQueue()
        for _ in range(most):
            self._free.put(None)

    @contextmanager
    def one(self) -> Iterator[Database]:
        """A connection for this thread, for the duration of the block. It is closed if the block
        fails with anything but a fault of the caller or of a row.

        Raises:
            UnavailableError: no connection became free in time, or the server does not answer.
            SetupError: see `open_database`.
        """
        try:
            database = self._free.get(timeout=self._wait_s)
        except Empty as error:
            raise UnavailableError("too many requests are waiting for the database") from error
        try:
            if database is None:
                database = open_database(self._settings)
            yield database
        except BaseException as error:
            healthy = isinstance(error, IotError) and not isinstance(error, _BROKEN)
            if database is not None and not healthy:
                database.close()
                database = None
            raise
        finally:
            self._free.put(database)

    def close(self) -> None:
        """Close all idle connections."""
        while True:
            try:
                database = self._free.get_nowait()
            except Empty:
                return
            if database is not None:
                database.close()
