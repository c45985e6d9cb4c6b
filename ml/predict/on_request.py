"""One forecast on request, from the sensor's active model."""

from dataclasses import dataclass
from datetime import datetime

import structlog

from contract.errors import IotError, SetupError
from ml.predict.forecast import ahead
from ml.predict.forecast_rows import ModelRow, forecast_row
from ml.predict.outlook import Outlook
from ml.predict.store import newest_readings, thresholds_of, write_forecast
from rules.line import TYPE, LineModel, decode, moment
from sinks.times import text_of
from sql.database import Database
from sql.statements import PREDICTION_AT, SENSOR_WITH_MODEL, ForecastSensor

BASELINE = ("baseline_moving_average", "baseline", "1.0.0")
_log = structlog.get_logger("predict")


class AskError(IotError):
    """The caller's fault: the request cannot be served. `status` is the HTTP status, `reason` a
    machine-readable code.
    """

    def __init__(self, text: str, status: int, reason: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class MadePrediction:
    """A row of `predictions`, as stored."""

    model_id: int
    prediction_id: int
    value: float
    confidence: float
    target: datetime


@dataclass(frozen=True, slots=True)
class _Active:
    """A sensor's active model."""

    id: int | None
    """None: the sensor has no model yet."""
    line: LineModel | None
    """None: the model is a moving average or cannot be read."""


def predict(
    database: Database,
    sensor_id: int,
    horizon_minutes: int,
    window: int,
    dedupe_minutes: int,
    *,
    language: str,
    create_model: bool,
    now: int,
) -> MadePrediction:
    """Forecast from the newest `window` readings, and store the forecast and its event, if any.

    The same request over the same readings gives the same row; another horizon or window gives
    another one. `now` is in epoch milliseconds UTC.

    Raises:
        AskError: the sensor is unknown, has no readings, has none that is recent enough (the time
            to forecast has passed), or has no model and `create_model` is False.
        IotError: by blame, see `Database`.
    """
    sensor, model = _sensor(database, sensor_id)
    readings = newest_readings(database, [sensor_id], window)
    if not readings.count[0]:
        raise AskError(
            f"sensor_id: sensor {sensor_id} has no readings yet; post some first",
            400,
            "no_readings",
        )
    if model.id is None and not create_model:
        raise AskError(
            f"sensor {sensor_id} has no active model: train one with `python -m ml.batch --once`, "
            "or set AUTO_CREATE_MODEL=true to create a baseline",
            409,
            "no_model",
        )
    last = int(readings.last[0])
    _check_ahead(sensor_id, int(readings.ts[0, last]), horizon_minutes, now)
    forecast = ahead(readings, horizon_minutes, window, model.line)
    outlook = Outlook(
        sensor=sensor,
        predicted_at=int(readings.ts[0, last]),
        newest=float(readings.value[0, last]),
        horizon_minutes=horizon_minutes,
        value=forecast.value,
        confidence=forecast.confidence,
        trend=forecast.trend,
        slope=forecast.slope,
        window=forecast.window,
        engine=forecast.engine,
        judged=False,
        anomaly=None,
        asked=window,
    )
    at = text_of(outlook.predicted_at)
    name, kind, version = BASELINE
    row = forecast_row(
        outlook,
        thresholds_of(database, [sensor_id])[sensor_id],
        ModelRow(name=name, type=kind, version=version, trained_at=at)
        if model.id is None
        else ModelRow(id=model.id),
        language=language,
        dedupe_minutes=dedupe_minutes,
    )
    write_forecast(database, row)
    model_id = model.id or _sensor(database, sensor_id)[1].id
    stored = database.query(PREDICTION_AT, sensor_id, model_id, at, horizon_minutes, window)
    if model_id is None or not stored:
        raise SetupError(f"the prediction of sensor {sensor_id} was deleted as it was stored")
    return MadePrediction(
        model_id=model_id,
        prediction_id=next(row.id for row in stored),
        value=row.value,
        confidence=row.confidence,
        target=moment(outlook.target),
    )


def _check_ahead(sensor_id: int, newest: int, horizon_minutes: int, now: int) -> None:
    """Refuse to forecast a time that has passed: after a backlog, or when a sensor has stopped."""
    if newest + horizon_minutes * 60_000 > now:
        return
    raise AskError(
        f"horizon_minutes: the newest reading of sensor {sensor_id} is from "
        f"{text_of(newest)[:19]} UTC, and {horizon_minutes} min after it have passed: ask for a "
        "longer horizon, or wait for new readings",
        400,
        "old_readings",
    )


def _sensor(database: Database, sensor_id: int) -> tuple[ForecastSensor, _Active]:
    row = next(iter(database.query(SENSOR_WITH_MODEL, sensor_id)), None)
    if row is None:
        raise AskError(f"sensor_id: there is no active sensor {sensor_id}", 404, "unknown_sensor")
    sensor = ForecastSensor(row.id, row.device_id, row.name, row.type, row.unit, row.device)
    model_id = row.model_id
    if row.metadata is None or row.model_type != TYPE:
        return sensor, _Active(model_id, None)
    try:
        return sensor, _Active(model_id, decode(row.metadata))
    except ValueError as error:
        _log.warning(
            "the model cannot be read, using the moving average instead: retrain it with "
            "`python -m ml.batch --once`, or set it inactive",
            model_id=model_id,
            sensor_id=sensor_id,
            error=str(error),
        )
        return sensor, _Active(model_id, None)
