"""Rules, and the names that texts call sensors by, as the database has them now."""

import msgspec

from contract.errors import SetupError
from dataflows.events import Names
from dataflows.rules import RuleSet, Tables, decode_rules
from dataflows.texts import Named
from sql.database import Database

_TABLES = {
    "alert_thresholds": (
        "list_alert_thresholds",
        ("id", "sensor_id", "name", "condition_type", "threshold_value_min", "threshold_value_max",
         "severity", "consecutive_readings", "clear_after", "reset_value_min", "reset_value_max",
         "forecast_after"),
    ),
    "sensor_threshold_profiles": (
        "list_profiles",
        ("id", "sensor_id", "warning_min", "warning_max", "alert_min", "alert_max"),
    ),
    "delta_thresholds": (
        "list_deltas",
        ("id", "sensor_id", "abs_delta", "rel_delta", "abs_slope", "rel_slope", "severity",
         "min_readings", "raise_after", "clear_after"),
    ),
    "ml_models": ("list_models", ("id", "sensor_id", "model_type", "metadata")),
}  # fmt: skip
"""table -> the statement that lists it, and the names of what that gives."""


def rule_tables(database: Database) -> Tables:
    """The rows that rules are made of, as `make_rules` takes them."""
    return {
        table: [dict(zip(columns, row, strict=True)) for row in database.query(statement)]
        for table, (statement, columns) in _TABLES.items()
    }


def rules_of_version(database: Database, version: str) -> RuleSet:
    """The rules that were written down under a version.

    Raises:
        SetupError: there are none, or none that can be read.
    """
    rows = database.query("rules_of_version", version)
    try:
        return decode_rules(rows[-1][1])
    except (IndexError, msgspec.DecodeError) as error:
        raise SetupError(
            f"the table rule_versions has no version {version} that this program can read "
            f"({error}): bring the row back, or take away the rows of that version; records of its "
            "time are then judged by the version before"
        ) from error


def names_of(database: Database, language: str) -> Names:
    """How texts in that language call each sensor and device, inactive ones too."""
    sensors: dict[int, Named] = {}
    devices: dict[int, str] = {}
    for sensor_id, name, kind, unit, device_id, device in database.query("list_sensor_names"):
        sensors[sensor_id] = Named(name, kind, unit, device)
        devices[device_id] = device
    return Names(language, sensors, devices)
