"""The HTTP protocol of our services: uvicorn's, with limits that uvicorn does not have.

The cost of a connection is limited before the application sees any of it:

- a request head has up to 64 KiB, 100 headers, a target of 8 KiB, and 10 to 20 seconds;
- up to 32 requests may wait behind the one that is being answered, and a chunked body has up to
  8192 chunks: the callbacks are what costs, and one read may bring tens of thousands of them;
- a connection above the connection limit is answered with 503 and closed. Open connections stay: a
  device that has a connection keeps it, and silent connections are closed within 20 seconds.

Input that is not HTTP, or that two programs may parse differently, is answered with a problem, and
the connection is closed. Trailers are dropped. An upgrade that a client offers (h2c, WebSocket) is
ignored and the request is answered without it. CONNECT is refused. None of this is sent before the
answer to an earlier request on the connection.
"""

import asyncio
from typing import Any, NoReturn

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.problems import CONTENT_TYPE, Problem
from runtime.refusals import Refusals

HEAD_S = 10.0
"""How long a client may take to send a request head, or be silent before the first one."""
MAX_HEAD = 65_536
"""Bytes in a head, at most."""
MAX_HEADERS = 100
"""Headers in a head, and trailers of a body, at most."""
MAX_TARGET = 8_192
"""Bytes in the target (path and query), at most."""
MAX_CHUNKS = 8_192
"""Chunks in a body, at most."""
MAX_WAITING = 32
"""Requests that wait on a connection while an earlier one is answered, at most."""
_METHODS = "GET, HEAD, POST"
_WATCHED = frozenset((b"host", b"transfer-encoding", b"expect"))
_UPGRADE = (b"upgrade", b"connection", b"http2-settings")


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self, refusals: Refusals, max_connections: int, *arguments: Any, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._refusals = refusals
        self._max_connections = max_connections
        self._head_since: float | None = self.loop.time()
        """When the wait for a head began. None while a request is answered."""
        self._head_bytes = 0
        self._idle_since = 0.0
        """When the last answer was complete. One timer serves this and the head: a timer for
        each request would cost more than parsing it.
        """
        self._pause_s = min(HEAD_S, max(1.0, self.timeout_keep_alive))
        self._in_body = False
        self._hosts = 0
        self._codings: list[bytes] | None = None
        """The values of Transfer-Encoding, if a request has it."""
        self._chunks = 0
        self._offered = ""
        """The HTTP version of a request that offers an upgrade, while its head is parsed."""
        self._refused: Problem | None = None
        """Why a callback stopped the parser."""
        self._ended = False
        self._outlived = False
        """Whether a body was still arriving at the last check although it was answered."""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            busy = "too many connections are open; try again"
            self._end(Problem(503, busy, headers={"Retry-After": "5"}))
        else:
            self._timer = self.loop.call_later(self._pause_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the connection stays open: a client that sent everything still gets an answer.
        TLS has no half-closed connections.
        """
        waits = self._answering() and (not self._in_body or bool(self.pipeline))
        if waits and self.scheme != "https":
            self.cycle.keep_alive = False
            return True
        return False

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._head_since is None and not self._in_body and not self._answering():
            self._head_since = self.loop.time()
        if self._head_bytes + len(data) <= MAX_HEAD:
            self._feed(data)
            return
        rest = memoryview(data)
        while rest and not self._ended:
            room = MAX_HEAD if self._in_body else MAX_HEAD - self._head_bytes
            if room > 0:
                self._feed(rest[:room])
                rest = rest[room:]
            else:
                self._end(Problem(431, f"the head has more than {MAX_HEAD} bytes"))

    def _feed(self, data: bytes | memoryview) -> None:
        """Parse up to `MAX_HEAD` bytes."""
        if not self._in_body:
            self._head_bytes += len(data)
        try:
            while True:
                try:
                    self.parser.feed_data(data)
                except httptools.HttpParserUpgrade as upgrade:
                    head = self._head_without_upgrade()
                    self._offered = ""
                    self.parser = httptools.HttpRequestParser(self)
                    self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                    self.parser.feed_data(head)
                    data = memoryview(data)[upgrade.args[0] :]
                else:
                    return
        except httptools.HttpParserError:
            self._end(self._refused or Problem(400, "this is not a valid HTTP request", "http"))

    def on_message_begin(self) -> None:
        self._head_since = self.loop.time()
        self._hosts = 0
        self._codings = None
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_TARGET:
            self._refuse(414, f"the target has more than {MAX_TARGET} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= MAX_HEADERS:
            self._refuse(431, f"there are more than {MAX_HEADERS} headers")
        name = name.lower()
        if name in _WATCHED:
            self._watch(name, value)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._refuse(405, "this is not a proxy", "method", {"Allow": _METHODS})
            self._offered = version
            return
        if version != "1.1" or self._hosts != 1 or self._codings:
            self._check(version)
        if self.url[:1] != b"/":
            self.url = self._path_of_target()
        if len(self.pipeline) >= MAX_WAITING:
            self._refuse(400, f"more than {MAX_WAITING} requests wait on this connection", "http")
        self._head_since = None
        self._head_bytes = 0
        self._in_body = True
        super().on_headers_complete()
        self.headers = []  # trailers are parsed like headers, and dropped

    def on_body(self, body: bytes) -> None:
        if self._codings:
            self._chunks += 1
            if self._chunks > MAX_CHUNKS:
                self._refuse(400, f"the body has more than {MAX_CHUNKS} chunks", "http")
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        if not self._offered:
            self._in_body = self._outlived = False
            cycle = self.cycle
            if not cycle.response_complete:
                cycle.more_body = False
                cycle.message_event.set()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self._idle_since = self.loop.time()

    def _watch(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
        elif name == b"transfer-encoding":
            self._codings = [*(self._codings or ()), value.lower()]
        elif value.lower() == b"100-continue":
            self.expect_100_continue = True

    def _check(self, version: str) -> None:
        if version not in ("1.1", "1.0"):
            self._refuse(505, "only HTTP/1.1 and HTTP/1.0 are supported")
        if self._hosts > 1:
            self._refuse(400, "Host: the header occurs more than once", "http")
        if not self._hosts and version == "1.1":
            self._refuse(400, "Host: the header is missing, and HTTP/1.1 requires it", "http")
        if self._codings and self._codings != [b"chunked"]:
            self._refuse(501, "Transfer-Encoding: only chunked is supported")
        if self._codings and version == "1.0":
            self._refuse(400, "Transfer-Encoding: HTTP/1.0 does not support it", "http")
        if not self._answering():  # a request that is still being answered has used its share
            self._chunks = 0

    def _path_of_target(self) -> bytes:
        """Path and query of a target in absolute form (`http://host/path`)."""
        if self.url == b"*":
            self._refuse(405, f"only {_METHODS} are supported", "method", {"Allow": _METHODS})
        target = httptools.parse_url(self.url)
        return (target.path or b"/") + (b"?" + target.query if target.query else b"")

    def _head_without_upgrade(self) -> bytes:
        version = self._offered.encode()
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/", version, b"\r\n"]
        for name, value in self.headers:
            if name not in _UPGRADE:
                head += [name, b": ", value, b"\r\n"]
            elif name == b"connection" and b"close" in value.lower():
                head.append(b"connection: close\r\n")
        return b"".join(head) + b"\r\n"

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        """Close the connection if it takes too long. Called at least every 10 s.

        A body that is being read has the reader's own timeout. A body whose answer was sent before
        its end has 10 to 20 s more.
        """
        now = self.loop.time()
        self._timer = self.loop.call_later(self._pause_s, self._look)
        if self._answering():
            self._outlived = False
        elif self._in_body:
            if self._outlived:
                self.transport.close()
            self._outlived = True
        elif self._head_since is None:
            if now >= self._idle_since + self.timeout_keep_alive:
                self.transport.close()
        elif now >= self._head_since + HEAD_S:
            self._end(Problem(408, f"the head of the request took longer than {HEAD_S:g} s"))

    def _refuse(
        self, status: int, detail: str, reason: str = "", headers: dict[str, str] | None = None
    ) -> NoReturn:
        """Stop the parser from one of its callbacks."""
        self._refused = Problem(status, detail, reason, headers or {})
        raise ValueError(detail)

    def _end(self, problem: Problem) -> None:
        """Answer with `problem` and close, after earlier requests are answered."""
        self._ended = True
        if self._answering():
            if not self._in_body or self.pipeline or self.cycle.response_started:
                self.cycle.keep_alive = False
                self.flow.pause_reading()
                return
            self.cycle.disconnected = True  # the application reads no further, and counts it
            self.cycle.message_event.set()
            self._write(problem, self._refusals.request_id())
        else:
            request_id = self._refusals.request_id()
            client = self.client[0] if self.client else None
            self._refusals.note(problem, "other", request_id, client)
            self._write(problem, request_id)

    def _write(self, problem: Problem, request_id: str) -> None:
        body = problem.body(request_id)
        head = (
            f"HTTP/1.1 {problem.status} {problem.title}\r\ncontent-type: {CONTENT_TYPE}\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\n"
            + "".join(f"{name.lower()}: {value}\r\n" for name, value in problem.headers.items())
            + "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
