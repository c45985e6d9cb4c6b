"""Ridge regression: a straight line through the readings of each sensor, all sensors at once.

Hoerl and Kennard, "Ridge regression" (1970), with one variable: minutes since the first reading.
With the penalty of 1, the shorter the observed time, the flatter the line. The intercept is not
penalised. Sums are over centred values, to keep precision.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats
from ml.predict.series import Series

ALPHA = 1.0
"""The penalty, as in the previous system."""
_MEMORY = 0.9999


@dataclass(frozen=True, slots=True)
class Lines:
    """One line for each of S sensors."""

    slope: Floats
    """(S,) units per minute."""
    intercept: Floats
    """(S,) value at the sensor's first reading."""
    scatter: Floats
    """(S,) standard deviation of the readings from the line."""
    r2: Floats
    """(S,) share of the variance that the line explains, 0 to 1; 0 where there is no variance."""
    certainty: Floats
    """(S,) the slope in standard errors, assuming independent readings; at most 1e6."""
    memory: Floats
    """(S,) autocorrelation of the residuals of consecutive readings, 0 to 1."""

    def at(self, minutes: Floats) -> Floats:
        """(S,) values at `minutes` after the first reading."""
        return self.intercept + self.slope * minutes


def fit(series: Series) -> Lines:
    """The ridge line through all readings of each sensor; zeros for a sensor without readings."""
    x, y, _, _ = _centred(series)
    return with_slope(series, (x * y).sum(1) / ((x * x).sum(1) + ALPHA))


def with_slope(series: Series, slope: Floats) -> Lines:
    """The line with the given slope (S,) through the mean of each sensor's readings."""
    x, y, middle, mean = _centred(series)
    count = np.maximum(series.count, 1)
    total = (y * y).sum(1)
    varies = total > 0
    slope = np.where(varies, slope, 0.0)
    residual = np.where(series.there & varies[:, None], y - slope[:, None] * x, 0.0)
    squares = (residual * residual).sum(1)
    some = np.where(squares > 0, squares, 1.0)
    scatter = np.sqrt(squares / count)
    error = np.maximum(scatter / np.sqrt((x * x).sum(1) + ALPHA), 1e-6 * np.abs(slope))
    return Lines(
        slope=slope,
        intercept=mean - slope * middle,
        scatter=scatter,
        r2=np.where(varies, np.clip(1.0 - squares / np.where(varies, total, 1.0), 0.0, 1.0), 0.0),
        certainty=np.abs(slope) / np.where(error > 0, error, 1.0),
        memory=np.clip((residual[:, 1:] * residual[:, :-1]).sum(1) / some, 0.0, _MEMORY),
    )


def expected(series: Series) -> Floats:
    """(S, P) for each reading, the value of the line through all earlier readings, so no reading
    contributes to the value it is compared with. For a sensor's first reading: that reading.
    """
    x, y, _, mean = _centred(series)
    n = np.maximum(np.arange(x.shape[1]), 1)
    sum_x, sum_y = _before(x), _before(y)
    spread = np.maximum(_before(x * x) - sum_x * sum_x / n, 0.0)
    slope = (_before(x * y) - sum_x * sum_y / n) / (spread + ALPHA)
    line = mean[:, None] + sum_y / n + slope * (x - sum_x / n)
    line[:, 0] = series.value[:, 0]
    return np.where(series.there, line, 0.0)


def _centred(series: Series) -> tuple[Floats, Floats, Floats, Floats]:
    """Centred minutes and values, 0 for padding, (S, P); and their means (S,)."""
    count, minutes = np.maximum(series.count, 1), series.minutes
    middle, mean = minutes.sum(1) / count, series.value.sum(1) / count
    x = np.where(series.there, minutes - middle[:, None], 0.0)
    y = np.where(series.there, series.value - mean[:, None], 0.0)
    return x, y, middle, mean


def _before(numbers: Floats) -> NDArray[np.float64]:
    """(S, P) sums of all earlier columns."""
    sums = np.zeros_like(numbers)
    np.cumsum(numbers[:, :-1], axis=1, out=sums[:, 1:])
    return sums
