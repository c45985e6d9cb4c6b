"""Forecasts the values of sensors some minutes ahead, from their newest readings.

The forecast is a ridge line, with three improvements over the previous system. A slope within four
standard errors of zero counts as zero: otherwise, a slope fitted to one minute of noise would cross
every threshold ten minutes later. A line is extrapolated no further than the time span it was
fitted to: half a minute of a wave does not predict the next ten minutes. And where readings are
autocorrelated (the errors are an AR(1) process; Cochrane and Orcutt, "Application of least squares
regression to relationships containing auto-correlated error terms", 1949), the standard error is
larger, and the newest reading's distance from the line decays instead of being dropped at once.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.predictions import LARGEST
from ml.predict.ridge import Lines, fit, with_slope
from ml.predict.series import Series
from rules.line import LineModel

POINTS = 500
"""Maximum number of readings that a sensor's line is fitted to."""
FEWEST = 20
"""With fewer readings, the forecast is the mean of the last `FEW` instead of a line."""
FEW = 5
_FEW_CONFIDENCE = 0.2
_LEAST, _MOST = 0.2, 0.95
"""Limits of the confidence of a line."""
_STEEP = 1e-3
"""A steeper slope, in units per minute, is a trend up or down."""
_CERTAIN = 4.0
"""Minimum of a slope in standard errors; a smaller one counts as zero."""
MEAN, LINE, SLOPE, TOO_FEW = "moving_average", "ridge_line", "model_slope", "few_readings"
"""The methods: the mean of the window; the line through the window; its mean and the slope of a
model; the mean of the last few readings, where there are too few for a line.
"""
TREND = {-1: "down", 0: "stable", 1: "up"}


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Forecasts of S sensors; valid for the sensors that have readings."""

    value: Floats
    """(S,) in the sensor's unit."""
    confidence: Floats
    """(S,) 0 to 1."""
    trend: Ints
    """(S,) -1, 0 or 1: down, stable, up."""
    window: Ints
    """(S,) number of readings used."""
    straight: NDArray[np.bool_]
    """(S,) True: the forecast is a line; False: a mean."""
    lines: Lines
    """Constant at the mean where `straight` is False."""


class Ahead(NamedTuple):
    """One sensor's forecast."""

    value: float
    confidence: float
    trend: int
    slope: float
    """Units per minute; 0 for a mean."""
    window: int
    engine: str
    """The method: `MEAN`, `LINE` or `SLOPE`."""


def forecast(series: Series, horizon_minutes: float) -> Forecasts:
    """The value of each sensor's ridge line, `horizon_minutes` past its newest reading; with fewer
    than `FEWEST` readings, the mean of the last `FEW`.
    """
    straight = series.count >= FEWEST
    column = np.arange(series.ts.shape[1])
    few = (column < series.count[:, None]) & (column >= series.count[:, None] - FEW)
    mean = (series.value * few).sum(1) / np.maximum(few.sum(1), 1)
    lines, value = _line_ahead(series, horizon_minutes)
    confidence = np.clip(0.5 * (lines.r2 + np.minimum(series.count / POINTS, 1.0)), _LEAST, _MOST)
    return Forecasts(
        value=np.clip(np.where(straight, value, mean), -LARGEST, LARGEST),
        confidence=np.where(straight, confidence, _FEW_CONFIDENCE),
        trend=np.where(straight, _trend(lines), 0),
        window=np.where(straight, series.count, few.sum(1)),
        straight=straight,
        lines=replace(
            lines,
            slope=np.where(straight, lines.slope, 0.0),
            intercept=np.where(straight, lines.intercept, mean),
            r2=np.where(straight, lines.r2, 0.0),
        ),
    )


def ahead(series: Series, horizon_minutes: int, window: int, model: LineModel | None) -> Ahead:
    """The forecast of the first sensor of `series`, which has 1 to `window` readings.

    Without a model: the mean of the readings. With a model whose `LineModel.until` is not before
    the last reading: their mean, moved along the model's slope, up to `until`. A short window shows
    where a sensor is, but not its trend: extrapolated ten minutes ahead, the slope of one minute at
    1 Hz is off by 4 standard deviations of the noise, that of 500 readings by 0.2. With an older
    model: the ridge line through the window.
    """
    count = int(series.count[0])
    value, minutes = series.value[0, :count], series.minutes[0, :count]
    full = min(1.0, count / window)
    if model is None:
        return Ahead(_bounded(value.mean()), full, 0, 0.0, count, MEAN)
    if series.ts[0, count - 1] <= model.until:
        valid = (model.until - int(series.ts[0, count - 1])) / 60_000
        apart = float(minutes[-1] - minutes.mean()) + min(horizon_minutes, valid)
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
    lines, values = _line_ahead(series, horizon_minutes)
    return Ahead(
        _bounded(float(values[0])),
        min(max(0.5 * (float(lines.r2[0]) + full), _LEAST), _MOST),
        int(_trend(lines)[0]),
        float(lines.slope[0]),
        count,
        LINE,
    )


def _line_ahead(series: Series, horizon_minutes: float) -> tuple[Lines, Floats]:
    """The line of each sensor, flat where its slope is not significant, and (S,) its value
    `horizon_minutes` past the newest reading.
    """
    lines = fit(series)
    slack = np.sqrt((1.0 - lines.memory) / (1.0 + lines.memory))
    certain = lines.certainty * slack >= _CERTAIN
    used = with_slope(series, np.where(certain, lines.slope, 0.0))
    newest = np.take_along_axis(series.minutes, series.last[:, None], 1)[:, 0]
    off = np.take_along_axis(series.value, series.last[:, None], 1)[:, 0] - used.at(newest)
    steps = horizon_minutes * np.maximum(series.count - 1, 1) / np.maximum(newest, 1e-9)
    followed = np.minimum(horizon_minutes, newest)
    return used, used.at(newest + followed) + off * used.memory**steps


def _trend(lines: Lines) -> Ints:
    return np.where(np.abs(lines.slope) > _STEEP, np.sign(lines.slope), 0).astype(np.int64)


def _bounded(value: float) -> float:
    return float(min(max(value, -LARGEST), LARGEST))
