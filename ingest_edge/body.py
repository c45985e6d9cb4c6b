"""The body of a request, received in bounded size and time."""

import asyncio
from collections.abc import Mapping
from time import monotonic

from starlette.types import Receive

from contract.errors import PacketError, UnavailableError

MAX_BODY = 1_048_576
"""Bytes that a body may have on the wire."""
BODY_S = 20.0
"""How long a sender may take for a body."""
_DISCARD_S = 2.0
_DISCARD = 16 * MAX_BODY
_HELD = 64 * MAX_BODY
"""Bytes of all bodies together that have not ended yet."""


class Incoming:
    """A request whose body is still to come."""

    __slots__ = ("ended", "headers", "readings", "receive")

    def __init__(self, headers: Mapping[bytes, bytes], receive: Receive) -> None:
        self.headers = headers
        self.receive = receive
        self.ended = False
        """Whether the body was received to its end."""
        self.readings = 0
        """How many readings the body has, once that is known."""


class Bodies:
    """Reads bodies. One timer serves all: a timer for each costs more than reading a body does."""

    def __init__(self) -> None:
        self._held = 0
        self._reading: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(1, self._look)

    def close(self) -> None:
        """End the timer."""
        self._timer.cancel()

    async def read(self, incoming: Incoming) -> bytes:
        """The whole body, as it was sent.

        Raises:
            PacketError: 400, the sender hung up; 408, it took longer than 20 s; 413, there are
                more than 1 MiB.
            UnavailableError: the bodies under way have 64 MiB already.
        """
        task = asyncio.current_task()
        assert task is not None
        self._reading[task] = monotonic() + BODY_S
        try:
            return await self._receive(incoming)
        except asyncio.CancelledError as error:
            if task not in self._late:
                raise
            self._late.remove(task)
            task.uncancel()
            raise PacketError(f"the body took longer than {BODY_S:g} s", 408) from error
        finally:
            del self._reading[task]

    async def _receive(self, incoming: Incoming) -> bytes:
        length = incoming.headers.get(b"content-length", b"0").strip().lstrip(b"0") or b"0"
        if len(length) > 7 or int(length) > MAX_BODY:
            raise _too_large()
        message = await incoming.receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False) and message["type"] == "http.request":
            incoming.ended = True
            if len(body) > MAX_BODY:
                raise _too_large()
            return body
        pieces, size = [body], len(body)
        self._held += size
        try:
            while message.get("more_body", False):
                if size > MAX_BODY:
                    raise _too_large()
                if self._held > _HELD:
                    raise UnavailableError("too many bodies are under way")
                message = await incoming.receive()
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                self._held += len(pieces[-1])
            incoming.ended = True
        finally:
            self._held -= size
        if message["type"] == "http.disconnect":
            raise PacketError("the connection ended before the body did", 400)
        if size > MAX_BODY:
            raise _too_large()
        return b"".join(pieces)

    def _look(self) -> None:
        now = monotonic()
        for task, end in self._reading.items():  # in the order of their ends
            if end > now:
                break
            if task not in self._late:
                self._late.add(task)
                task.cancel()
        self._timer = self._loop.call_later(1, self._look)


async def discard(incoming: Incoming) -> bool:
    """Read on without keeping anything, so that the sender comes to read our answer; at most 2 s
    and 16 MiB. Whether that was the end of the body; if not, the connection must be closed.
    """
    if incoming.ended or b"expect" in incoming.headers:
        return incoming.ended
    size = 0
    try:
        async with asyncio.timeout(_DISCARD_S):
            while size <= _DISCARD:
                message = await incoming.receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return True
    except TimeoutError:
        pass
    return False


def _too_large() -> PacketError:
    return PacketError(f"the body has more than {MAX_BODY} bytes", 413)
