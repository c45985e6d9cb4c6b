"""The HTTP server: uvicorn, with bounds on the heads of requests, which it does not have itself.

A head has 64 KiB and 10 to 20 seconds; what is no HTTP is answered with a problem; an upgrade
that a client offers (h2c, say) is passed over, and the request is answered as it is. None of this
comes before the answer to an earlier request on the connection.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest_edge.problems import CONTENT_TYPE, Problem
from ingest_edge.refusals import refusals

HEAD_S = 10.0
"""How long a sender may take for the head of a request, or be silent before the first."""
MAX_HEAD = 65_536
"""Bytes that a head may have."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_since: float | None = self.loop.time()
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the connection stays: who has said all it wants still gets its answer."""
        if self._answering():
            self.cycle.keep_alive = False
            return True
        return False

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._head_since is None and not self._answering():
            self._head_since = self.loop.time()
        if self._head_since is not None:
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._end(Problem(400, "this is not an HTTP request", "http"))
        else:
            if self._head_since is not None and self._head_bytes > MAX_HEAD:
                self._end(Problem(431, f"the head has more than {MAX_HEAD} bytes", "too_large"))

    def on_message_begin(self) -> None:
        self._head_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_since = None
        self._head_bytes = 0
        super().on_headers_complete()

    def _should_upgrade(self) -> bool:
        """Asked where the parser stops for an upgrade: `_without_upgrade` begins anew."""
        return True

    def _without_upgrade(self, rest: bytes) -> None:
        head = [self.scope["method"].encode(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name not in (b"upgrade", b"connection", b"http2-settings"):
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"".join(head) + b"\r\n" + rest)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        if self._head_since is not None and self.loop.time() >= self._head_since + HEAD_S:
            self._end(Problem(408, f"the head of the request took longer than {HEAD_S:g} s"))
        else:
            self._head_timer = self.loop.call_later(HEAD_S, self._look)

    def _end(self, problem: Problem) -> None:
        if self._answering():  # the answer to what came before comes first, and is the last
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        request_id = refusals.request_id()
        refusals.note(problem, "other", request_id, self.client[0] if self.client else None)
        body = problem.body(request_id)
        head = (
            f"HTTP/1.1 {problem.status} {problem.title}\r\ncontent-type: {CONTENT_TYPE}\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
