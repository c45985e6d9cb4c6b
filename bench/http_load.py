"""A load generator that costs as little as it can: it shares two cores with what it measures.

Closed loop: each connection sends its next request when the answer to the last one is there.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

import numpy as np
import uvloop


@dataclass(frozen=True, slots=True)
class Load:
    """What came back."""

    elapsed_s: float
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests answered a second."""
        return len(self.latencies_ms) / self.elapsed_s

    def percentile_ms(self, percent: float) -> float:
        """The time within which `percent` of the requests were answered."""
        return float(np.percentile(self.latencies_ms, percent))


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """One HTTP request, as a device sends it."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nUser-Agent: bench\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def run_load(
    port: int, requests: Callable[[int], list[bytes]], *, connections: int, seconds: float
) -> Load:
    """Send `requests(i)` round and round on connection i for `seconds`, and wait for the rest.

    Raises:
        OSError: nobody listens on the port, or a connection was cut.
        TimeoutError: the last answers did not come within 30 s.
    """
    return uvloop.run(_run(port, requests, connections, seconds))


async def _run(
    port: int, requests: Callable[[int], list[bytes]], connections: int, seconds: float
) -> Load:
    loop = asyncio.get_running_loop()
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    start = perf_counter()
    clients = []
    for number in range(connections):
        ended = loop.create_future()
        make = _maker(requests(number), start + seconds, statuses, latencies, ended)
        await loop.create_connection(make, "127.0.0.1", port)
        clients.append(ended)
    async with asyncio.timeout(seconds + 30):
        await asyncio.gather(*clients)
    return Load(perf_counter() - start, statuses, latencies)


def _maker(
    requests: list[bytes],
    end: float,
    statuses: Counter[int],
    latencies: list[float],
    ended: asyncio.Future[None],
) -> "Callable[[], _Client]":
    return lambda: _Client(requests, end, statuses, latencies, ended)


class _Client(asyncio.Protocol):
    """One connection. Answers must have a Content-Length, as all of ours do."""

    def __init__(
        self,
        requests: list[bytes],
        end: float,
        statuses: Counter[int],
        latencies: list[float],
        ended: asyncio.Future[None],
    ) -> None:
        self._requests, self._end, self._ended = requests, end, ended
        self._statuses, self._latencies = statuses, latencies
        self._next = 0
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's own class
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        place = self._buffer.find(b"content-length: ", 0, head) + 16
        size = int(self._buffer[place : self._buffer.find(b"\r\n", place)])
        if len(self._buffer) < head + 4 + size:
            return
        now = perf_counter()
        self._statuses[int(self._buffer[9:12])] += 1
        self._latencies.append((now - self._sent) * 1000)
        self._buffer = b""
        if now < self._end:
            self._send()
        else:
            self._transport.close()
            self._ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(exc or ConnectionResetError("the server hung up"))

    def _send(self) -> None:
        self._sent = perf_counter()
        self._transport.write(self._requests[self._next])
        self._next = (self._next + 1) % len(self._requests)
