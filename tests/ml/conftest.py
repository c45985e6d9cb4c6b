from dataclasses import dataclass
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from contract.settings import Settings
from ops.devices import SensorSpec, register
from rules.tables import make_rules
from rules.threshold import THRESHOLD
from sinks.times import as_text
from sql.database import Database
from sql.schema import apply_schema, open_database
from tests.sql.installations import new_database

START = 1732442400000
"""2024-11-24 10:00 UTC."""


@dataclass(frozen=True)
class Place:
    """A database shared by the tests of a file; each test creates its own sensors."""

    settings: Settings
    database: Database

    def sensor(self, kind="temperature", unit="°C", bounds=None, name="boiler", device=None):
        device = device or f"rig {uuid4().hex[:6]}"
        spec = SensorSpec(name, kind, unit, bounds or {})
        database = Database(self.settings)  # Babelfish loses foreign keys on a used connection
        uuid = register(database, device, [spec]).sensors[name]
        database.close()
        statement = "SELECT id FROM sensors WHERE sensor_uuid = ?"
        return int(self.database._connection.execute(statement, (uuid,)).fetchall()[0][0])

    def store(self, sensor, values, *, start=START, step=60_000, seq=0):
        """Store readings of a sensor, one per minute, and return the time of the last one."""
        ts = start + np.arange(len(values)) * step
        rows = [
            (sensor, float(value), at, at, at, seq)
            for value, at in zip(values, as_text(ts).tolist(), strict=True)
        ]
        self.database.execute("write_readings", msgspec.json.encode(rows).decode())
        return int(ts[-1])

    def rows(self, statement, *parameters):
        rows = self.database._connection.execute(statement, parameters).fetchall()
        return [tuple(row) for row in rows]

    def row(self, statement, *parameters):
        (only,) = self.rows(statement, *parameters)
        return only

    def do(self, statement, *parameters):
        self.database._connection.execute(statement, parameters)


@pytest.fixture(params=["sqlite", "mssql"], scope="module")
def place(request, tmp_path_factory):
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("ml") / "iot.db"
        yield from opened(Settings(db_engine="sqlite", iot_sqlite_path=path))
        return
    with new_database(request.getfixturevalue("mssql_server")) as settings:
        yield from opened(settings)


@pytest.fixture
def here(tmp_path):
    """A SQLite database for a single test."""
    yield from opened(Settings(db_engine="sqlite", iot_sqlite_path=tmp_path / "iot.db"))


def opened(settings):
    apply_schema(settings)
    database = open_database(settings)
    yield Place(settings, database)
    database.close()


def threshold(sensor_id, number, name, condition, low, high, severity):
    """The threshold of a row of `alert_thresholds`."""
    row = {
        "id": number, "sensor_id": sensor_id, "name": name, "condition_type": condition,
        "threshold_value_min": low, "threshold_value_max": high, "severity": severity,
    }  # fmt: skip
    (rule,) = make_rules({"alert_thresholds": [row]})[0].of(THRESHOLD)
    return rule
