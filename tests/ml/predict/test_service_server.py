"""`python -m ml.service`: the prediction service has the edge's HTTP server and its limits."""

import signal
import socket

import httpx
import pytest

from contract.settings import child_environment
from ops.children import Children
from tests.databases import environment_of
from tests.pipeline.conftest import wait_until
from tests.pipeline.test_edge_heads import HOSTILE, talk
from tests.ports import free_ports

NAMES = (
    "CONNECT", "head of 80 KiB in one read", "101 headers", "long target", "no Host", "Host twice",
    "coding identity", "coding and length", "HTTP/2.0", "9 000 requests at once",
)  # fmt: skip


@pytest.fixture
def service(place, tmp_path):
    port = free_ports()
    with Children(tmp_path) as children:
        child = children.start(
            "ml",
            "ml.service",
            "--port",
            str(port),
            env=child_environment(environment_of(place.settings)),
        )

        def listens() -> bool:
            children.check()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(listens)
        yield port, child


def test_it_refuses_what_the_edge_refuses_and_shuts_down_cleanly(service):
    port, child = service
    for name in NAMES:
        content, status = HOSTILE[name]
        got = talk(port, content)
        assert got[:12] == b"HTTP/1.1 %d" % status, (name, got[:300])
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'iot_predict_requests_total{status="431"} 2.0' in text
    child.process.send_signal(signal.SIGTERM)
    assert child.process.wait(60) == 0


def test_a_body_that_does_not_arrive_is_answered_with_408(service):
    port, _ = service
    head = b"POST /ml/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", port), 60) as peer:
        peer.sendall(head)
        got = b""
        while more := peer.recv(65_536):
            got += more
    assert got.startswith(b"HTTP/1.1 408")
    assert b"application/problem+json" in got
