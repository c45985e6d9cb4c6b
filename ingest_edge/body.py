"""Receives request bodies, with limits on size and time."""

import asyncio
from collections.abc import Mapping
from time import monotonic

from starlette.types import Receive

from contract.errors import PacketError, UnavailableError

MAX_BODY = 1_048_576
"""Largest body on the wire, in bytes."""
BODY_S = 20.0
"""Longest time that a sender may take to send a body."""
_DISCARD_S = 2.0
_DISCARD = 16 * MAX_BODY
_HELD = 64 * MAX_BODY
"""Limit on the total size of all incomplete bodies, in bytes."""


class Incoming:
    """A request whose body has not been received yet."""

    __slots__ = ("ended", "headers", "readings", "receive")

    def __init__(self, headers: Mapping[bytes, bytes], receive: Receive) -> None:
        self.headers = headers
        self.receive = receive
        self.ended = False
        """Whether the whole body was received."""
        self.readings = 0
        """Number of readings in the body, once it is known."""


class Bodies:
    """Reads bodies. All share one timer: a timer for each would cost more than reading the body."""

    def __init__(self) -> None:
        self._held = 0
        self._reading: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(1, self._look)

    def close(self) -> None:
        """Stop the timer."""
        self._timer.cancel()

    async def read(self, incoming: Incoming) -> bytes:
        """Return the whole body, as it was sent.

        Raises:
            PacketError: 400, the sender disconnected; 408, the body took longer than 20 s; 413, it
                is larger than 1 MiB.
            UnavailableError: the incomplete bodies already take 64 MiB.
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
                    raise UnavailableError("too many request bodies are being received")
                message = await incoming.receive()
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                self._held += len(pieces[-1])
            incoming.ended = True
        finally:
            self._held -= size
        if message["type"] == "http.disconnect":
            raise PacketError("the connection closed before the body was complete", 400)
        if size > MAX_BODY:
            raise _too_large()
        return b"".join(pieces)

    def _look(self) -> None:
        now = monotonic()
        for task, end in self._reading.items():  # in order of their deadlines
            if end > now:
                break
            if task not in self._late:
                self._late.add(task)
                task.cancel()
        self._timer = self._loop.call_later(1, self._look)


async def discard(incoming: Incoming) -> bool:
    """Read and discard the rest of the body, so that the sender gets to read the response. Stops
    after 2 s or 16 MiB. Returns whether the body ended; if not, the connection must be closed.
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
    return PacketError(f"the body is larger than {MAX_BODY} bytes", 413)
