"""Hostile requests beside devices that post: what the devices notice of them.

Devices post at a steady rate in this process; hostile heads and bodies come from another one, four
at a time, so that making them costs the devices' clock nothing. The devices are timed without them
first: what the machine itself adds is in both figures.
"""

import random
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from json import dumps, loads
from pathlib import Path
from socket import create_connection
from threading import Event, Thread
from time import monotonic
from typing import Any

from bench.http_load import Load, run_load
from contract.settings import child_environment
from ops.children import Children
from tests.pipeline.conftest import Pipeline
from tests.pipeline.test_edge_faults import packets
from tests.pipeline.test_edge_fuzz import hostile
from tests.pipeline.test_edge_heads import HOSTILE

CONNECTIONS, INTERVAL_S = 20, 0.2
_ALONE_S = 10.0
_AT_ONCE = 4
_ANSWER_S = 60.0


def fire(requests: int, folder: Path) -> dict[str, Any]:
    """Figures of hostile requests, half of them heads, and of the devices beside them."""
    with Children(folder) as children:
        broker = children.start("broker", "ops.broker", env=child_environment({}))
        assert broker.process.stdout is not None
        pipeline = Pipeline(folder, broker.process.stdout.readline().strip(), children, "fire")
        rig, edge = pipeline.register(), pipeline.start_edge()
        post_for(pipeline, rig, 2.0)  # warms up
        alone = post_for(pipeline, rig, _ALONE_S)
        command = [sys.executable, "-m", "tests.chaos.fire", str(pipeline.port), str(requests)]
        device = [rig.uuid, rig.sensors["pump"]]
        began = monotonic()
        with subprocess.Popen([*command, *device], stdout=subprocess.PIPE, text=True) as sender:
            ended = Event()
            loads_beside: list[Load] = []

            def post() -> None:
                while not ended.is_set():
                    loads_beside.append(post_for(pipeline, rig, 2.0))

            thread = Thread(target=post)
            thread.start()
            said, _ = sender.communicate()
            took = monotonic() - began
            ended.set()
            thread.join()
        pipeline.database.close()
        assert edge.process.poll() is None, "the edge has ended"
        beside = Load(took, [answer for load in loads_beside for answer in load.answers])
        return {
            "hostile_requests": requests,
            "seconds": round(took, 1),
            "hostile_answers": loads(said),
            "posted_beside": len(beside.answers),
            "refused_beside": len(beside.answers) - beside.statuses[202],
            "alone_p50_ms": round(alone.percentile_ms(50), 1),
            "alone_p99_ms": round(alone.percentile_ms(99), 1),
            "beside_p50_ms": round(beside.percentile_ms(50), 1),
            "beside_p99_ms": round(beside.percentile_ms(99), 1),
            "log_bytes": (folder / "edge.log").stat().st_size,
        }


def post_for(pipeline: Pipeline, rig: Any, seconds: float) -> Load:
    """Packets of 5 readings, 100 a second in all."""
    return run_load(
        pipeline.port, lambda number: packets(rig, f"{number}-{monotonic()}"),
        connections=CONNECTIONS, seconds=seconds, interval_s=INTERVAL_S,
    )  # fmt: skip


def send(port: int, requests: int, device: str, sensor: str) -> Counter[str]:
    """Send hostile requests, and count the statuses of their first answers."""
    chosen, bodies = random.Random(1), hostile(device, sensor)
    cases = []
    for _ in range(requests // 2):
        _, body, headers = next(bodies)
        head = "POST /ingest/packets HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += "".join(f"{header}\r\n" for header in headers)
        cases.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    heads = [content for content, _ in HOSTILE.values()]
    cases += chosen.choices(heads, k=requests - len(cases))
    chosen.shuffle(cases)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return Counter(pool.map(lambda content: _first_answer(port, content), cases))


def _first_answer(port: int, content: bytes) -> str:
    with create_connection(("127.0.0.1", port), _ANSWER_S) as peer:
        with suppress(OSError):  # it may be refused before its end
            peer.sendall(content)
        try:
            return peer.recv(65_536)[9:12].decode() or "none"
        except ConnectionResetError:
            return "reset"


if __name__ == "__main__":
    print(dumps(send(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])))
