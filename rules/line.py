"""What a trained model knows, as the JSON in `ml_models.metadata`."""

from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

NAME, TYPE, VERSION = "sklearn_regression_iforest", "sklearn", "1.0.0"
"""Of the rows that the batch runner writes, one a sensor."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LineModel(msgspec.Struct, frozen=True, kw_only=True):
    """A line through a sensor's readings, in the sensor's unit."""

    format: Literal[1] = 1
    kind: Literal["ridge_trend"] = "ridge_trend"
    slope_per_minute: float
    intercept: float
    """Value at `trained_from`."""
    residual_scale: float
    """How far readings usually are from what the line says; 0 where they are all on it."""
    r2: float
    points: int
    trained_from: datetime
    """Event time of the first reading, UTC."""
    trained_to: datetime
    """Event time of the last."""

    @property
    def until(self) -> int:
        """Up to which event time, epoch ms, the slope is believed: for as long after the training
        span as that was long.
        """
        last = self.trained_to - _EPOCH
        return (2 * last - (self.trained_from - _EPOCH)) // timedelta(milliseconds=1)


def encode(model: LineModel) -> bytes:
    """Its JSON."""
    return msgspec.json.encode(model)


def decode(metadata: str | None) -> LineModel:
    """The model of that JSON.

    Raises:
        ValueError: it is none, or of a form that is not known here.
    """
    made = msgspec.json.decode(metadata or "", type=LineModel)
    if made.trained_from.tzinfo is None or made.trained_to.tzinfo is None:
        raise ValueError("trained_from and trained_to need a time zone")
    return made


def moment(ms: int) -> datetime:
    """Epoch milliseconds as a time in UTC.

    >>> moment(1732442400007).isoformat()
    '2024-11-24T10:00:00.007000+00:00'
    """
    return _EPOCH + timedelta(milliseconds=ms)
