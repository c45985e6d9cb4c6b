"""Questions to the database, asked without ever holding up the event loop."""

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TypeVar, cast

import structlog

from contract.errors import IotError, UnavailableError
from contract.settings import Settings
from sql.database import Database, open_database

_AWAY_S = 2.0
"""How long a database that failed is left in peace: nobody waits for its time-out meanwhile."""
_WAITING = 256
"""How many questions may wait; more would only wait longer."""
_T = TypeVar("_T")
_log = structlog.get_logger("lookups")


class Lookups:
    """One connection in a thread of its own. A question that is being asked is not asked twice."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lookups")
        self._database: Database | None = None
        self._away_until = 0.0
        self._asked: dict[Hashable, asyncio.Task[object]] = {}

    async def open(self) -> None:
        """Connect.

        Raises:
            IotError: by blame, see `open_database`.
        """
        await self._in_thread(self._connect)

    async def close(self) -> None:
        """Disconnect and end the thread."""
        await self._in_thread(self._disconnect)
        self._thread.shutdown()

    @property
    def away(self) -> bool:
        """Whether the database has just failed to answer."""
        return monotonic() < self._away_until

    async def ask(self, name: Hashable, question: Callable[[Database], _T]) -> _T:
        """What `question` returns; whoever asks under the same name meanwhile gets the same.

        Raises:
            UnavailableError: the database is away, or too many questions wait for it.
            IotError: by blame, see `Database`.
        """
        task = self._asked.get(name)
        if task is None:
            if self.away:
                raise UnavailableError("the database is away")
            if len(self._asked) >= _WAITING:
                raise UnavailableError("too many questions wait for the database")
            task = asyncio.create_task(self._answer(question))
            self._asked[name] = task
            task.add_done_callback(lambda done: self._forget(name, done))
        return cast(_T, await asyncio.shield(task))  # who gives up does not end it for the others

    def _forget(self, name: Hashable, done: asyncio.Task[object]) -> None:
        del self._asked[name]
        if not done.cancelled():
            done.exception()  # it was told to those who still waited

    async def _answer(self, question: Callable[[Database], object]) -> object:
        try:
            return await self._in_thread(lambda: question(self._connect()))
        except IotError as error:
            if not self.away:
                self._away_until = monotonic() + _AWAY_S
                _log.warning("database away, answering from memory", error=str(error))
                await self._in_thread(self._disconnect)
            raise

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _connect(self) -> Database:
        if self._database is None:
            self._database = open_database(self._settings)
        return self._database

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
