"""The readings sink against plain inserts into the same table."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.resources import files
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from uuid import uuid4

import numpy as np

from bench.meter import WARM_UP
from contract.columns import PacketColumns, ReadingColumns, RecordColumns, taken
from contract.settings import Settings, load_settings
from ops.devices import SensorSpec, register
from sinks.readings import reading_rows, readings_sink
from sinks.writer import Row
from sql.database import Database, engine_module
from sql.schema import apply_schema, open_database

BATCHES = (100, 1_000, 5_000, 20_000)
FULL = {"sqlite": 2_000_000, "mssql": 10_000_000}
"""Number of rows in a full table."""
SHARE = {"sqlite": 1.0, "mssql": 0.25}
"""Share of the requested readings that is used."""
_DEVICES = 200
_SENSORS_A_DEVICE = 10
_SENSORS = _DEVICES * _SENSORS_A_DEVICE
_MEAN, _DEVIATION = 20.0, 2.0
_FAR = 3.3
"""Distance of a bound from the mean, in standard deviations: one reading in a thousand crosses
it, on half of the sensors."""
_START = datetime(2024, 11, 24, 10, tzinfo=UTC)
_INSERT = (
    "INSERT INTO sensor_readings"
    " (sensor_id, value, timestamp, device_timestamp, event_timestamp, seq)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
_TRIGGER = "TRIGGER dbo.tr_sensor_readings_thresholds ON dbo.sensor_readings"


@dataclass(frozen=True, slots=True)
class Result:
    """Medians over the rounds; a ratio is the median of the rounds' sink / bare."""

    figures: dict[str, Any] = field(default_factory=dict)
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    """(what, rows/s, rounds, / bare)"""


def run(rounds: int, readings: int, progress: Callable[[str], None], *, full: bool) -> Result:
    """Measure SQLite, and the SQL Server at `DB_HOST` if it is set. With `full`, also measure a
    table that already has millions of rows.

    Raises:
        IotError: by blame, see `Database`.
    """
    result = Result()
    given = load_settings()
    with TemporaryDirectory() as folder:
        file = Settings(db_engine="sqlite", iot_sqlite_path=Path(folder) / "iot.db")
        with _Bench(file, rounds, readings, progress) as bench:
            bench.measure(result, full=full)
    if given.engine == "mssql":
        name = f"iot_bench_{uuid4().hex[:8]}"
        with _Bench(
            given.model_copy(update={"db_name": name}), rounds, readings, progress
        ) as bench:
            bench.measure(result, full=full)
    else:
        progress("SQL Server is not measured: set DB_HOST and DB_PASSWORD to include it")
        names = [name.replace("sqlite", "mssql") for name in result.figures]
        result.figures.update(dict.fromkeys(names))
    return result


