"""The prediction service over a million readings, and one batch run over a fleet; on SQLite."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, sleep, time
from typing import Any

import numpy as np
from sklearn.ensemble import IsolationForest  # type: ignore[import-untyped]

from bench.http_load import request, run_load
from contract.errors import SetupError
from contract.settings import Settings, child_environment
from ml.batch import run_once
from ml.predict.forecast import POINTS
from ml.predict.store import newest_readings
from ops.children import Children
from sinks.times import as_text
from sql.schema import apply_schema, open_database

CONNECTIONS = (1, 8)
_TYPES = ("temperature", "humidity", "air_quality", "voltage", "power")
_SENSORS_A_DEVICE = 10
_AHEAD_MS = 240_000
"""The readings end so far ahead of now that every forecast is ahead while the load runs."""
_START_S = 20.0
_ALONE = 20
"""Number of sensors for which a separate forest is fitted, to measure its cost."""
_DEDUPE_MINUTES = 10


@dataclass(frozen=True, slots=True)
class Result:
    """`*_ratio`: how many times faster than one forest per sensor."""

    figures: dict[str, Any] = field(default_factory=dict)
    rows: list[tuple[str, str]] = field(default_factory=list)
    """(what, value)"""


def run(sensors: int, seconds: float, progress: Callable[[str], None]) -> Result:
    """Request forecasts of 1000 sensors with 1000 readings each, for `seconds` per number of
    connections; then predict `sensors` sensors with 500 readings each in one batch.

    Raises:
        SetupError: the service ended, or a response was not the expected one.
    """
    result = Result()
    with TemporaryDirectory(prefix="bench-") as folder:
        _service(Path(folder), seconds, progress, result)
        _batch(Path(folder), sensors, progress, result)
    return result


def _service(folder: Path, seconds: float, progress: Callable[[str], None], result: Result) -> None:
    settings = Settings(db_engine="sqlite", iot_sqlite_path=folder / "service.db")
    progress("filling a database with 1,000,000 readings")
    _fill(settings, 1000, 1000)
    with _server(settings, folder) as port:
        for connections in CONNECTIONS:
            run_load(port, _requests, connections=connections, seconds=1.0)  # warms up
            load = run_load(port, _requests, connections=connections, seconds=seconds)
            if set(load.statuses) != {200}:
                raise SetupError(f"unexpected responses {dict(load.statuses)}")
            p50, p99 = load.percentile_ms(50), load.percentile_ms(99)
            result.figures.update(
                {
                    f"predict_per_s_{connections}": round(load.rate),
                    f"predict_p50_ms_{connections}": round(p50, 2),
                    f"predict_p99_ms_{connections}": round(p99, 2),
                }
            )
            result.rows.append(
                (
                    f"POST /ml/predict, {connections} connections",
                    f"{load.rate:,.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms",
                )
            )


def _batch(folder: Path, sensors: int, progress: Callable[[str], None], result: Result) -> None:
    settings = Settings(db_engine="sqlite", iot_sqlite_path=folder / "batch.db")
    progress(f"filling a database with {sensors * POINTS:,} readings")
    _fill(settings, sensors, POINTS)
    with open_database(settings) as database:
        summary = run_once(database, settings, _DEDUPE_MINUTES)
        if summary.predicted != sensors:
            raise SetupError(f"not all sensors were predicted: {summary}")
        again = run_once(database, settings, _DEDUPE_MINUTES)
        readings = newest_readings(database, range(1, _ALONE + 1), POINTS)
    began = perf_counter()
    for value in readings.value:
        forest = IsolationForest(n_estimators=100, random_state=42)
        forest.fit(value[:, None]).score_samples(value[:, None])
    alone = (perf_counter() - began) / len(readings.value) * sensors
    result.figures.update(
        {
            "batch_sensors": sensors,
            "batch_s": round(summary.seconds, 1),
            "batch_nothing_new_s": round(again.seconds, 2),
            "forest_a_sensor_s": round(alone),
            "batch_ratio": round(alone / summary.seconds, 1),
        }
    )
    result.rows.extend(
        [
            (f"batch, {sensors:,} sensors x {POINTS} readings", f"{summary.seconds:.1f} s"),
            ("again, with nothing new", f"{again.seconds:.2f} s"),
            ("one forest per sensor, estimated", f"{alone:,.0f} s"),
        ]
    )


def _fill(settings: Settings, sensors: int, points: int) -> None:
    """Insert sensors of five types, every second one with a threshold; one reading every 10 s."""
    apply_schema(settings)
    with open_database(settings) as database:
        connection = database._connection
        random = np.random.default_rng(1)
        numbers = range(1, sensors + 1)
        devices = range(1, -(-sensors // _SENSORS_A_DEVICE) + 1)
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO devices (id, device_uuid, name, device_type) VALUES (?, ?, ?, 'gateway')",
            [(number, f"d{number}", f"device {number}") for number in devices],
        )
        connection.executemany(
            "INSERT INTO sensors (id, device_id, sensor_uuid, sensor_type, name, unit)"
            " VALUES (?, ?, ?, ?, ?, 'u')",
            [
                (n, -(-n // _SENSORS_A_DEVICE), f"s{n}", _TYPES[n % 5], f"sensor {n}")
                for n in numbers
            ],
        )
        connection.executemany(
            "INSERT INTO alert_thresholds (sensor_id, name, condition_type, threshold_value_min,"
            " threshold_value_max, severity)"
            " VALUES (?, 'range', 'out_of_range', 10, 30, 'warning')",
            [(number,) for number in numbers[::2]],
        )
        last = int(time() * 1000) + _AHEAD_MS
        for at in as_text(last - np.arange(points)[::-1] * 10_000).tolist():
            values = random.normal(20, 2, sensors).round(3).tolist()
            connection.executemany(
                "INSERT INTO sensor_readings (sensor_id, value, timestamp, event_timestamp, seq)"
                " VALUES (?, ?, ?, ?, 0)",
                [(number, value, at, at) for number, value in zip(numbers, values, strict=True)],
            )
        connection.execute("COMMIT")


def _requests(connection: int) -> Iterator[bytes]:
    """Requests with random sensors and horizons, so that each one writes."""
    random = Random(connection)
    while True:
        body = (
            f'{{"sensor_id":{random.randint(1, 1000)},"horizon_minutes":{random.randint(1, 99)}}}'
        )
        yield request("POST", "/ml/predict", body.encode())


@contextmanager
def _server(settings: Settings, folder: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    env = child_environment(
        {"IOT_SQLITE_PATH": str(settings.iot_sqlite_path), "AUTO_CREATE_MODEL": "true"}
    )
    with Children(folder) as children:
        children.start("ml", "ml.service", "--port", str(port), env=env)
        end = monotonic() + _START_S
        while True:
            children.check()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError as error:
                if monotonic() > end:
                    raise SetupError(f"nothing listens on port {port}") from error
                sleep(0.1)
        yield port
