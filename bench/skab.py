"""Detectors over SKAB's pump rigs, against an isolation forest and T-squared.

Each file is a rig with 8 sensors at 1 Hz. As is common practice for SKAB, what is normal is learned
from the first 400 points of a file and then frozen. A point counts as detected if any sensor of the
rig is WARN or worse; for each detector, WARN is the score that one normal point in 1 000 should
reach. All points of all files are counted together, including the first 400, which are normal and
never raise an alarm. The figures `_after` exclude them.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest  # type: ignore[import-untyped]

from contract.columns import Floats, Ints
from contract.errors import SetupError
from ml.online.level_noise import LevelNoise
from ml.online.scorer import Scorer
from ml.online.self_similarity import SelfSimilarity

LEARN = 400
_SENSORS = 8
_SHARE = 0.001
_WARN = float(-np.log10(_SHARE))


@dataclass(frozen=True, slots=True)
class Rig:
    """One file. N points."""

    name: str
    end: Ints
    """(N,) in ms."""
    value: Floats
    """(N, 8)"""
    anomaly: NDArray[np.bool_]
    """(N,)"""


@dataclass(frozen=True, slots=True)
class PointRating:
    """Agreement of alarms and anomalies, point by point."""

    f1: float
    false_alarm_rate: float
    """The share of the normal points with an alarm."""
    missed_alarm_rate: float
    """The share of the anomalous points without one."""


@dataclass(frozen=True, slots=True)
class Result:
    """One row per detector: over all points, and without the learning period."""

    rows: list[tuple[str, PointRating, PointRating]]
    figures: dict[str, float]


def run(data: Path) -> Result:
    """Rate all detectors.

    Raises:
        SetupError: there are no files, or one is not in SKAB's form.
    """
    rigs = load(data)
    alarms: dict[str, Callable[[Rig], NDArray[np.bool_]]] = {
        "deep": lambda rig: _any_sensor(SelfSimilarity(learn_for=LEARN), rig),
        "light": lambda rig: _any_sensor(LevelNoise(learn_for=LEARN), rig),
        "deep_adapting": lambda rig: _any_sensor(SelfSimilarity(), rig),
        "light_adapting": lambda rig: _any_sensor(LevelNoise(), rig),
        "isolation_forest": _isolation_forest,
        "t_squared": _t_squared,
    }
    rows: list[tuple[str, PointRating, PointRating]] = []
    figures: dict[str, float] = {}
    for name, alarm in alarms.items():
        given = [alarm(rig) for rig in rigs]
        whole, after = _rate(rigs, given, 0), _rate(rigs, given, LEARN)
        rows.append((name, whole, after))
        prefix = "" if name == "deep" else f"{name}_"
        figures |= {
            f"{prefix}f1": round(whole.f1, 4),
            f"{prefix}false_alarm_rate": round(whole.false_alarm_rate, 4),
            f"{prefix}missed_alarm_rate": round(whole.missed_alarm_rate, 4),
            f"{prefix}f1_after": round(after.f1, 4),
            f"{prefix}false_alarm_rate_after": round(after.false_alarm_rate, 4),
        }
    return Result(rows, figures)


def load(data: Path) -> list[Rig]:
    """Read the labelled files.

    Raises:
        SetupError: there are none, or one is not in SKAB's form.
    """
    paths = sorted(path for path in data.glob("*/*.csv") if path.parent.name != "anomaly-free")
    if not paths:
        raise SetupError(f"{data}: there are no SKAB files here")
    return [_read(path) for path in paths]


def _read(path: Path) -> Rig:
    try:
        with path.open(newline="") as file:
            lines = list(csv.reader(file, delimiter=";"))[1:]
        return Rig(
            name=f"{path.parent.name}/{path.name}",
            end=np.array([line[0] for line in lines], "datetime64[ms]").astype(np.int64),
            value=np.array([line[1 : _SENSORS + 1] for line in lines], np.float64),
            anomaly=np.array([line[_SENSORS + 1] for line in lines], np.float64) > 0,
        )
    except (OSError, ValueError, IndexError) as error:
        raise SetupError(f"{path}: not in SKAB's form: {error}") from error


def _any_sensor(detector: Scorer, rig: Rig) -> NDArray[np.bool_]:
    detector.grow(_SENSORS)
    row, warn = np.arange(_SENSORS), np.zeros(len(rig.end), bool)
    for point, end in enumerate(rig.end):
        score = detector.score_then_learn(row, np.full(_SENSORS, end), rig.value[point])
        warn[point] = score.max() >= _WARN
    warn[:LEARN] = False
    return warn


def _isolation_forest(rig: Rig) -> NDArray[np.bool_]:
    """With the threshold of SKAB's own example: half a percent of the learning period."""
    forest = IsolationForest(contamination=0.005, random_state=0).fit(rig.value[:LEARN])
    return np.asarray(forest.predict(rig.value) < 0)


def _t_squared(rig: Rig) -> NDArray[np.bool_]:
    """Hotelling, "The generalization of Student's ratio", 1931."""
    learning = rig.value[:LEARN]
    off = rig.value - learning.mean(axis=0)
    inverse = np.linalg.pinv(np.cov(learning.T))
    distance = ((off @ inverse) * off).sum(axis=1)
    return np.asarray(distance > np.quantile(distance[:LEARN], 1.0 - _SHARE))


def _rate(rigs: Sequence[Rig], given: Sequence[NDArray[np.bool_]], first: int) -> PointRating:
    alarm = np.concatenate([of_rig[first:] for of_rig in given])
    anomaly = np.concatenate([rig.anomaly[first:] for rig in rigs])
    hit, false = int((alarm & anomaly).sum()), int((alarm & ~anomaly).sum())
    missed, normal = int((~alarm & anomaly).sum()), int((~anomaly).sum())
    return PointRating(
        f1=2 * hit / (2 * hit + false + missed),
        false_alarm_rate=false / normal,
        missed_alarm_rate=missed / (hit + missed),
    )
