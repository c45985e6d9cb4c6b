"""The edge with broker acknowledgement, against a bare FastAPI hello on the same kind of worker."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, repeat
from json import dumps
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from uuid import UUID

from bench.http_load import Load, request, run_load
from contract.errors import SetupError
from contract.settings import child_environment, kafka_environment, load_settings
from ops.children import Children
from sql.database import Database
from sql.schema import apply_schema, open_database

CONNECTIONS = 64
SIZES = (1, 20, 100)
"""Readings per packet."""
_DEVICES = 16
_PACKETS = 16
"""Number of different packets that a connection cycles through."""
_START_S = 20.0


@dataclass(frozen=True, slots=True)
class Result:
    """Medians over the rounds. `ratio_*`: median of the rounds' edge / hello, in requests."""

    figures: dict[str, float]
    rows: list[tuple[str, float, float, float, float]]
    """(what, requests/s, readings/s, p50 ms, p99 ms)"""


def run(rounds: int, seconds: float) -> Result:
    """Measure hello and each packet size in turn, `rounds` times.

    Raises:
        SetupError: a process ended, or a response was not the expected one.
    """
    with _servers() as (hello_port, edge_port):
        loads: dict[str, list[Load]] = {}
        plans = {"hello": (hello_port, 200, _hello)} | {
            f"edge {size}": (edge_port, 202, _packets(size)) for size in SIZES
        }
        plans["edge 20 dated"] = (edge_port, 202, _packets(20, dated=True))
        for number in range(-1, rounds):
            for name, (port, status, requests) in plans.items():
                took = seconds if number >= 0 else 1.0  # the first round warms up
                load = run_load(port, requests, connections=CONNECTIONS, seconds=took)
                if set(load.statuses) != {status}:
                    raise SetupError(f"{name}: unexpected responses {dict(load.statuses)}")
                if number >= 0:
                    loads.setdefault(name, []).append(load)
    return _result(loads)


def _result(loads: dict[str, list[Load]]) -> Result:
    figures: dict[str, float] = {}
    rows = []
    for name, of_name in loads.items():
        rate = median(load.rate for load in of_name)
        p50, p99 = (median(load.percentile_ms(p) for load in of_name) for p in (50, 99))
        size = int(name.split()[1]) if name != "hello" else 0
        rows.append((name, rate, rate * size, p50, p99))
        if name == "hello":
            figures["hello_rps"] = round(rate)
            continue
        key = name.removeprefix("edge ").replace(" ", "_")
        pairs = zip(of_name, loads["hello"], strict=True)
        figures[f"edge_rps_{key}"] = round(rate)
        figures[f"readings_per_s_{key}"] = round(rate * size)
        figures[f"p50_ms_{key}"] = round(p50, 2)
        figures[f"p99_ms_{key}"] = round(p99, 2)
        figures[f"ratio_{key}"] = round(median(edge.rate / hello.rate for edge, hello in pairs), 3)
    return Result(figures, rows)


def _hello(connection: int) -> Iterator[bytes]:
    return repeat(request("GET", "/"))


def _packets(size: int, *, dated: bool = False) -> Callable[[int], Iterator[bytes]]:
    """Packets with `size` sensors; each connection sends those of one device."""

    def packets(connection: int) -> Iterator[bytes]:
        device, random = connection % _DEVICES, Random(connection)
        requests = []
        for second in range(_PACKETS):
            readings = [
                {"sensor_uuid": _uuid(device, sensor), "value": round(random.gauss(20, 5), 3)}
                | ({"ts": f"2026-01-01T00:00:{second:02}.{connection:03}Z"} if dated else {})
                for sensor in range(size)
            ]
            body = dumps({"device_uuid": _uuid(device, 999), "readings": readings})
            requests.append(request("POST", "/ingest/packets", body.encode()))
        return cycle(requests)

    return packets


def _uuid(device: int, number: int) -> str:
    return str(UUID(int=(0xBE << 100) + (device << 16) + number))


@contextmanager
def _servers() -> Iterator[tuple[int, int]]:
    """A hello and an edge, each with one worker. The broker is the in-memory one, unless
    `KAFKA_BOOTSTRAP_SERVERS` is set.
    """
    given = load_settings()
    with TemporaryDirectory(prefix="bench-") as name, Children(Path(name)) as children:
        brokers = given.kafka_bootstrap_servers
        if brokers is None:
            broker = children.start("broker", "ops.broker", env=child_environment({}))
            assert broker.process.stdout is not None
            brokers = broker.process.stdout.readline().strip()
        values = kafka_environment(given) | {
            "KAFKA_BOOTSTRAP_SERVERS": brokers,
            "KAFKA_TOPIC": f"bench.{Path(name).name}",
            "IOT_SQLITE_PATH": str(Path(name) / "iot.db"),
        }
        settings = load_settings(
            db_engine="sqlite", iot_sqlite_path=Path(name) / "iot.db", ingest_api_key=None
        )
        apply_schema(settings)
        with open_database(settings) as database:
            _register(database)
        hello_port, edge_port = _free_port(), _free_port()
        env = child_environment(values)
        options = ("--port", str(hello_port), "--no-access-log", "--log-level", "warning")
        children.start("hello", "uvicorn", "bench.hello:app", *options, env=env)
        children.start("edge", "ingest_edge", "--port", str(edge_port), env=env)
        for port in (hello_port, edge_port):
            _wait_open(port, children)
        yield hello_port, edge_port


def _register(database: Database) -> None:
    for device in range(_DEVICES):
        uuid = _uuid(device, 999)
        database.execute("add_device", uuid, f"bench {device}", "gateway")
        for sensor in range(max(SIZES)):
            sensor_uuid = _uuid(device, sensor)
            database.execute("add_sensor", uuid, sensor_uuid, "other", f"s{sensor}", "")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_open(port: int, children: Children) -> None:
    end = monotonic() + _START_S
    while True:
        children.check()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError as error:
            if monotonic() > end:
                raise SetupError(f"nothing listens on port {port}") from error
            sleep(0.1)
        else:
            return
