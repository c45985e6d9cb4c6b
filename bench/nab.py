"""Each detector over the files of the Numenta Anomaly Benchmark, each file a sensor of a partition.

The rule: an alarm silences the next 50 points; the first 15 % of a file, at most 750 points, do not
count; one bound for all files, the lowest that keeps to one alarm in 1 000 points outside the
labelled windows.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from json import loads
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from bench.ewma import EwmaDetector
from bench.iforest import IsolationForestDetector
from bench.windowed_gaussian import WindowedGaussianDetector
from contract.columns import Floats, Ints
from contract.errors import SetupError
from ml.online.level_noise import LevelNoise
from ml.online.scorer import Scorer
from ml.online.self_similarity import SelfSimilarity

SILENCE = 50
ALLOWED = 1.0
"""Alarms in 1 000 points outside the windows."""
DETECTORS: dict[str, Callable[[], Scorer]] = {
    "ewma": EwmaDetector,
    "windowedGaussian": WindowedGaussianDetector,
    "isolationForest": IsolationForestDetector,
    "light": LevelNoise,
    "deep": SelfSimilarity,
}
"""Each with the parameters that it comes with."""
_MOST_BOUNDS = 400
"""How many bounds are tried between the highest score and the one that is certainly too low."""


@dataclass(frozen=True, slots=True)
class LabelledSeries:
    """One file. N points."""

    name: str
    """`category/file.csv`"""
    stamp: list[str]
    """(N,) as written in the file."""
    end: Ints
    """(N,) in ms."""
    value: Floats
    """(N,)"""
    window: Ints
    """(N,) the number of the labelled window that the point is in; -1 outside."""
    windows: int
    """How many there are."""

    @property
    def probation(self) -> int:
        """How many points at the beginning do not count."""
        return min(int(0.15 * len(self.end)), 750)


@dataclass(frozen=True, slots=True)
class Rating:
    """How a detector did by the rule."""

    found: float
    """The share of the windows with an alarm in them."""
    alarms_per_1000: float
    """Outside the windows."""
    median_delay_points: float
    """From a found window's beginning to the first alarm in it."""
    bound: float


@dataclass(frozen=True, slots=True)
class Result:
    """One row for each detector, and the figures of the two that are ours."""

    rows: list[tuple[str, Rating, float]]
    """(detector, rating, points/s)"""
    figures: dict[str, float]


def run(
    data: Path,
    out: Path,
    say: Callable[[str], None],
    detectors: Mapping[str, Callable[[], Scorer]] = DETECTORS,
) -> Result:
    """Score all files with each detector, and write what NAB's scorer reads to `out`.

    Raises:
        SetupError: a file that `windows.json` names is missing, or not in NAB's form.
    """
    every = load(data)
    rows = []
    for name, make in detectors.items():
        scores, rate = score(make(), every)
        rating = rate_scores(every, scores)
        say(f"{name}: {sum(map(len, scores)):,} points, {rate:,.0f} a second")
        rows.append((name, rating, rate))
        _write(out, name, every, scores)
    figures: dict[str, float] = {}
    for name, rating, rate in rows:
        if name in {"deep", "light"}:
            prefix = "light_" if name == "light" else ""
            figures |= {
                f"{prefix}found": round(rating.found, 4),
                f"{prefix}alarms_per_1000": round(rating.alarms_per_1000, 4),
                f"{prefix}median_delay_points": rating.median_delay_points,
                f"{prefix}points_per_s": round(rate),
            }
    return Result(rows, figures)


def load(data: Path) -> list[LabelledSeries]:
    """The files that `windows.json` names.

    Raises:
        SetupError: one is missing, or not in NAB's form.
    """
    try:
        windows = loads((data / "windows.json").read_text())
        return [_read(data, name, windows[name]) for name in sorted(windows)]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise SetupError(f"{data}: not in NAB's form: {error}") from error


