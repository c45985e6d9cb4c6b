"""Rows of `ml_models` that the flow uses: detector bounds and prediction slopes.

A model applies from the event time at which it was trained: one that was trained yesterday neither
predicts nor judges last month, whenever that is read. So a replay uses each model no earlier than
the live flow could. Models without that time apply always: those of older editions, and rows of a
rules file that do not give it.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from contract.columns import NEVER, Floats, Ints
from rules.detector import CRITICAL_PER_DAY, WARN_PER_DAY
from rules.kind import Id, Source, checked_row
from rules.line import TYPE as LINE_TYPE
from rules.line import decode as decode_line

_TABLE = "ml_models"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DetectorModel(msgspec.Struct, frozen=True, kw_only=True, tag="detector", omit_defaults=True):
    """A sensor's detector settings: whether the deep detector runs beside the light one (`deep`),
    the allowed false alarms per day, and whether deviations from predictions are reported.
    """

    table: str
    id: int
    sensor_id: int
    deep: bool
    warn_per_day: float
    critical_per_day: float
    deviations: bool = True
    trained_at: int | None = None
    """The event time from which it applies, epoch milliseconds UTC. None: always."""


class TrendModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="trend"):
    """Predicts that a sensor's values continue by `slope_per_minute`. It applies after the training
    readings, for as long as their time span.
    """

    table: str
    id: int
    sensor_id: int
    slope_per_minute: float
    until: int
    """Epoch milliseconds UTC. After this time, the baseline predicts."""
    trained_at: int | None = None
    """The event time from which it applies, epoch milliseconds UTC. None: always."""


Model = DetectorModel | TrendModel


class _Row(msgspec.Struct):
    sensor_id: Id
    model_type: str
    id: Id = 0
    metadata: str | dict[str, Any] = ""
    is_active: bool | int = True
    trained_at: str = ""


class _DetectorData(msgspec.Struct):
    kind: Literal["light", "deep"]
    warn_per_day: Annotated[float, msgspec.Meta(gt=0)] = WARN_PER_DAY
    critical_per_day: Annotated[float, msgspec.Meta(gt=0)] = CRITICAL_PER_DAY
    deviations: bool = True


def _of_row(values: Mapping[str, Any]) -> list[Model]:
    row = checked_row(values, _Row, ("model_name", "version", "accuracy"))
    if not row.is_active or row.model_type == "baseline":
        return []
    text, trained_at = row.metadata, _moment(row.trained_at)
    if not isinstance(text, str):
        text = msgspec.json.encode(text).decode()
    if row.model_type == "detector":
        detector = msgspec.json.decode(text, type=_DetectorData)
        if detector.critical_per_day > detector.warn_per_day:
            raise ValueError("critical_per_day is above warn_per_day")
        return [
            DetectorModel(
                table=_TABLE, id=row.id, sensor_id=row.sensor_id, deep=detector.kind == "deep",
                warn_per_day=detector.warn_per_day, critical_per_day=detector.critical_per_day,
                deviations=detector.deviations,
                trained_at=trained_at,
            )
        ]  # fmt: skip
    if row.model_type == LINE_TYPE:
        line = decode_line(text)
        if not isfinite(line.slope_per_minute):
            raise ValueError("slope_per_minute is not a finite number")
        return [
            TrendModel(
                table=_TABLE, id=row.id, sensor_id=row.sensor_id,
                slope_per_minute=line.slope_per_minute, until=line.until, trained_at=trained_at,
            )
        ]  # fmt: skip
    raise ValueError(f"unknown model_type {row.model_type}")


def _moment(text: str) -> int | None:
    """A time of a row as epoch milliseconds, UTC where it has no zone; None if it has no time."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"trained_at: {error}") from error
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return (at - _EPOCH) // timedelta(milliseconds=1)


MODELS: Source[Any] = Source(
    _TABLE, "list_models", ("id", "sensor_id", "model_type", "metadata", "trained_at"), _of_row
)


def chosen(models: Sequence[Model]) -> tuple[Model, ...]:
    """For each sensor, the last detector model and the last trend model."""
    last = {(model.sensor_id, isinstance(model, TrendModel)): model for model in models}
    return tuple(last[key] for key in sorted(last))


def model_schema(model: Model) -> int:
    """The lowest schema of an edition that can hold the model; see `rules.tables`."""
    switched_off = isinstance(model, DetectorModel) and not model.deviations
    return 3 if switched_off or model.trained_at is not None else 1


def since(models: Sequence[Model]) -> Ints:
    """(N,) the event time from which each model applies."""
    return np.array(
        [NEVER if model.trained_at is None else model.trained_at for model in models], np.int64
    )


class Trends:
    """The trend model of each sensor."""

    def __init__(self, models: Sequence[TrendModel]) -> None:
        self._sensor_id = np.array([model.sensor_id for model in models], np.int64)
        self._id = np.array([model.id for model in models], np.int64)
        self._slope = np.array([model.slope_per_minute for model in models])
        self._until = np.array([model.until for model in models], np.int64)
        self._since = since(models)

    def of(self, sensor_id: Ints, at: Ints) -> tuple[Ints, Floats, Ints]:
        """For the event times `at` (N,): (N,) the model's id, 0 for the baseline; (N,) the change
        of the value per minute; (N,) the event time until which the model applies.
        """
        if not len(self._id):
            nothing = np.zeros(len(sensor_id), np.int64)
            return nothing, np.zeros(len(sensor_id)), nothing
        place = np.searchsorted(self._sensor_id, sensor_id).clip(max=len(self._id) - 1)
        known = (
            (self._sensor_id[place] == sensor_id)
            & (at >= self._since[place])
            & (at <= self._until[place])
        )
        return (
            np.where(known, self._id[place], 0),
            np.where(known, self._slope[place], 0.0),
            self._until[place],
        )
