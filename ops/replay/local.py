"""A run's own databases: SQLite files with our schema and the live database's devices."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from contract.settings import Settings
from rules.models import MODELS
from rules.silences import COLUMN, DEVICES, SENSORS, SILENCES
from rules.tables import Tables, sources
from sql.database import Database
from sql.schema import apply_schema, open_database
from sql.statements import LIST_ALL_MODELS, LIST_INSTALLATION

_RULES = [s.table for s in sources() if s is not MODELS and "sensor_id" in s.columns]


def local_settings(settings: Settings, file: Path) -> Settings:
    """The settings of a run's own database."""
    return settings.model_copy(update={"db_engine": "sqlite", "iot_sqlite_path": file})


def make_local(settings: Settings, live: Database, rules: Tables) -> None:
    """Create the database of `settings`, with the rows that foreign keys need: the devices, sensors
    and models of `live`, and the rows in `rules`.
    """
    apply_schema(settings)
    silences = {
        (source.table, row.get("id")): row.get(COLUMN)
        for source in SILENCES
        for row in rules.get(source.table, ())
    }
    tables: dict[str, Sequence[Mapping[str, Any]]] = {"devices": [], "sensors": []}
    devices: dict[int, dict[str, Any]] = {}
    sensors = []
    for row in live.query(LIST_INSTALLATION):
        devices[row.device_id] = {
            "id": row.device_id,
            "device_uuid": row.device_uuid,
            "name": row.device,
            "device_type": row.device_type,
            "status": row.status,
            COLUMN: silences.get((DEVICES, row.device_id)),
        }
        if row.sensor_id is not None:
            sensors.append(
                {
                    "id": row.sensor_id,
                    "device_id": row.device_id,
                    "sensor_uuid": row.sensor_uuid,
                    "sensor_type": row.sensor_type,
                    "name": row.sensor,
                    "unit": row.unit,
                    "is_active": int(row.is_active or 0),
                    COLUMN: silences.get((SENSORS, row.sensor_id)),
                }
            )
    tables["devices"], tables["sensors"] = list(devices.values()), sensors
    known = {sensor["id"] for sensor in sensors}
    for table in _RULES:
        tables[table] = [row for row in rules.get(table, ()) if row.get("sensor_id") in known]
    tables["ml_models"] = [
        row._asdict() | {"is_active": int(row.is_active)} for row in live.query(LIST_ALL_MODELS)
    ]
    with open_database(settings) as database:
        database.execute("copy_installation", msgspec.json.encode(tables).decode())
