"""The residual of each reading from its prediction, scaled so that sensors are comparable.

Each reading has two residuals, in the sensor's own scale: its distance from the ridge line through
all earlier readings, and its distance from the previous reading. No reading contributes to the line
that it is compared with, and the scale is computed from the oldest readings, so the newest readings
are tested exactly like the held-out ones.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats
from ml.predict.ridge import expected
from ml.predict.series import Series

NEWEST = 5
"""Number of readings of a sensor that are tested; the earlier ones define what is normal."""
_WARM_UP = 10
"""A line through fewer readings is not used."""
_FEWEST = 20
"""Minimum number of older residuals; the scale is computed from the older half of them."""
_NORMAL = 1.4826
"""A standard deviation in median absolute deviations, for normal noise."""
_TAIL, _TAIL_SCALES = 0.99, 3.0
"""At most one residual in a hundred is beyond three scales: a sensor whose noise has a long tail
gets a larger scale than its median suggests.
"""
_RESOLUTION, _RELATIVE = 1e-5, 1e-6
"""Lower limits of a scale: the 5 decimals of a stored value, and a share of the sensor's level."""
_LARGEST = 1e4


@dataclass(frozen=True, slots=True)
class Residuals:
    """Residuals of S sensors with at most P readings each."""

    feature: NDArray[np.float64]
    """(S, P, 2) distance from the line and the previous reading, in scales; within +-10 000."""
    expected: Floats
    """(S, P) value of the line, in the sensor's unit."""
    scale: NDArray[np.float64]
    """(S, 2) scale of each of the two distances, in the sensor's unit; above 0."""
    trained: NDArray[np.bool_]
    """(S, P) the older half of the older readings."""
    held_out: NDArray[np.bool_]
    """(S, P) the newer half of the older readings."""
    newest: NDArray[np.bool_]
    """(S, P) the readings to test; none for a sensor with fewer than 35 readings."""

    @property
    def deviation(self) -> Floats:
        """(S, P) the larger of the two distances."""
        greatest: Floats = np.abs(self.feature).max(axis=2)
        return greatest


def residuals(series: Series) -> Residuals:
    """The residuals of every reading, in the scale of the older half of the older readings."""
    column, count = np.arange(series.ts.shape[1]), series.count[:, None]
    enough = count >= _WARM_UP + _FEWEST + NEWEST
    older = enough & (column >= _WARM_UP) & (column < count - NEWEST)
    newest = enough & (column >= count - NEWEST) & (column < count)
    middle = (count - NEWEST + _WARM_UP) // 2
    trained = older & (column < middle)
    line = expected(series)
    step = np.diff(series.value, axis=1, prepend=series.value[:, :1])
    level = np.abs(np.where(trained, series.value, 0.0)).max(axis=1)
    least = np.maximum(_RESOLUTION, _RELATIVE * level)
    distance = np.stack([series.value - line, step], axis=2)
    scale = np.stack([_scale(distance[:, :, kind], trained, least) for kind in (0, 1)], axis=1)
    return Residuals(
        feature=np.clip(distance / scale[:, None, :], -_LARGEST, _LARGEST),
        expected=line,
        scale=scale,
        trained=trained,
        held_out=older & (column >= middle),
        newest=newest,
    )


def _scale(distance: Floats, trained: NDArray[np.bool_], least: Floats) -> Floats:
    """(S,) scale of the distances, from their median and their tail; at least `least`."""
    ordered = np.sort(np.where(trained, np.abs(distance), np.inf), axis=1)
    some = np.maximum(trained.sum(1), 1)[:, None]

    def quantile(share: float) -> Floats:
        place = np.minimum(np.ceil(share * some).astype(np.int64) - 1, some - 1)
        value: Floats = np.take_along_axis(ordered, np.maximum(place, 0), 1)[:, 0]
        return np.where(np.isfinite(value), value, 0.0)

    return np.maximum(np.maximum(_NORMAL * quantile(0.5), quantile(_TAIL) / _TAIL_SCALES), least)
