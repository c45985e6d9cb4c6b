"""Runs each detector over the files of the Numenta Anomaly Benchmark; each file is one sensor.

The rule: an alarm mutes the next 50 points. The first 15 % of a file, at most 750 points, do not
count. There is one bound for all files, the lowest with at most one alarm in 1 000 points outside
the labelled windows.
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
"""Maximum number of alarms per 1 000 points outside the windows."""
DETECTORS: dict[str, Callable[[], Scorer]] = {
    "ewma": EwmaDetector,
    "windowedGaussian": WindowedGaussianDetector,
    "isolationForest": IsolationForestDetector,
    "light": LevelNoise,
    "deep": SelfSimilarity,
}
"""Each with its default parameters."""
_MOST_BOUNDS = 400
"""Number of bounds tried in the first pass, from the highest score to the lowest."""


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
    """Number of labelled windows."""

    @property
    def probation(self) -> int:
        """Number of points at the beginning that do not count."""
        return min(int(0.15 * len(self.end)), 750)


@dataclass(frozen=True, slots=True)
class Rating:
    """The results of a detector under the rule."""

    found: float
    """The share of the windows with an alarm in them."""
    alarms_per_1000: float
    """Outside the windows."""
    median_delay_points: float
    """From the start of a window to the first alarm in it."""
    bound: float


@dataclass(frozen=True, slots=True)
class Result:
    """One row per detector, and the figures of our two detectors."""

    rows: list[tuple[str, Rating, float]]
    """(detector, rating, points/s)"""
    figures: dict[str, float]


def run(
    data: Path,
    out: Path,
    progress: Callable[[str], None],
    detectors: Mapping[str, Callable[[], Scorer]] = DETECTORS,
) -> Result:
    """Score all files with each detector, and write the input of NAB's scorer to `out`.

    Raises:
        SetupError: a file that `windows.json` names is missing, or not in NAB's form.
    """
    every = load(data)
    rows = []
    for name, make in detectors.items():
        scores, rate = score(make(), every)
        rating = rate_scores(every, scores)
        progress(f"{name}: {sum(map(len, scores)):,} points, {rate:,.0f} per second")
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
    """Read the files that `windows.json` names.

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
    """The scores of all points, and the number of points scored per second.

    One step scores the n-th point of every file that is long enough.
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
    """The rating at the lowest bound with at most `ALLOWED` alarms.

    The search stops at the first bound with too many alarms, although an even lower one may have
    fewer because one alarm mutes others.
    """
    counted = [of_file[series.probation :] for series, of_file in zip(every, scores, strict=True)]
    bounds = np.unique(np.concatenate(counted))[::-1]
    step, best, low = max(1, len(bounds) // _MOST_BOUNDS), -1, len(bounds)
    while True:  # search between the last bound that is allowed and the first that is not
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
    for series, of_file in zip(every, scores, strict=True):
        detected: set[int] = set()
        for point in _alarms(of_file, bound, series.probation):
            window = int(series.window[point])
            alarms += window < 0
            if window >= 0 and window not in detected:
                detected.add(window)
                delays.append(point - int(np.argmax(series.window == window)))
        outside += int((series.window[series.probation :] < 0).sum())
        windows += series.windows
    delay = float(np.median(delays)) if delays else float("nan")
    return Rating(len(delays) / windows, 1000 * alarms / outside, delay, bound)


def _alarms(scores: NDArray[np.float64], bound: float, first: int) -> list[int]:
    """The points that raise an alarm."""
    alarms: list[int] = []
    for point in (np.flatnonzero(scores[first:] >= bound) + first).tolist():
        if not alarms or point - alarms[-1] > SILENCE:
            alarms.append(point)
    return alarms


def _write(out: Path, name: str, every: Sequence[LabelledSeries], scores: Sequence[Floats]) -> None:
    """Write the scores as s / (1 + s): NAB expects 0 to 1, and this keeps their order."""
    for series, of_file in zip(every, scores, strict=True):
        category, file = series.name.split("/")
        folder = out / name / category
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}_{file}").open("w", newline="") as to:
            lines = csv.writer(to)
            lines.writerow(("timestamp", "value", "anomaly_score", "label"))
            label = (series.window >= 0).astype(int).tolist()
            share = (of_file / (1 + of_file)).tolist()
            lines.writerows(zip(series.stamp, series.value.tolist(), share, label, strict=True))
