"""The windows that end with a pane: w1, the pane itself, and w5 and w10, sliding by one second.

A sensor's last nine panes are kept as moments, not as readings: count, means, and second moments
about the means. A window's are put together of its panes' (the parallel form of Chan, Golub and
LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979), always
in the same order, newest first, so that no cut of the sequence changes a bit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Floats, Ints
from dataflows.panes import Panes, scale_of

KEPT = 9
"""How many panes before the newest can lie in the longest window."""
_ALL_EQUAL = 1e-9
"""Times are whole milliseconds: of two that differ the second moment is at least 5e-7 s²."""
WINDOWS = {"w1": 1, "w5": 5, "w10": 10}
"""Lengths in seconds."""
_COLUMNS = (
    "end", "count", "mean", "minimum", "maximum", "first",
    "time", "time_time", "time_value", "value_value",
)  # fmt: skip
"""What is kept of a pane; all of it fits a float64."""
_END, _COUNT, _MEAN, _LOW, _HIGH, _FIRST, _TIME, _TT, _TV, _VV = range(len(_COLUMNS))


@dataclass(frozen=True, slots=True)
class Window:
    """One window for each closed pane, ending with it. P windows, in the order of the panes."""

    count: Floats
    """(P,) readings in it; whole numbers."""
    mean: Floats
    """(P,)"""
    minimum: Floats
    """(P,)"""
    maximum: Floats
    """(P,)"""
    std: Floats
    """(P,) population standard deviation."""
    first: Floats
    """(P,) the value with the lowest event time."""
    last: Floats
    """(P,) the value with the highest event time."""
    trend: Floats
    """(P,) least-squares slope of value over event time, units per second; 0 where all times are
    equal."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of the closed panes, and what came before each pane."""

    w1: Window
    w5: Window
    w10: Window
    end_before: Ints
    """(P,) end of the sensor's pane before this one; NEVER where there is none."""
    mean_before: Floats
    """(P,) its mean; 0 where there is none."""


class WindowState:
    """The last panes of each sensor."""

    def __init__(self) -> None:
        self._kept = _nothing(0)

    def snapshot(self) -> NDArray[np.float64]:
        """(10, 9, S) the columns of the last nine panes of each sensor, oldest first."""
        return self._kept.copy()

    def restore(self, snapshot: NDArray[np.float64]) -> None:
        """Take over the state that `snapshot` was taken of."""
        self._kept = snapshot

    def step(self, panes: Panes, sensors: int) -> Windows:
        """The windows that end with `panes`. `sensors` is the number of sensors."""
        if new := sensors - self._kept.shape[2]:
            self._kept = np.concatenate((self._kept, _nothing(new)), axis=2)
        starts = np.flatnonzero(np.r_[True, panes.row[1:] != panes.row[:-1]][: len(panes.row)])
        rows = panes.row[starts]
        count = np.diff(np.r_[starts, len(panes.row)])
        # each sensor's kept panes, oldest first, and then its new ones
        begins = starts + KEPT * np.arange(len(rows))
        place = np.arange(len(panes.row)) + np.repeat(KEPT * np.arange(1, len(rows) + 1), count)
        every = np.empty((len(_COLUMNS), len(panes.row) + KEPT * len(rows)))
        slots = np.arange(KEPT)[:, None]
        every[:, begins + slots] = self._kept[:, :, rows]
        for index, name in enumerate(_COLUMNS):
            every[index, place] = getattr(panes, name)
        self._kept[:, :, rows] = every[:, begins + count + slots]

        lately = every[:, place - np.arange(KEPT + 1)[:, None]]
        age = (lately[_END, 0] - lately[_END]) / 1000.0
        before = lately[_END, 1]
        return Windows(
            w1=_window(lately[:, :1], age[:1], panes.last),
            w5=_within(lately, age, 5, panes.last),
            w10=_within(lately, age, 10, panes.last),
            end_before=np.where(before > NEVER, before, NEVER).astype(np.int64),
            mean_before=lately[_MEAN, 1],
        )


def _nothing(sensors: int) -> NDArray[np.float64]:
    kept = np.zeros((len(_COLUMNS), KEPT, sensors))
    kept[_END] = NEVER
    return kept


def _within(lately: NDArray[np.float64], age: Floats, seconds: int, last: Floats) -> Window:
    """The window over the panes that ended less than `seconds` before its end."""
    panes = lately[:, :seconds].copy()
    age = age[:seconds]
    outside = age >= seconds
    for column, neutral in ((_COUNT, 0.0), (_LOW, np.inf), (_HIGH, -np.inf)):
        panes[column][outside] = neutral
    for column in (_MEAN, _TIME, _TT, _TV, _VV):
        panes[column][outside] = 0.0
    return _window(panes, np.where(outside, 0.0, age), last)


def _window(panes: NDArray[np.float64], age: Floats, last: Floats) -> Window:
    """Put together windows of panes (columns, K, P), newest first; those with count 0 are not in.

    `age` (K, P) is how many seconds before the window's end a pane ended.
    """
    count = panes[_COUNT]
    low, high = panes[_LOW].min(axis=0), panes[_HIGH].max(axis=0)
    oldest = (count > 0).cumsum(axis=0).argmax(axis=0)
    first = np.take_along_axis(panes[_FIRST], oldest[None], axis=0)[0]
    value, time_value, value_value = panes[_MEAN], panes[_TV], panes[_VV]
    scale = scale_of(low, high)
    if scale is not None:
        small = np.where(_scaled(panes), 1.0, scale)
        value = value * scale
        time_value, value_value = time_value * small, value_value * small * small
    total = _sum(count)
    mean = _sum(count * value) / total
    bounds = (low, high) if scale is None else (low * scale, high * scale)
    mean = np.minimum(np.maximum(mean, bounds[0]), bounds[1])  # exact where all values are equal
    time = panes[_TIME] - age
    time = time - _sum(count * time) / total
    deviation = value - mean
    spread = _sum(value_value + count * deviation * deviation)
    time_time = _sum(panes[_TT] + count * time * time)
    time_value = _sum(time_value + count * time * deviation)
    std = np.sqrt(spread / total)
    trend = np.divide(time_value, time_time, out=np.zeros_like(std), where=time_time > _ALL_EQUAL)
    if scale is not None:
        with np.errstate(over="ignore"):
            mean, std, trend = mean / scale, std / scale, trend / scale
    return Window(
        count=total,
        mean=np.minimum(np.maximum(mean, low), high),
        minimum=low,
        maximum=high,
        std=std,
        first=first,
        last=last,
        trend=trend,
    )


def _sum(rows: Floats) -> Floats:
    """(P,) the sum of the K rows, one after the other: numpy's own order depends on P."""
    total: Floats = rows[0].copy()
    for row in rows[1:]:
        total += row
    return total


def _scaled(panes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(K, P) the panes whose moments are scaled already."""
    scale = scale_of(panes[_LOW], panes[_HIGH])
    return np.zeros(panes[_LOW].shape, bool) if scale is None else scale < 1.0
