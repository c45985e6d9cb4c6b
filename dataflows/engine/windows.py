"""The windows that end with a pane: w1 is the pane itself, w5 and w10 slide by one second.

A sensor's last nine panes are kept as moments, not as readings: count, means, and second moments
about the means. The moments of a window are combined from those of its panes (the parallel form of
Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
variances", 1979), always newest first, so that results are the same to the bit for every split of
the sequence into pieces.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Floats, Ints, concatenate
from contract.table import ROWS, Table, block
from dataflows.engine.panes import scale_of
from dataflows.segments import begins, lengths
from rules.panes import WINDOWS, Panes, Window, Windows

_SLIDING = {name: seconds for name, seconds in WINDOWS.items() if seconds > 1}
KEPT = max(WINDOWS.values()) - 1
"""The most panes before the newest one in the longest window."""
SHOWN = 10
"""How many of the newest panes an event shows."""
_ALL_EQUAL = 1e-9
"""Times are whole milliseconds: two different ones have a second moment of at least 5e-7 s²."""
_AT_ONCE = 2_500
_MOST = float(np.finfo(np.float64).max)
_COLUMNS = (
    "end", "count", "mean", "minimum", "maximum", "first",
    "time", "time_time", "time_value", "value_value",
)  # fmt: skip
"""The columns that are kept of a pane. All of them fit a float64."""
_END, _COUNT, _MEAN = (_COLUMNS.index(name) for name in ("end", "count", "mean"))


class WindowState(Table):
    """The last panes of each sensor."""

    kept: NDArray[np.float64] = block(
        {name: float(NEVER) if name == "end" else 0.0 for name in _COLUMNS}, shape=(KEPT, ROWS)
    )
    """(10, 9, S) the columns of the last nine panes of each sensor, newest first; a missing pane
    ends at NEVER."""

    def step(self, panes: Panes, sensors: int) -> Windows:
        """The windows that end with `panes`. `sensors` is the number of sensors."""
        self.grow(sensors)
        if len(panes.row) <= _AT_ONCE:
            return self._step(panes)
        # split into parts that fit in the CPU cache; a sensor's panes are in one part
        cuts = np.searchsorted(panes.row, panes.row[_AT_ONCE::_AT_ONCE])
        bounds = [0, *np.unique(cuts[cuts > 0]).tolist(), len(panes.row)]
        parts = [
            self._step(replace(panes, **{n: getattr(panes, n)[a:b] for n in Panes.__slots__}))
            for a, b in pairwise(bounds)
        ]
        return Windows(
            by_name={name: concatenate([part.by_name[name] for part in parts]) for name in WINDOWS},
            end_before=np.concatenate([part.end_before for part in parts]),
            mean_before=np.concatenate([part.mean_before for part in parts]),
            lately_end=np.concatenate([part.lately_end for part in parts], axis=1),
            lately_count=np.concatenate([part.lately_count for part in parts], axis=1),
            lately_mean=np.concatenate([part.lately_mean for part in parts], axis=1),
        )

    def since(self, end: int, rows: Ints, device: Ints) -> Panes:
        """The last panes of some sensors that end after `end`, in order. `device` (S,) is the
        device of each sensor. Of several readings, the last is not known: the mean stands for it.
        """
        cells = dict(zip(_COLUMNS, self.kept[:, ::-1, rows].transpose(0, 2, 1), strict=True))
        wanted = cells["end"] > max(end, NEVER)
        row = rows[np.nonzero(wanted)[0]]
        by_name = {name: values[wanted] for name, values in cells.items()}
        ends, counts = by_name.pop("end"), by_name.pop("count")
        return Panes(
            row=row,
            device=device[row],
            end=ends.astype(np.int64),
            count=counts.astype(np.int64),
            last=by_name["mean"],
            **by_name,
        )

    def _step(self, panes: Panes) -> Windows:
        starts = np.flatnonzero(begins(panes.row))
        rows = panes.row[starts]
        count = lengths(starts, len(panes.row))
        new = np.array([getattr(panes, name) for name in _COLUMNS], np.float64)
        if len(rows) == len(panes.row):  # one pane per sensor, as in most live pieces
            place = _as_slice(rows)
            lately = np.concatenate((new[:, None], self.kept[:, :, place]), axis=1)
            self.kept[:, :, place] = lately[:, :KEPT]
        else:
            lately = self._shift(new, rows, starts, count)
        before = lately[_END, 1].copy()
        mean_before = lately[_MEAN, 1].copy()
        count_lately = lately[
            _COUNT, :SHOWN
        ].copy()  # `_windows` overwrites it, but not ends and means
        sliding = _windows(lately, panes.last, tuple(_SLIDING.values()))
        return Windows(
            by_name={"w1": _pane_alone(panes)} | dict(zip(_SLIDING, sliding, strict=True)),
            end_before=np.where(before > NEVER, before, NEVER).astype(np.int64),
            mean_before=mean_before,
            lately_end=lately[_END, :SHOWN],
            lately_count=count_lately,
            lately_mean=lately[_MEAN, :SHOWN],
        )

    def _shift(
        self, new: NDArray[np.float64], rows: Ints, starts: Ints, count: Ints
    ) -> NDArray[np.float64]:
        """(columns, 10, P) each new pane and the nine before it, newest first. Keeps the last nine
        of each sensor.
        """
        columns = _as_slice(rows)
        kept = self.kept[:, :, columns].reshape(len(_COLUMNS), -1)
        every = np.concatenate((kept, new), axis=1)

        def place(before: Ints, row: Ints, start: Ints) -> Ints:
            """The index of the pane that is `before` panes before a sensor's first new one; after
            it if negative.
            """
            return np.where(
                before > 0, (before - 1) * len(rows) + row, kept.shape[1] + start - before
            )

        every_row, step = np.arange(len(rows)), np.arange(KEPT + 1)[:, None]
        stays = place(step[:KEPT] + 1 - count, every_row, starts)
        self.kept[:, :, columns] = np.take(every, stays, axis=1)
        start = np.repeat(starts, count)
        nth = np.arange(new.shape[1]) - start
        return np.take(every, place(step - nth, np.repeat(every_row, count), start), axis=1)


def _as_slice(rows: Ints) -> Ints | slice:
    """Ascending rows, as a slice if they are contiguous: numpy then copies whole blocks."""
    if not len(rows):
        return slice(0)
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows


def _pane_alone(panes: Panes) -> Window:
    """The window of one pane."""
    std = np.sqrt(panes.value_value / panes.count)
    trend, fit = _slope(panes.time_value, panes.time_time, panes.value_value)
    scale = scale_of(panes.minimum, panes.maximum)
    if scale is not None:
        with np.errstate(over="ignore"):
            std, trend = std / scale, np.clip(trend / scale, -_MOST, _MOST)
    return Window(
        count=panes.count.astype(np.float64),
        mean=panes.mean,
        minimum=panes.minimum,
        maximum=panes.maximum,
        std=std,
        first=panes.first,
        last=panes.last,
        trend=trend,
        fit=fit,
    )


def _windows(lately: NDArray[np.float64], last: Floats, lengths: tuple[int, ...]) -> list[Window]:
    """The sliding windows over panes (columns, 10, P), newest first. The input is overwritten.

    Panes are in order, so a window is a prefix of them, and its sums are one place in the running
    sums from the newest pane. Values and times are relative to the means of the newest pane, which
    keeps deviations small.
    """
    end, count, mean, low, high, first, time, time_time, time_value, value_value = lately
    age = (end[0] - end) / 1000.0
    scale = scale_of(low, high)
    if scale is not None and len(lengths) > 1:  # a pane outside a window must not scale it
        return [_windows(_inside(lately, age, s), last, (s,))[0] for s in lengths]
    if scale is not None:  # scale all moments like those of the largest pane
        largest = np.minimum.reduce(scale)
        small = np.where(scale < 1.0, 1.0, largest)
        mean = mean * largest
        time_value, value_value = time_value * small, value_value * small * small
    newest = mean[0].copy()
    mean = mean - newest
    time = time - age
    time -= time[0].copy()
    weighted = count * mean
    timed = count * time
    value_value = value_value + weighted * mean
    time_time = time_time + timed * time
    time_value = time_value + weighted * time
    for rows in (count, weighted, timed, value_value, time_time, time_value):
        _run(np.add, rows)
    _run(np.minimum, low)
    _run(np.maximum, high)
    across = np.arange(len(last))
    windows = []
    for seconds in lengths:
        oldest = np.count_nonzero(age < seconds, axis=0) - 1
        pick = oldest * len(last) + across
        total, value, at, spread, times, slope, lowest, highest, earliest = (
            np.take(rows, pick)
            for rows in (
                count, weighted, timed, value_value, time_time, time_value, low, high, first
            )
        )  # fmt: skip
        value, at = value / total, at / total
        spread = np.maximum(spread - total * value * value, 0.0)
        std = np.sqrt(spread / total)
        trend, fit = _slope(slope - total * value * at, times - total * at * at, spread)
        if scale is None:
            value = newest + value
        else:
            with np.errstate(over="ignore"):
                value = (newest + value) / largest
                std, trend = std / largest, np.clip(trend / largest, -_MOST, _MOST)
        windows.append(
            Window(
                count=total,
                mean=np.minimum(np.maximum(value, lowest), highest),
                minimum=lowest,
                maximum=highest,
                std=std,
                first=earliest,
                last=last,
                trend=trend,
                fit=fit,
            )
        )
    return windows


def _inside(lately: NDArray[np.float64], age: Floats, seconds: int) -> NDArray[np.float64]:
    """The panes, with all columns but the ends set to 0 for panes outside the window."""
    inside: NDArray[np.float64] = np.where(age < seconds, lately, 0.0)
    inside[_END] = lately[_END]
    return inside


def _slope(time_value: Floats, time_time: Floats, value_value: Floats) -> tuple[Floats, Floats]:
    """Trend and fit from second moments."""
    known = time_time > _ALL_EQUAL
    trend = np.divide(time_value, time_time, out=np.zeros_like(time_value), where=known)
    known &= value_value > 0
    fit = np.divide(trend * time_value, value_value, out=np.zeros_like(trend), where=known)
    return trend, np.minimum(fit, 1.0)


def _run(combine: np.ufunc, rows: Floats) -> None:
    """Replace each of the K rows (K, P) by the running result up to it, in place."""
    for index in range(1, len(rows)):
        combine(rows[index - 1], rows[index], out=rows[index])
