"""The HTTP server: uvicorn, with an end to senders that never finish their headers."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest_edge.problems import CONTENT_TYPE, Problem

HEAD_S = 10.0
"""How long a sender may take for the head of a request."""


class Protocol(HttpToolsProtocol):
    """One connection; a head that is not HTTP, or takes more than 10 to 20 s, is answered with a
    problem and the connection is closed.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_since: float | None = self.loop.time()
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._head_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_since = None
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._end(Problem(400, "this is not an HTTP request", "http"))

    def _look(self) -> None:
        if self._head_since is not None and self.loop.time() >= self._head_since + HEAD_S:
            self._end(Problem(408, f"the head of the request took longer than {HEAD_S:g} s"))
        else:
            self._head_timer = self.loop.call_later(HEAD_S, self._look)

    def _end(self, problem: Problem) -> None:
        body = problem.body()
        head = (
            f"HTTP/1.1 {problem.status} {problem.title}\r\ncontent-type: {CONTENT_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
