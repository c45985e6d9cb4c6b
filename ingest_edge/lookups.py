"""Database queries that never block the event loop."""

import asyncio
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import TypeVar, cast

import structlog

from contract.errors import IotError, UnavailableError
from contract.settings import Settings
from sql.database import Database
from sql.schema import open_database

_AWAY_S = 2.0
"""Pause after a failure: until it ends, callers fail at once instead of waiting for a time-out."""
_ANSWER_S = 3.0
"""How long the caller waits; the query itself may take longer."""
_WAITING = 256
"""Limit on waiting queries; more would only wait longer."""
_T = TypeVar("_T")
_log = structlog.get_logger("lookups")


class Lookups:
    """One connection, in its own thread. Concurrent queries with the same name run once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._database: Database | None = None
        self._away_until = 0.0
        self._asked: dict[Hashable, asyncio.Future[object]] = {}
        self._calls: SimpleQueue[tuple[Callable[[], object], asyncio.Future[object]] | None]
        self._calls = SimpleQueue()
        # a daemon: a database that hangs must not delay the end of the process
        self._thread = Thread(target=self._run, name="lookups", daemon=True)
        self._thread.start()

    async def open(self) -> None:
        """Connect.

        Raises:
            IotError: by cause, see `open_database`.
        """
        await self._in_thread(self._connect)

    def close(self) -> None:
        """Finish the waiting queries, then disconnect and end the thread. Waits 1 s at most."""
        self._calls.put(None)
        self._thread.join(1)

    @property
    def away(self) -> bool:
        """Whether the database failed a moment ago."""
        return monotonic() < self._away_until

    async def ask(self, name: Hashable, question: Callable[[Database], _T]) -> _T:
        """What `question` returns. Concurrent callers with the same name share one result.

        Raises:
            UnavailableError: the database is unavailable or takes more than 3 s, or too many
                queries are waiting.
            IotError: by cause, see `Database`.
        """
        answer = self._asked.get(name)
        if answer is None:
            if self.away:
                raise UnavailableError("the database is unavailable")
            if len(self._asked) >= _WAITING:
                raise UnavailableError("too many queries are waiting for the database")
            answer = self._in_thread(lambda: self._answer(question))
            self._asked[name] = answer
            answer.add_done_callback(lambda done: self._forget(name, done))
        try:
            # shielded: a caller that gives up does not cancel the query for others
            async with asyncio.timeout(_ANSWER_S):
                return cast(_T, await asyncio.shield(answer))
        except TimeoutError as error:
            raise UnavailableError("the database took too long to answer") from error

    def _forget(self, name: Hashable, done: asyncio.Future[object]) -> None:
        del self._asked[name]
        if not done.cancelled():
            done.exception()  # the callers that still wait have received it

    def _answer(self, question: Callable[[Database], object]) -> object:
        if self.away:  # it failed after this query was queued
            raise UnavailableError("the database is unavailable")
        try:
            return question(self._connect())
        except IotError as error:
            self._away_until = monotonic() + _AWAY_S
            _log.warning("database unavailable, using cached devices and keys", error=str(error))
            self._disconnect()
            raise

    def _in_thread(self, call: Callable[[], object]) -> asyncio.Future[object]:
        answer: asyncio.Future[object] = self._loop.create_future()
        self._calls.put((call, answer))
        return answer

    def _run(self) -> None:
        while (asked := self._calls.get()) is not None:
            call, answer = asked
            try:
                result = call()
            except Exception as error:  # noqa: BLE001 - raised again in the caller
                self._loop.call_soon_threadsafe(_settle, answer, None, error)
            else:
                self._loop.call_soon_threadsafe(_settle, answer, result, None)
        self._disconnect()

    def _connect(self) -> Database:
        if self._database is None:
            self._database = open_database(self._settings)
        return self._database

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _settle(answer: asyncio.Future[object], result: object, error: Exception | None) -> None:
    if answer.cancelled():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
