"""What forecasts are made of and what is kept of them, in the configured database."""

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from contract.errors import ConflictError
from ml.predict.forecast_rows import ForecastRow
from ml.predict.series import Series, series
from rules.tables import thresholds_of_sensors
from rules.threshold import Threshold
from sql.database import Database
from sql.statements import LIST_DUE_SENSORS, NEWEST_READINGS, ForecastSensor

_ATTEMPTS = 5
"""How often another writer may be faster with the same sensor."""


def due_sensors(database: Database) -> list[ForecastSensor]:
    """Active sensors with a reading that their last forecast has not seen, a type's together."""
    return database.query(LIST_DUE_SENSORS)


def newest_readings(database: Database, sensor_ids: Sequence[int], most: int) -> Series:
    """The newest `most` readings of each sensor, by event time."""
    rows = database.query(NEWEST_READINGS, _json(sensor_ids), most)
    return series(sensor_ids, rows, most)


def thresholds_of(database: Database, sensor_ids: Sequence[int]) -> dict[int, list[Threshold]]:
    """Each sensor's thresholds in force; none for one without any. Rows that make no sense give
    none.
    """
    found: dict[int, list[Threshold]] = defaultdict(list)
    for threshold in thresholds_of_sensors(database, sensor_ids):
        found[threshold.sensor_id].append(threshold)
    return found


def write_forecast(database: Database, row: ForecastRow) -> None:
    """Store all of it or nothing. What is there already is not written twice.

    Raises:
        RefusedError: the database will never take it.
        UnavailableError: it does not answer.
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
