"""Reads the input of forecasts from the configured database, and writes their rows to it."""

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from contract.errors import ConflictError
from ml.predict.forecast_rows import ForecastRow
from ml.predict.series import Series, series
from rules.tables import thresholds_of_sensors
from rules.threshold import Threshold
from sql.database import Database
from sql.statements import LIST_DUE_SENSORS, NEWEST_READINGS, NOW_MS, ForecastSensor

_ATTEMPTS = 5
"""Maximum number of attempts, when other writers write the same sensor at the same time."""


def clock(database: Database) -> int:
    """The time that decides whether a target has passed: the database's, one for all programs.
    Epoch milliseconds UTC.
    """
    (row,) = database.query(NOW_MS)
    return int(row.now_ms)


def due_sensors(database: Database) -> list[ForecastSensor]:
    """Active sensors with readings newer than their last forecast, ordered by type."""
    return database.query(LIST_DUE_SENSORS)


def newest_readings(database: Database, sensor_ids: Sequence[int], most: int) -> Series:
    """The newest `most` readings of each sensor, by event time."""
    rows = database.query(NEWEST_READINGS, _json(sensor_ids), most)
    return series(sensor_ids, rows, most)


def thresholds_of(database: Database, sensor_ids: Sequence[int]) -> dict[int, list[Threshold]]:
    """The active thresholds of each sensor; an empty list for a sensor without any. Invalid rows
    are skipped.
    """
    thresholds: dict[int, list[Threshold]] = defaultdict(list)
    for threshold in thresholds_of_sensors(database, sensor_ids):
        thresholds[threshold.sensor_id].append(threshold)
    return thresholds


def write_forecast(database: Database, row: ForecastRow) -> None:
    """Store all rows of a forecast or none. Rows that already exist are not written again.

    Raises:
        RefusedError: the database rejects the rows; a retry would fail too.
        UnavailableError: the database does not answer.
    """
    text = msgspec.json.encode(row).decode()
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            database.execute("write_forecast", text)
        except ConflictError:
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def _json(ids: Sequence[int]) -> str:
    return msgspec.json.encode(list(ids)).decode()
