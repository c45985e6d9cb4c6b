"""Predictions, one row each in `predictions`."""

from contract.predictions import Predictions
from contract.settings import Settings
from sinks.decimals import rounded
from sinks.table import TableSink
from sinks.times import as_text
from sinks.writer import Row

_TREND = {-1: "down", 0: "stable", 1: "up"}
_MINUTE_MS = 60_000


def prediction_rows(predictions: Predictions) -> list[Row]:
    """The columns of `write_predictions.sql`, in its order, for each prediction."""
    horizon = (predictions.target - predictions.predicted_at) // _MINUTE_MS
    return list(
        zip(
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
            strict=True,
        )
    )


def prediction_key(row: Row) -> tuple[int, int, str]:
    """What makes two predictions the same one: model, sensor, predicted_at."""
    return row[0], row[1], row[3]


def predictions_sink(settings: Settings) -> TableSink[Predictions]:
    """Stores every prediction once; model 0 becomes the sensor's baseline."""
    return TableSink(settings, "write_predictions", prediction_rows, prediction_key)
