"""What sensors will measure some time ahead, from their newest readings."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from ml.model import LineModel
from ml.ridge import Lines, fit
from ml.series import Series

POINTS = 500
"""How many readings a sensor's line goes through at most."""
FEWEST = 20
"""With fewer there is no line, but the mean of the last few."""
FEW = 5
_FEW_CONFIDENCE = 0.2
_LEAST, _MOST = 0.2, 0.95
"""Bounds of the confidence in a line."""
_STEEP = 1e-3
"""Units a minute from which on a trend is up or down."""
_CERTAIN = 3.0
"""Standard errors that a slope is at least, to be one."""
_LARGEST = 9_999_999_999.0
"""Columns of values are decimal(15,5)."""
MEAN, LINE, SLOPE, TOO_FEW = "moving_average", "ridge_line", "model_slope", "few_readings"
"""What makes a forecast: the mean of the window; the line through it; its mean and the slope of a
model; the mean of the last few, where there are too few for a line.
"""
TREND = {-1: "down", 0: "stable", 1: "up"}


@dataclass(frozen=True, slots=True)
class Forecasts:
    """One for each of S sensors that has readings."""

    value: Floats
    """(S,) in the sensor's unit."""
    confidence: Floats
    """(S,) 0 to 1."""
    trend: Ints
    """(S,) -1, 0 or 1: down, stable, up."""
    window: Ints
    """(S,) how many readings it was made of."""
    straight: NDArray[np.bool_]
    """(S,) whether it is a line's; else a mean's."""
    lines: Lines
    """Flat at that mean where it is not."""


class Ahead(NamedTuple):
    """One sensor's forecast."""

    value: float
    confidence: float
    trend: int
    slope: float
    """Units a minute; 0 of a mean."""
    window: int
    engine: str
    """What made it: one of the words below."""


def forecast(series: Series, horizon_minutes: float) -> Forecasts:
    """The ridge line of each sensor, so many minutes past its newest reading; with less than
    `FEWEST` readings the mean of the last `FEW`.

    A slope within three standard errors of none is none: ten minutes ahead, noise that a minute's
    readings happen to lean by would be far beyond every threshold.
    """
    lines = _believed(series)
    straight = series.count >= FEWEST
    column = np.arange(series.ts.shape[1])
    last = (column < series.count[:, None]) & (column >= series.count[:, None] - FEW)
    mean = (series.value * last).sum(1) / np.maximum(last.sum(1), 1)
    used = Lines(
        slope=np.where(straight, lines.slope, 0.0),
        intercept=np.where(straight, lines.intercept, mean),
        scatter=lines.scatter,
        r2=np.where(straight, lines.r2, 0.0),
        certainty=np.where(straight, lines.certainty, 0.0),
    )
    newest = np.take_along_axis(series.minutes, series.last[:, None], 1)[:, 0]
    confidence = np.clip(0.5 * (used.r2 + np.minimum(series.count / POINTS, 1.0)), _LEAST, _MOST)
    return Forecasts(
        value=np.clip(used.at(newest + horizon_minutes), -_LARGEST, _LARGEST),
        confidence=np.where(straight, confidence, _FEW_CONFIDENCE),
        trend=_trend(used),
        window=np.where(straight, series.count, last.sum(1)),
        straight=straight,
        lines=used,
    )


def ahead(series: Series, horizon_minutes: int, window: int, model: LineModel | None) -> Ahead:
    """Of the first sensor of `series`, which has at most `window` readings and at least one.

    Without a model: their mean. With a model that has seen the last of them, or nearly: their mean,
    moved along the model's slope. A short window says where a sensor is, but not where it goes: the
    slope of a minute at 1 Hz, taken ten minutes ahead, is off by 4 deviations of the noise, and one
    of 500 readings by 0.2. With an older model: the ridge line through the window.
    """
    count = int(series.count[0])
    value, minutes = series.value[0, :count], series.minutes[0, :count]
    full = min(1.0, count / window)
    if model is None:
        return Ahead(_bounded(value.mean()), full, 0, 0.0, count, MEAN)
    if model.covers(int(series.ts[0, count - 1])):
        apart = float(minutes[-1] - minutes.mean()) + horizon_minutes
        trend = int(np.sign(model.slope_per_minute)) if abs(model.slope_per_minute) > _STEEP else 0
        confidence = 0.5 * (model.r2 + min(1.0, model.points / POINTS))
        return Ahead(
            _bounded(value.mean() + model.slope_per_minute * apart),
            min(max(confidence, _LEAST), _MOST),
            trend,
            model.slope_per_minute,
            count,
            SLOPE,
        )
    lines = _believed(series)
    return Ahead(
        _bounded(lines.at(minutes[-1:] + horizon_minutes)[0]),
        min(max(0.5 * (float(lines.r2[0]) + full), _LEAST), _MOST),
        int(_trend(lines)[0]),
        float(lines.slope[0]),
        count,
        LINE,
    )


def _believed(series: Series) -> Lines:
    lines = fit(series)
    certain = lines.certainty >= _CERTAIN
    mean = series.value.sum(1) / np.maximum(series.count, 1)
    return replace(
        lines,
        slope=np.where(certain, lines.slope, 0.0),
        intercept=np.where(certain, lines.intercept, mean),
        r2=np.where(certain, lines.r2, 0.0),
    )


def _trend(lines: Lines) -> Ints:
    return np.where(np.abs(lines.slope) > _STEEP, np.sign(lines.slope), 0).astype(np.int64)


def _bounded(value: float) -> float:
    return float(min(max(value, -_LARGEST), _LARGEST))
