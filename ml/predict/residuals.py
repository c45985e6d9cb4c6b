"""How far each reading is from what those before it led to expect, comparable between sensors.

Two numbers a reading: its distance from the ridge line through all readings before it, and from the
reading just before it, each in the sensor's own scale. As no reading has any part in the line that
it is held against, and the scale is made of the oldest ones, the newest are judged exactly as those
that are held out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats
from ml.predict.ridge import expected
from ml.predict.series import Series

NEWEST = 5
"""How many readings of a sensor are judged; those before them say what is normal."""
_WARM_UP = 10
"""A line through fewer says nothing."""
_FEWEST = 20
"""So many older residuals there must be, of half of which a scale is made."""
_NORMAL = 1.4826
"""Median absolute deviations in a standard deviation, of normal noise."""
_TAIL, _TAIL_SCALES = 0.99, 3.0
"""So many scales are what no more than one of them in a hundred is beyond: a sensor whose
noise has a long tail has a larger scale than its median tells.
"""
_RESOLUTION, _RELATIVE = 1e-5, 1e-6
"""Columns of values have 5 decimals; and no scale is less than that share of the value."""
_LARGEST = 1e4


@dataclass(frozen=True, slots=True)
class Residuals:
    """Of S sensors with at most P readings."""

    feature: NDArray[np.float64]
    """(S, P, 2) from the line and from the reading before, in scales; within +-10 000."""
    expected: Floats
    """(S, P) what the line says, in the sensor's unit."""
    scale: NDArray[np.float64]
    """(S, 2) of the two distances, in the sensor's unit; above 0."""
    trained: NDArray[np.bool_]
    """(S, P) the older half of the older readings."""
    held_out: NDArray[np.bool_]
    """(S, P) the newer half of them."""
    newest: NDArray[np.bool_]
    """(S, P) those that are to be judged. None of a sensor with less than 35 readings."""

    @property
    def deviation(self) -> Floats:
        """(S, P) the greater of the two distances."""
        greatest: Floats = np.abs(self.feature).max(axis=2)
        return greatest


def residuals(series: Series) -> Residuals:
    """Of every reading, in the scale of the older half of the older ones."""
    column, count = np.arange(series.ts.shape[1]), series.count[:, None]
    enough = count >= _WARM_UP + _FEWEST + NEWEST
    older = enough & (column >= _WARM_UP) & (column < count - NEWEST)
    newest = enough & (column >= count - NEWEST) & (column < count)
    middle = (count - NEWEST + _WARM_UP) // 2
    trained = older & (column < middle)
    said = expected(series)
    step = np.diff(series.value, axis=1, prepend=series.value[:, :1])
    level = np.abs(np.where(trained, series.value, 0.0)).max(axis=1)
    least = np.maximum(_RESOLUTION, _RELATIVE * level)
    distance = np.stack([series.value - said, step], axis=2)
    scale = np.stack([_scale(distance[:, :, kind], trained, least) for kind in (0, 1)], axis=1)
    return Residuals(
        feature=np.clip(distance / scale[:, None, :], -_LARGEST, _LARGEST),
        expected=said,
        scale=scale,
        trained=trained,
        held_out=older & (column >= middle),
        newest=newest,
    )


def _scale(distance: Floats, trained: NDArray[np.bool_], least: Floats) -> Floats:
    """(S,) from their median and from their tail; at least `least`."""
    ordered = np.sort(np.where(trained, np.abs(distance), np.inf), axis=1)
    some = np.maximum(trained.sum(1), 1)[:, None]

    def quantile(share: float) -> Floats:
        place = np.minimum(np.ceil(share * some).astype(np.int64) - 1, some - 1)
        found: Floats = np.take_along_axis(ordered, np.maximum(place, 0), 1)[:, 0]
        return np.where(np.isfinite(found), found, 0.0)

    return np.maximum(np.maximum(_NORMAL * quantile(0.5), quantile(_TAIL) / _TAIL_SCALES), least)
