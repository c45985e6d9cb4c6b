"""A few connections to the database that many threads share."""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, LifoQueue

from contract.errors import IotError, SetupError, UnavailableError
from contract.settings import Settings
from sql.database import Database
from sql.schema import open_database

_BROKEN = (UnavailableError, SetupError)
"""After these a connection is not used again."""


class Connections:
    """At most `most` of them, opened when they are needed."""

    def __init__(self, settings: Settings, most: int = 8, wait_s: float = 3.0) -> None:
        self._settings = settings
        self._wait_s = wait_s
        self._free: LifoQueue[Database | None] = LifoQueue()
        for _ in range(most):
            self._free.put(None)

    @contextmanager
    def one(self) -> Iterator[Database]:
        """A connection for this thread, for the time of the block. It is closed when the block
        fails by more than a caller's or a row's fault.

        Raises:
            UnavailableError: all are in use for too long, or the server does not answer.
            SetupError: see `open_database`.
        """
        try:
            database = self._free.get(timeout=self._wait_s)
        except Empty as error:
            raise UnavailableError("too many requests wait for the database") from error
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
        """Close those that nobody uses."""
        while True:
            try:
                database = self._free.get_nowait()
            except Empty:
                return
            if database is not None:
                database.close()
