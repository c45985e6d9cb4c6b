"""The devices of the matrix and the faults."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from subprocess import run
from threading import Thread

import pytest

from contract.settings import child_environment

REFUSED = 3


class Edge(BaseHTTPRequestHandler):
    """Refuses the first packets, like an edge whose broker is down."""

    asked = count(1)

    def do_GET(self):
        self._answer(200, {})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if next(self.asked) <= REFUSED:
            self._answer(503, {"detail": "not now", "reason": "broker_away"})
        else:
            self._answer(202, {"accepted": 1, "unknown_sensors": []})

    def _answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Edge)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_devices_print_nothing_while_they_retry(tmp_path, url):
    packet = {"packet_id": "a", "readings": [{}]}
    (tmp_path / "posts.json").write_text(json.dumps([[packet]]))
    arguments = (url, str(tmp_path / "posts.json"), str(tmp_path / "acknowledged"), "0")
    ended = run(
        [sys.executable, "-m", "tests.chaos.client", *arguments],
        env=child_environment({}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    assert (tmp_path / "acknowledged").read_text() == "a\n"
