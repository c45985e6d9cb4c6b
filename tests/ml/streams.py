"""Panes of synthetic sensors, and a helper that runs a detector over them."""

import numpy as np

SECOND = 1_000
QUARTER = 900_000


def scores(detector, value, *, step=SECOND, end=None):
    """(N, S) the scores of `detector` for (N, S) values; NaN where a value is missing."""
    value = np.asarray(value, np.float64)
    if value.ndim == 1:
        value = value[:, None]
    if end is None:
        end = np.arange(1, len(value) + 1) * step
    detector.grow(value.shape[1])
    given = np.full(value.shape, np.nan)
    for index, values in enumerate(value):
        row = np.flatnonzero(~np.isnan(values))
        if len(row):
            ends = np.full(len(row), end[index])
            given[index, row] = detector.score_then_learn(row, ends, values[row])
    return given


def noise(points, sensors=1, seed=0):
    return np.random.default_rng(seed).normal(size=(points, sensors))


def daily(days, sensors=1, step=QUARTER, seed=0):
    """A daily pattern: quiet nights, busy hours from nine to five, and some noise."""
    hour = np.arange(1, days * 86_400_000 // step + 1) * step / 3_600_000 % 24
    busy = np.where((hour > 9) & (hour <= 17), 50.0, 10.0)
    return busy[:, None] + noise(len(hour), sensors, seed)