def _read(data: Path, name: str, windows: Sequence[tuple[str, str]]) -> LabelledSeries:
    with (data / name).open(newline="") as file:
        lines = list(csv.DictReader(file))
    stamp = [line["timestamp"] for line in lines]
    end = _milliseconds(stamp)
    window = np.full(len(end), -1)
    for index, bounds in enumerate(windows):
        first, last = _milliseconds(bounds)
        window[(end >= first) & (end <= last)] = index
    value = np.array([float(line["value"]) for line in lines])
    return LabelledSeries(name, stamp, end, value, window, len(windows))


def _milliseconds(stamps: Sequence[str]) -> Ints:
    return np.array(stamps, "datetime64[ms]").astype(np.int64)


def score(detector: Scorer, every: Sequence[LabelledSeries]) -> tuple[list[Floats], float]:
    """The scores of all points, and how many were scored in a second.

    The n-th points of all files that have so many are one step.
    """
    length = np.array([len(series.end) for series in every])
    end = np.zeros((length.max(), len(every)), np.int64)
    value, scores = np.zeros(end.shape), np.zeros(end.shape)
    for index, series in enumerate(every):
        end[: length[index], index], value[: length[index], index] = series.end, series.value
    detector.grow(len(every))
    begun = perf_counter()
    for first, last in pairwise([0, *np.unique(length).tolist()]):
        row = np.flatnonzero(length > first)
        for point in range(first, last):
            scores[point, row] = detector.score_then_learn(row, end[point, row], value[point, row])
    rate = length.sum() / (perf_counter() - begun)
    return [scores[: length[index], index] for index in range(len(every))], rate


def rate_scores(every: Sequence[LabelledSeries], scores: Sequence[Floats]) -> Rating:
    """The rating at the lowest bound that keeps to the alarms allowed.

    Where a lower bound gives fewer alarms, since one alarm silences others, it is not looked for.
    """
    counted = [strange[series.probation :] for series, strange in zip(every, scores, strict=True)]
    bounds = np.unique(np.concatenate(counted))[::-1]
    step, best, low = max(1, len(bounds) // _MOST_BOUNDS), -1, len(bounds)
    while True:  # the bounds between the last that keeps to it and the first that does not
        for index in range(best + step, low, step):
            if _at(every, scores, bounds[index]).alarms_per_1000 > ALLOWED:
                low = index
                break
            best = index
        if step == 1:
            break
        step = max(1, step // 20)
    return _at(every, scores, bounds[max(best, 0)])


def _at(every: Sequence[LabelledSeries], scores: Sequence[Floats], bound: float) -> Rating:
    delays: list[int] = []
    alarms = outside = windows = 0
    for series, strange in zip(every, scores, strict=True):
        found: set[int] = set()
        for point in _alarms(strange, bound, series.probation):
            window = int(series.window[point])
            alarms += window < 0
            if window >= 0 and window not in found:
                found.add(window)
                delays.append(point - int(np.argmax(series.window == window)))
        outside += int((series.window[series.probation :] < 0).sum())
        windows += series.windows
    delay = float(np.median(delays)) if delays else float("nan")
    return Rating(len(delays) / windows, 1000 * alarms / outside, delay, bound)


def _alarms(strange: NDArray[np.float64], bound: float, first: int) -> list[int]:
    """The points at which an alarm is given."""
    alarms: list[int] = []
    for point in (np.flatnonzero(strange[first:] >= bound) + first).tolist():
        if not alarms or point - alarms[-1] > SILENCE:
            alarms.append(point)
    return alarms


def _write(out: Path, name: str, every: Sequence[LabelledSeries], scores: Sequence[Floats]) -> None:
    """NAB wants scores from 0 to 1: s / (1 + s), which keeps their order."""
    for series, strange in zip(every, scores, strict=True):
        category, file = series.name.split("/")
        folder = out / name / category
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}_{file}").open("w", newline="") as to:
            lines = csv.writer(to)
            lines.writerow(("timestamp", "value", "anomaly_score", "label"))
            label = (series.window >= 0).astype(int).tolist()
            share = (strange / (1 + strange)).tolist()
            lines.writerows(zip(series.stamp, series.value.tolist(), share, label, strict=True))