class _Bench:
    """A new database with sensors, every second one with a threshold, and the readings to write."""

    def __init__(
        self, settings: Settings, rounds: int, readings: int, progress: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._rounds = rounds
        self._progress = progress
        self._pieces = list(_pieces(int(readings * SHARE[settings.engine])))
        self._rows = [
            _plain(settings.engine, row) for piece in self._pieces for row in reading_rows(piece)
        ]

    def __enter__(self) -> "_Bench":
        apply_schema(self._settings)
        self._database = open_database(self._settings)
        self._progress(f"{self._settings.engine}: registering {_SENSORS} sensors")
        far = _FAR * _DEVIATION
        bound = {"warning": (_MEAN - far, _MEAN + far)}
        for device in range(_DEVICES):
            specs = [
                SensorSpec(f"s{number}", "other", "u", bound if number % 2 else {})
                for number in range(_SENSORS_A_DEVICE)
            ]
            register(self._database, f"device {device:03d}", specs)
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        if self._settings.engine == "mssql":
            master = Database(self._settings.model_copy(update={"db_name": "master"}))
            master._connection.execute(f"DROP DATABASE {self._settings.db_name}")
            master.close()

    def measure(self, result: Result, *, full: bool) -> None:
        engine = self._settings.engine
        parts = len(readings_sink(self._settings).list_parts())
        sink = partial(self._sink, parts=parts)
        plan: dict[str, Callable[[], float]] = {"bare": self._bare, "sink": sink}
        if parts > 1:
            plan["one_connection"] = self._sink
        plan |= {f"batch_{size}": partial(self._sink, size) for size in BATCHES}
        self._take(plan, "", result)
        if full:
            self._progress(f"{engine}: filling the table with {FULL[engine]:,} rows")
            self._fill()
            self._take({"bare": self._bare, "sink": sink}, "full_", result)

    def _take(self, plan: dict[str, Callable[[], float]], prefix: str, result: Result) -> None:
        """Measure the rows per second of each item of the plan, in turn, round by round."""
        engine = self._settings.engine
        seen: dict[str, list[float]] = {name: [] for name in plan}
        for number in range(self._rounds):
            for name, work in plan.items():
                self._clean()
                seen[name].append(work())
                self._progress(
                    f"{engine} {prefix}{name}, round {number + 1}: {seen[name][-1]:,.0f}"
                )
        for name, rates in seen.items():
            ratio = median(rate / bare for rate, bare in zip(rates, seen["bare"], strict=True))
            label = f"{engine}_{prefix}{name}_".replace("sink_", "")
            result.figures[f"{label}rows_per_s"] = round(median(rates))
            if name != "bare":
                result.figures[f"{label}ratio"] = round(ratio, 3)
            spread = f"{min(rates):,.0f} - {max(rates):,.0f}"
            what = f"{engine} {prefix}{name}".replace("_", " ")
            result.rows.append((what, f"{median(rates):,.0f}", spread, f"{ratio:.2f}"))

    def _sink(self, size: int | None = None, parts: int = 1) -> float:
        """All of the sink's work, from columns to the last commit, over `parts` connections."""
        sink = replace(readings_sink(self._settings), rows_a_batch=size)
        writers = [sink.build_part("bench", str(part), None) for part in range(parts)]
        shares = [[_share(piece, part, parts) for part in range(parts)] for piece in self._pieces]

        def write(shares: Sequence[Sequence[PacketColumns]]) -> None:
            for share in shares:
                for writer, piece in zip(writers, share, strict=True):
                    writer.write_batch([piece])
            for writer in writers:
                writer.snapshot()

        rate = _rate(shares, len(self._rows), write)
        for writer in writers:
            writer.close()
        return rate

    def _bare(self) -> float:
        """`executemany`, on SQL Server with `fast_executemany`; one commit per batch."""
        with self._cursor() as cursor:

            def write(rows: Sequence[Row]) -> None:
                size = engine_module(self._settings.engine).rows_a_batch
                for first in range(0, len(rows), size):
                    cursor.execute("BEGIN TRANSACTION")
                    cursor.executemany(_INSERT, rows[first : first + size])
                    cursor.execute("COMMIT")

            return _rate(self._rows, len(self._rows), write)

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """The driver's own cursor; on SQL Server with our trigger disabled."""
        database = Database(self._settings)
        cursor = database._connection.cursor()
        server = self._settings.engine == "mssql"
        try:
            if server:
                cursor.fast_executemany = True
                cursor.execute(f"DISABLE {_TRIGGER}")
            yield cursor
        finally:
            if server:
                cursor.execute(f"ENABLE {_TRIGGER}")
            database.close()

    def _clean(self) -> None:
        """Delete all rows that the bench has written, and set all sensors past their warm-up."""
        self._database._connection.execute(
            "DELETE FROM sensor_readings WHERE event_timestamp >= ?", (_text(_START),)
        )
        for statement in (
            "DELETE FROM alert_notifications",
            "DELETE FROM alerts",
            "DELETE FROM sensor_readings_latest",
            "UPDATE sensors SET operational_state = 'NORMAL', valid_readings_count = 10",
        ):
            self._database._connection.execute(statement)

    def _fill(self) -> None:
        """Insert millions of readings, older than those of the bench."""
        self._clean()
        with self._cursor() as cursor:
            if self._settings.engine == "mssql":
                text = (files("bench") / "fill_mssql.sql").read_text(encoding="utf-8")
                for million in range(FULL["mssql"] // 1_000_000):
                    before = million * 1_000_000 // _SENSORS
                    cursor.execute(text, (_SENSORS, _START.replace(tzinfo=None), before))
                return
            for second in range(FULL["sqlite"] // _SENSORS):
                at = _text(_START - timedelta(seconds=second + 1))
                rows = [(sensor + 1, _MEAN, at, at, at, 0) for sensor in range(_SENSORS)]
                cursor.execute("BEGIN TRANSACTION")
                cursor.executemany(_INSERT, rows)
                cursor.execute("COMMIT")


def _rate(what: Sequence[Any], rows: int, write: Callable[[Sequence[Any]], None]) -> float:
    """Rows per second. The first rows, which open connections and compile plans, do not count."""
    first = int(len(what) * WARM_UP)
    write(what[:first])
    began = perf_counter()
    write(what[first:])
    return rows * (len(what) - first) / len(what) / (perf_counter() - began)


def _pieces(readings: int) -> Iterator[PacketColumns]:
    """One packet per second of each device; a piece holds the packets of all devices."""
    random = np.random.default_rng(1)
    device = np.arange(_DEVICES) + 1
    start = int(_START.timestamp()) * 1000
    for second in range(readings // _SENSORS):
        ts = np.full(_SENSORS, start + second * 1000)
        arrival = np.full(_DEVICES, start + second * 1000 + 5)
        yield PacketColumns(
            RecordColumns(
                arrival=arrival,
                partition=np.zeros(_DEVICES, np.int64),
                offset=device + second * _DEVICES,
                version=np.full(_DEVICES, 2, np.int8),
                device_id=device,
                packet_hash=device + second * _DEVICES,
                received_at=arrival * 1000,
                fresh=np.ones(_DEVICES, bool),
                count=np.full(_DEVICES, _SENSORS_A_DEVICE),
            ),
            ReadingColumns(
                sensor_id=np.arange(_SENSORS) + 1,
                ts=ts * 1000,
                device_ts=ts * 1000,
                value=random.normal(_MEAN, _DEVIATION, _SENSORS).round(3),
                seq=np.zeros(_SENSORS, np.int64),
            ),
        )


def _share(piece: PacketColumns, part: int, parts: int) -> PacketColumns:
    """The packets of the devices that belong to the writer `part`."""
    packets = piece.records.device_id % parts == part
    rows = np.repeat(packets, piece.records.count)
    return PacketColumns(taken(piece.records, packets), taken(piece.readings, rows))


def _plain(engine: str, row: Row) -> Row:
    """A reading's row as the driver expects it."""
    sensor, value, *times, seq = row
    if engine == "mssql":
        times = [datetime.fromisoformat(at) for at in times]
    return (sensor, value, *times, seq)


def _text(at: datetime) -> str:
    return at.replace(tzinfo=None).isoformat(" ", "milliseconds")
