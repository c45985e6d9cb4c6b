"""A trained linear model, stored as JSON in `ml_models.metadata`."""

from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

NAME, TYPE, VERSION = "sklearn_regression_iforest", "sklearn", "1.0.0"
"""The columns of the rows that the batch runner writes, one per sensor."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LineModel(msgspec.Struct, frozen=True, kw_only=True):
    """A line through a sensor's readings, in the sensor's unit."""

    format: Literal[1] = 1
    kind: Literal["ridge_trend"] = "ridge_trend"
    slope_per_minute: float
    intercept: float
    """Value at `trained_from`."""
    residual_scale: float
    """The usual distance of readings from the line; 0 if all are on it."""
    r2: float
    points: int
    trained_from: datetime
    """Event time of the first reading, UTC."""
    trained_to: datetime
    """Event time of the last reading, UTC."""

    @property
    def until(self) -> int:
        """The event time, epoch ms, until which the slope applies: the end of the training span
        plus its length.
        """
        last = self.trained_to - _EPOCH
        return (2 * last - (self.trained_from - _EPOCH)) // timedelta(milliseconds=1)


def encode(model: LineModel) -> bytes:
    """The model as JSON."""
    return msgspec.json.encode(model)


def decode(metadata: str | None) -> LineModel:
    """Parse a model from its JSON.

    Raises:
        ValueError: the JSON is not a model, or its format is unknown.
    """
    model = msgspec.json.decode(metadata or "", type=LineModel)
    if model.trained_from.tzinfo is None or model.trained_to.tzinfo is None:
        raise ValueError("trained_from and trained_to need a time zone")
    return model


def moment(ms: int) -> datetime:
    """Epoch milliseconds as a time in UTC.

    >>> moment(1732442400007).isoformat()
    '2024-11-24T10:00:00.007000+00:00'
    """
    return _EPOCH + timedelta(milliseconds=ms)
