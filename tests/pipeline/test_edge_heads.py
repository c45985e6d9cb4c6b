"""Hostile request heads, byte for byte."""

import socket
from contextlib import suppress
from http.client import HTTPResponse

import httpx
import pytest

from ops.children import Child
from tests.looplag import measure

from .conftest import wait_until

_KIB = 1024
HOST = b"Host: x\r\n"
CHUNKED = b"POST /ingest/packets HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n"


def get(*lines: bytes, path: bytes = b"/health", version: bytes = b"1.1") -> bytes:
    head = (b"GET ", path, b" HTTP/", version, b"\r\n", *(line + b"\r\n" for line in lines))
    return b"".join(head) + b"\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"POST /ingest/packets HTTP/1.1\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + body


HOSTILE = {
    "CONNECT": (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
    "CONNECT with more behind": (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n" + b"x" * 65_000, 405),
    "CONNECT with an upgrade": (
        b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        405,
    ),
    "head of 80 KiB in one read": (get(b"Host: x", b"X: " + b"a" * 80 * _KIB), 431),
    "head of 80 KiB of blanks": (get(b"Host: x", b"X:" + b" " * 80 * _KIB + b"a"), 431),
    "head of 240 KiB": (get(b"Host: x", b"X: " + b"a" * 240 * _KIB), 431),
    "101 headers": (get(b"Host: x", *[b"a: b"] * 100), 431),
    "20 000 headers": (get(b"Host: x", *[b"a:"] * 20_000), 431),
    "long target": (get(b"Host: x", path=b"/" + b"%41" * 4000), 414),
    "target of escapes": (get(b"Host: x", path=b"/" + b"%41" * 2700), 404),
    "no Host": (get(), 400),
    "Host twice": (get(b"Host: x", b"Host: x"), 400),
    "coding gzip, chunked": (post(b"Host: x", b"Transfer-Encoding: gzip, chunked"), 501),
    "coding identity": (post(b"Host: x", b"Transfer-Encoding: identity"), 501),
    "coding chunked, chunked": (post(b"Host: x", b"Transfer-Encoding: chunked, chunked"), 400),
    "coding twice": (
        post(b"Host: x", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        400,
    ),
    "coding and length": (
        post(b"Host: x", b"Transfer-Encoding: chunked", b"Content-Length: 3", body=b"abc"),
        400,
    ),
    "length and coding": (
        post(b"Host: x", b"Content-Length: 3", b"Transfer-Encoding: chunked", body=b"abc"),
        400,
    ),
    "two lengths": (post(b"Host: x", b"Content-Length: 3", b"Content-Length: 4"), 400),
    "length is a list": (post(b"Host: x", b"Content-Length: 3, 4"), 400),
    "length with a sign": (post(b"Host: x", b"Content-Length: +3"), 400),
    "HTTP/1.0 chunked": (b"POST /health HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "HTTP/2.0": (get(b"Host: x", version=b"2.0"), 505),
    "HTTP/0.9": (b"GET /health\r\n\r\n", 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "folded header": (get(b"Host: x", b"X: a\r\n b"), 400),
    "NUL in a header": (get(b"Host: x", b"X: a\0b"), 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 200, 400),
    "broken chunk": (CHUNKED + b"\r\nzz\r\n", 400),
    "length in the trailers": (CHUNKED + b"\r\n1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n", 400),
    "200 trailers": (CHUNKED + b"\r\n1\r\na\r\n0\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
    "20 000 chunks": (CHUNKED + b"\r\n" + b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n", 400),
    "9 000 requests at once": (get(b"Host: x") * 9_000, 200),
    "3 000 upgrades at once": (
        get(b"Host: x", b"Connection: upgrade", b"Upgrade: h2c") * 3_000,
        200,
    ),
}
"""Name -> (bytes to send, status of the first response)."""


def talk(port: int, content: bytes) -> bytes:
    """Everything received until the edge closes the connection, or 2 s pass without data."""
    with socket.create_connection(("127.0.0.1", port), 30) as peer:
        got = b""
        with suppress(OSError):  # it may have been refused before its end
            peer.sendall(content)
        peer.settimeout(2)
        with suppress(TimeoutError, ConnectionResetError):
            while more := peer.recv(65_536):
                got += more
    return got


def answer(peer: socket.socket) -> int:
    """The status of the next response."""
    response = HTTPResponse(peer)
    response.begin()
    response.read()
    return response.status


@pytest.fixture
def edge(pipeline) -> Child:
    return pipeline.start_edge()


def test_each_hostile_head_gets_one_response_and_one_log_line(pipeline, edge):
    for name, (content, status) in HOSTILE.items():
        got = talk(pipeline.port, content)
        assert got[:12] == b"HTTP/1.1 %d" % status, (name, got[:300])
        if status >= 400:
            assert got.count(b"\r\ncontent-length:") == 1, name
            assert b"application/problem+json" in got, name
            assert b"connection: close" in got or status == 404, name
    log = (pipeline.folder / "edge.log").read_text()
    assert len([line for line in log.splitlines() if '"refused"' in line]) <= len(HOSTILE)
    assert len(log) < 20_000
    assert "Traceback" not in log
    assert httpx.get(f"{pipeline.url}/health").status_code == 200


def test_no_hostile_head_costs_more_than_5_ms_of_event_loop(pipeline):
    pipeline.start_edge(module=("tests.looplag", "ingest_edge.api", "ingest_edge.refusals"))
    lags = {
        name: measure(pipeline.url, lambda content=content: talk(pipeline.port, content))
        for name, (content, _) in HOSTILE.items()
    }
    for name, lag in lags.items():
        print(f"{lag.longest_ms:6.2f} ms longest {lag.total_ms:6.2f} ms total  {name}")
    assert not {name: lag for name, lag in lags.items() if lag.longest_ms > 5}


def test_trailers_do_not_become_headers_of_this_request_or_the_next(pipeline):
    pipeline.register()
    pipeline.start_edge(INGEST_API_KEY="t0ken")
    trailers = b"1\r\na\r\n0\r\nX-API-Key: t0ken\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    following = post(b"Host: x", b"Content-Length: 1", body=b"a")
    got = talk(pipeline.port, CHUNKED + b"\r\n" + trailers + following)
    assert got.count(b"HTTP/1.1 401") == 2, got


def test_a_request_is_answered_in_every_form_that_http_allows(pipeline, edge):
    for content in (
        get(b"Host: x"),
        get(b"Host:"),
        get(b"Connection: keep-alive", version=b"1.0"),
        get(version=b"1.0"),
        get(b"Host: x", path=b"http://a.b:81/health?x=1"),
        b"\r\n" + get(b"Host: x"),
        get(b"Host: x", b"Connection: upgrade", b"Upgrade: websocket", version=b"1.0"),
        get(b"Host: x", b"X: " + b"a" * 65_000),
        get(b"Host: x", *[b"a: b"] * 99),
        CHUNKED.replace(b"/ingest/packets", b"/health").replace(b"POST", b"GET") + b"\r\n0\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", pipeline.port), 30) as peer:
            peer.sendall(content)
            assert answer(peer) == 200, content[:100]
    with socket.create_connection(("127.0.0.1", pipeline.port), 30) as peer:
        peer.sendall(get(b"Host: x", path=b"http://a.b"))
        assert answer(peer) == 404


def test_an_http_1_0_client_is_answered_and_the_connection_closed(pipeline, edge):
    with socket.create_connection(("127.0.0.1", pipeline.port), 30) as peer:
        peer.sendall(get(version=b"1.0"))
        while peer.recv(65_536):
            pass  # the timeout would raise


def test_32_requests_may_wait_and_all_are_answered_in_order(pipeline, edge):
    paths = [b"/health", b"/nothing"] * 16
    sent = b"".join(get(b"Host: x", path=path) for path in paths)
    got = talk(pipeline.port, sent)
    assert [int(part[:3]) for part in got.split(b"HTTP/1.1 ")[1:]] == [200, 404] * 16


def test_a_body_that_breaks_is_answered_at_once(pipeline, edge):
    got = talk(pipeline.port, CHUNKED + b"\r\n1\r\na\r\nzz\r\n")
    assert got.startswith(b"HTTP/1.1 400")
    counted = 'requests_total{path="/ingest/packets",status="400"} 1.0'
    wait_until(lambda: counted in httpx.get(f"{pipeline.url}/metrics").text)


def test_a_connection_above_the_limit_is_answered_503_and_open_ones_stay(pipeline):
    pipeline.start_edge(HTTP_MAX_CONNECTIONS="3")
    wait_until(lambda: httpx.get(f"{pipeline.url}/health").status_code == 200)
    address = ("127.0.0.1", pipeline.port)
    peers = [socket.create_connection(address, 30) for _ in range(3)]
    try:
        for peer in peers:
            peer.sendall(get(b"Host: x"))
            assert answer(peer) == 200
        refused = talk(pipeline.port, b"")
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 5" in refused
        peers[0].sendall(get(b"Host: x"))
        assert answer(peers[0]) == 200
        peers.pop().close()
        wait_until(lambda: talk(pipeline.port, get(b"Host: x")).startswith(b"HTTP/1.1 200"))
    finally:
        for peer in peers:
            peer.close()


def test_an_idle_connection_is_kept_for_the_configured_time(pipeline):
    pipeline.start_edge(HTTP_KEEP_ALIVE_SECONDS="2")
    with socket.create_connection(("127.0.0.1", pipeline.port), 60) as peer:
        for _ in range(2):
            peer.sendall(get(b"Host: x"))
            assert answer(peer) == 200
        assert peer.recv(65_536) == b""


def test_a_silent_connection_and_a_body_that_outlives_its_response_are_closed(pipeline, edge):
    address = ("127.0.0.1", pipeline.port)
    with (
        socket.create_connection(address, 60) as silent,
        socket.create_connection(address, 60) as outliving,
    ):
        outliving.sendall(get(b"Host: x", b"Content-Length: 1000"))
        assert answer(outliving) == 200
        assert answer(silent) == 408
        assert silent.recv(65_536) == outliving.recv(65_536) == b""
