"""Stores predictions, one row each in `predictions`."""

from operator import attrgetter
from typing import NamedTuple

import msgspec

from contract.predictions import Predictions
from contract.settings import Settings
from sinks.decimals import rounded
from sinks.table import TableSink
from sinks.times import as_text

_TREND = {-1: "down", 0: "stable", 1: "up"}
_MINUTE_MS = 60_000


class PredictionRow(NamedTuple):
    """A row of `write_predictions`. Times are text."""

    model_id: int
    """0: the sensor's baseline."""
    sensor_id: int
    device_id: int
    predicted_at: str
    target: str
    value: float
    confidence: float
    window_points: int
    trend: str
    horizon_minutes: int
    risk_level: str
    severity: str
    explanation: msgspec.Raw
    engine_name: str


def prediction_rows(predictions: Predictions) -> list[PredictionRow]:
    """One row for each prediction."""
    horizon = (predictions.target - predictions.predicted_at) // _MINUTE_MS
    rows = zip(
        predictions.model_id.tolist(),
        predictions.sensor_id.tolist(),
        predictions.device_id.tolist(),
        as_text(predictions.predicted_at).tolist(),
        as_text(predictions.target).tolist(),
        rounded(predictions.value).tolist(),
        rounded(predictions.confidence, 4).tolist(),  # decimal(5,4)
        predictions.window.tolist(),
        [_TREND[trend] for trend in predictions.trend.tolist()],
        horizon.tolist(),
        predictions.risk_level.tolist(),
        predictions.severity.tolist(),
        [msgspec.Raw(text.encode()) for text in predictions.explanation.tolist()],
        predictions.engine.tolist(),
        strict=True,
    )
    return list(map(PredictionRow._make, rows))


prediction_key = attrgetter(
    "model_id", "sensor_id", "predicted_at", "horizon_minutes", "window_points"
)
"""Identifies a prediction."""


def predictions_sink(settings: Settings) -> TableSink[Predictions]:
    """A sink that stores every prediction once. Model 0 becomes the sensor's baseline."""
    return TableSink(settings, "write_predictions", prediction_rows, prediction_key)
