"""A run's own databases: SQLite files with our schema, and what the live one has of devices."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from contract.settings import Settings
from rules.tables import Tables
from sql.database import Database
from sql.schema import apply_schema, open_database

_DEVICE = ("id", "device_uuid", "name", "device_type", "status")
_SENSOR = ("id", "sensor_uuid", "sensor_type", "name", "unit", "is_active")
_MODEL = (
    "id", "sensor_id", "model_name", "model_type", "version", "is_active", "metadata", "trained_at"
)  # fmt: skip
_RULES = ("alert_thresholds", "sensor_threshold_profiles", "delta_thresholds")


def local_settings(settings: Settings, file: Path) -> Settings:
    """The settings of a run's own database."""
    return settings.model_copy(update={"db_engine": "sqlite", "iot_sqlite_path": file})


def make_local(settings: Settings, live: Database, rules: Tables) -> None:
    """Make the database of `settings`, with what foreign keys need: the devices, sensors and models
    of `live`, and the rules' rows in `rules`.
    """
    apply_schema(settings)
    tables: dict[str, Sequence[Mapping[str, Any]]] = {"devices": [], "sensors": []}
    devices: dict[int, dict[str, Any]] = {}
    sensors = []
    for row in live.query("list_installation"):
        device, sensor = row[: len(_DEVICE)], row[len(_DEVICE) :]
        devices[device[0]] = dict(zip(_DEVICE, device, strict=True))
        if sensor[0] is not None:
            found = dict(zip(_SENSOR, sensor, strict=True)) | {"device_id": device[0]}
            sensors.append(found | {"is_active": int(found["is_active"])})
    tables["devices"], tables["sensors"] = list(devices.values()), sensors
    known = {sensor["id"] for sensor in sensors}
    for table in _RULES:
        tables[table] = [row for row in rules.get(table, ()) if row.get("sensor_id") in known]
    tables["ml_models"] = [
        dict(zip(_MODEL, row, strict=True)) | {"is_active": int(row[_MODEL.index("is_active")])}
        for row in live.query("list_all_models")
    ]
    with open_database(settings) as database:
        database.execute("copy_installation", msgspec.json.encode(tables).decode())
