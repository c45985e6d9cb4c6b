"""The edge as several processes on one port."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event

import httpx
import pytest

from contract.settings import child_environment

from .conftest import wait_until
from .test_edge import body
from .test_pipeline import records

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def workers(parent: int) -> set[int]:
    return set(map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()))


def metrics(pipeline) -> dict[str, float]:
    lines = httpx.get(f"{pipeline.url}/metrics", timeout=20).text.splitlines()
    pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in pairs}


def metrics_folder(worker: int) -> Path:
    environment = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    (folder,) = [
        variable for variable in environment if variable.startswith(b"PROMETHEUS_MULTIPROC_DIR=")
    ]
    return Path(folder.partition(b"=")[2].decode())


@LINUX
def test_metrics_of_workers_add_up_even_if_one_was_killed_and_replaced(pipeline):
    rig = pipeline.register()
    edge = pipeline.start_edge("--workers", "2")
    wait_until(lambda: len(workers(edge.process.pid)) == 2)
    before = workers(edge.process.pid)
    folder = metrics_folder(min(before))
    assert folder.stat().st_mode & 0o777 == 0o700

    def post(count):
        with ThreadPoolExecutor(8) as pool:  # a connection each
            done = list(pool.map(lambda n: pipeline.post(body(rig, n)).status_code, range(count)))
        assert done == [202] * count

    post(60)
    assert metrics(pipeline)["iot_edge_readings_accepted_total"] == 60
    os.kill(min(before), signal.SIGKILL)
    wait_until(lambda: len(workers(edge.process.pid) - before) == 1)
    wait_until(lambda: len([x for x in pipeline.log("edge") if x["event"] == "worker ready"]) == 3)
    post(40)
    samples = metrics(pipeline)
    assert samples["iot_edge_readings_accepted_total"] == 100
    assert samples["iot_edge_packets_in_flight"] == samples["iot_edge_queue_fill_ratio"] == 0
    assert samples["iot_edge_broker_up"] == 1
    assert samples["process_resident_memory_bytes"] > 2**20
    assert samples["process_cpu_seconds_total"] > 0
    assert not [name for name in samples if "pid=" in name]
    (ended,) = [line for line in pipeline.log("edge") if line["event"].startswith("worker ended")]
    assert ended["how"] == "died of SIGKILL"
    edge.process.send_signal(signal.SIGTERM)
    assert edge.process.wait(60) == 0
    assert not folder.exists()


@LINUX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_requests_in_flight_in_every_worker(pipeline, brokers, number):
    rig, edge = pipeline.register(), pipeline.start_edge("--workers", "2")
    wait_until(lambda: len(workers(edge.process.pid)) == 2)
    pids = workers(edge.process.pid)
    answers, stopped = [], Event()

    def post(value):
        while not stopped.is_set():
            with suppress(httpx.TransportError):  # refused at the door: nothing is promised
                answers.append(pipeline.post(body(rig, value)).status_code)

    with ThreadPoolExecutor(4) as pool:
        for value in range(4):
            pool.submit(post, value)
        wait_until(lambda: len(answers) > 100)
        edge.process.send_signal(number)
        code = edge.process.wait(60)
        stopped.set()
    assert code == 0
    assert set(answers) == {202}
    assert len(records(brokers, pipeline.topic)) >= len(answers)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in (pipeline.folder / "edge.log").read_text()


@LINUX
def test_workers_end_when_their_parent_was_killed(pipeline):
    edge = pipeline.start_edge("--workers", "2")
    wait_until(lambda: len(workers(edge.process.pid)) == 2)
    pids = workers(edge.process.pid)
    pipeline.kill(edge)
    wait_until(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()])


@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        ({"KAFKA_TOPIC": "a topic"}, 78, "KAFKA_TOPIC"),
        ({"IOT_SQLITE_PATH": "/nowhere/iot.db"}, 78, "the folder /nowhere does not exist"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, 1, "no Kafka broker answers"),
        ({"HTTP_TLS_KEY": "/nowhere"}, 78, "HTTP_TLS_CERTIFICATE is not set"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("count", ["1", "3"])
def test_an_error_that_stops_workers_from_starting_is_reported_once(
    pipeline, count, values, code, words
):
    finished = start(pipeline, "--workers", count, **values)
    assert finished.returncode == code, finished.stderr
    assert finished.stderr.count(words) == 1, finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_taken_port_is_reported_once_before_any_worker_starts(pipeline):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", pipeline.port))
        taken.listen()
        finished = start(pipeline, "--workers", "3")
    assert finished.returncode == 78
    (line,) = finished.stderr.splitlines()
    assert "address already in use" in line


def start(pipeline, *options, **values):
    return subprocess.run(
        [sys.executable, "-m", "ingest_edge", "--port", str(pipeline.port), *options],
        env=child_environment(pipeline.values | values),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
