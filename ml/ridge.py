"""Straight lines through readings, by ridge regression, of all sensors at once.

Hoerl and Kennard, "Ridge regression" (1970), with one variable: minutes since the first reading.
The penalty of 1 makes the line the flatter the shorter the time that was seen; the intercept has
none. Sums are taken of centred values, which keeps their digits.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats
from ml.series import Series

ALPHA = 1.0
"""The penalty, as the old system had it."""


@dataclass(frozen=True, slots=True)
class Lines:
    """A line for each of S sensors."""

    slope: Floats
    """(S,) units a minute."""
    intercept: Floats
    """(S,) value at the sensor's first reading."""
    scatter: Floats
    """(S,) standard deviation of the readings from the line."""
    r2: Floats
    """(S,) share of the variance that the line tells, 0 to 1; 0 where there is none."""
    certainty: Floats
    """(S,) the slope in units of its own standard error; at most 1e6."""

    def at(self, minutes: Floats) -> Floats:
        """(S,) values at these minutes after the first reading."""
        return self.intercept + self.slope * minutes


def fit(series: Series) -> Lines:
    """The line through all readings of each sensor; zeros for a sensor without any."""
    there, count = series.there, np.maximum(series.count, 1)
    minutes, value = series.minutes, series.value
    middle, mean = minutes.sum(1) / count, value.sum(1) / count
    x = np.where(there, minutes - middle[:, None], 0.0)
    y = np.where(there, value - mean[:, None], 0.0)
    spread = (x * x).sum(1)
    slope = (x * y).sum(1) / (spread + ALPHA)
    missed = ((y - slope[:, None] * x) ** 2).sum(1)
    total = (y * y).sum(1)
    varies = total > 1e-18 * (mean * mean * count + 1e-300)
    scatter = np.sqrt(missed / count)
    error = np.maximum(scatter / np.sqrt(spread + ALPHA), 1e-6 * np.abs(slope))
    return Lines(
        slope=np.where(varies, slope, 0.0),
        intercept=np.where(varies, mean - slope * middle, mean),
        scatter=np.where(varies, scatter, 0.0),
        r2=np.where(varies, np.clip(1.0 - missed / np.where(varies, total, 1.0), 0.0, 1.0), 0.0),
        certainty=np.where(varies, np.abs(slope) / np.where(error > 0, error, 1.0), 0.0),
    )


def expected(series: Series) -> Floats:
    """(S, P) what the line through all readings before each one says of it: no value has any part
    in what it is compared with. The first reading of each sensor stands for itself.
    """
    there, count = series.there, np.maximum(series.count, 1)[:, None]
    minutes, value = series.minutes, series.value
    middle, mean = minutes.sum(1, keepdims=True) / count, value.sum(1, keepdims=True) / count
    x, y = np.where(there, minutes - middle, 0.0), np.where(there, value - mean, 0.0)
    n = np.maximum(np.arange(there.shape[1]), 1)
    sum_x, sum_y = _before(x), _before(y)
    spread = np.maximum(_before(x * x) - sum_x * sum_x / n, 0.0)
    slope = (_before(x * y) - sum_x * sum_y / n) / (spread + ALPHA)
    said = mean + sum_y / n + slope * (x - sum_x / n)
    said[:, 0] = value[:, 0]
    return np.where(there, said, 0.0)


def _before(numbers: Floats) -> NDArray[np.float64]:
    """(S, P) sums of what lies before each column."""
    sums = np.zeros_like(numbers)
    np.cumsum(numbers[:, :-1], axis=1, out=sums[:, 1:])
    return sums
