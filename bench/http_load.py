"""A load generator with minimal overhead: it shares two cores with the server that it measures.

A connection sends its next request when the last response has arrived or, with an interval, when
the next request is due.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple, cast

import numpy as np
import uvloop


class Answer(NamedTuple):
    """One answered request."""

    connection: int
    number: int
    """Index of the request on its connection, from 0."""
    status: int
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Load:
    """The answered requests of a run."""

    elapsed_s: float
    answers: list[Answer]

    @property
    def statuses(self) -> Counter[int]:
        """Number of responses per status."""
        return Counter(answer.status for answer in self.answers)

    @property
    def rate(self) -> float:
        """Answered requests per second."""
        return len(self.answers) / self.elapsed_s

    def percentile_ms(self, percent: float, status: int | None = None) -> float:
        """The time within which `percent` of the requests (with that status) were answered."""
        latencies = [
            answer.latency_ms for answer in self.answers if status in (None, answer.status)
        ]
        return float(np.percentile(latencies, percent))


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """One HTTP request, as a device sends it."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nUser-Agent: bench\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def run_load(
    port: int,
    requests: Callable[[int], Iterator[bytes]],
    *,
    connections: int,
    seconds: float,
    interval_s: float = 0.0,
) -> Load:
    """Send `requests(i)` on connection i for `seconds`, then wait for the last responses.

    Raises:
        OSError: nothing listens on the port, or a connection was closed.
        TimeoutError: the last responses did not arrive within 30 s.
    """
    return uvloop.run(_run(port, requests, connections, seconds, interval_s))


async def _run(
    port: int,
    requests: Callable[[int], Iterator[bytes]],
    connections: int,
    seconds: float,
    interval_s: float,
) -> Load:
    loop = asyncio.get_running_loop()
    start = perf_counter()
    plan = _Plan(start + seconds, interval_s, [])
    clients = []
    for number in range(connections):
        begin = start + interval_s * number / connections
        client = _Client(plan, number, requests(number), begin, loop)
        await loop.create_connection(lambda protocol=client: protocol, "127.0.0.1", port)  # type: ignore[misc]
        clients.append(client.ended)
    async with asyncio.timeout(seconds + 30):
        await asyncio.gather(*clients)
    return Load(perf_counter() - start, plan.answers)


@dataclass(frozen=True, slots=True)
class _Plan:
    end: float
    interval_s: float
    answers: list[Answer]


class _Client(asyncio.Protocol):
    """One connection. Responses must have a Content-Length header, as all of ours do."""

    def __init__(
        self,
        plan: _Plan,
        connection: int,
        requests: Iterator[bytes],
        due: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._plan, self._connection, self._requests, self._loop = plan, connection, requests, loop
        self._due = due
        self._number = 0
        self._buffer = b""
        self.ended: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's own class
        self._next(perf_counter())

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
        status, latency = int(self._buffer[9:12]), (now - self._sent) * 1000
        self._plan.answers.append(Answer(self._connection, self._number, status, latency))
        self._number += 1
        self._buffer = b""
        self._next(now)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(
                exc or ConnectionResetError("the server closed the connection")
            )

    def _next(self, now: float) -> None:
        self._due = max(self._due + self._plan.interval_s, now) if self._number else self._due
        if self._due >= self._plan.end:
            self.ended.set_result(None)
            self._transport.close()
        elif self._due > now:
            self._loop.call_later(self._due - now, self._send)
        else:
            self._send()

    def _send(self) -> None:
        self._sent = perf_counter()
        self._transport.write(next(self._requests))
