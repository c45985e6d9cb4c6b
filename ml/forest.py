"""Which of the newest readings are strange, by one isolation forest for many sensors of a type.

Liu, Ting and Zhou, "Isolation forest" (2008). A forest for each sensor would cost 0.1 s a sensor;
one for hundreds of sensors is possible because residuals are in each sensor's own scale. What that
changes: what is rare is rare among the sensors of the type, not for the one sensor. The share of
readings that is flagged is kept over all of them; a sensor whose noise has a shape of its own gets
more or less than its part, which the scale, made of its own tail, keeps small.

The bound is not a share of what the forest has grown from: it is the rank that is exceeded by one
held-out reading in a thousand (as in inductive conformal prediction; Vovk and others, 2005). Beyond
all that it has seen a forest says the same of everything: there the greater deviation is stranger.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest  # type: ignore[import-untyped]

from contract.columns import Floats, Ints
from ml.residuals import Residuals

SHARE = 0.001
"""Of normal readings at most so many are flagged; with less than 999 held out one in so many of
them and one more.
"""
LEAST = 4.0
"""Deviations, in scales, below which nothing is strange, however few there are to compare with."""
_TREES, _SAMPLE, _SEED = 100, 256, 42
_TRAINED, _HELD_OUT = 50_000, 20_000
"""So many residuals are enough, evenly taken."""
_TIE = 1e-6


@dataclass(frozen=True, slots=True)
class Anomalies:
    """The strangest of each sensor's newest readings."""

    column: Ints
    """(S,) where it is; -1: none is strange."""
    score: Floats
    """(S,) 0.5 to 1, from 4 scales on up; 0 where none is strange."""
    deviation: Floats
    """(S,) in scales; 0 where none is strange."""


def anomalies(found: Residuals) -> Anomalies:
    """Grow a forest from the older residuals of these sensors, and judge the newest ones by it.

    The same residuals lead to the same result.
    """
    deviation = found.deviation
    strange = np.zeros(deviation.shape)
    row, place = np.nonzero(found.newest & (deviation >= LEAST))
    trained, held_out = found.feature[found.trained], found.feature[found.held_out]
    if len(row) and len(trained) and len(held_out):
        forest = IsolationForest(
            n_estimators=_TREES, max_samples=min(_SAMPLE, len(trained)), random_state=_SEED
        )
        forest.fit(_evenly(trained, _TRAINED))
        bound = _bound(_rank(forest, _evenly(held_out, _HELD_OUT)))
        flagged = _rank(forest, found.feature[row, place]) > bound
        strange[row[flagged], place[flagged]] = deviation[row[flagged], place[flagged]]
    most = strange.max(axis=1, initial=0.0)
    return Anomalies(
        column=np.where(most > 0, strange.argmax(axis=1), -1),
        score=np.where(most > 0, 1.0 - 2.0 / np.maximum(most, LEAST), 0.0),
        deviation=most,
    )


def _rank(forest: IsolationForest, feature: NDArray[np.float64]) -> Floats:
    greatest = np.abs(feature).max(axis=1)
    rank: Floats = _TIE * np.log1p(greatest) - forest.score_samples(feature)
    return rank


def _bound(rank: Floats) -> float:
    """What the share of normal ranks exceeds: with few of them, the highest."""
    place = min(ceil((len(rank) + 1) * (1.0 - SHARE)), len(rank)) - 1
    return float(np.sort(rank)[place])


def _evenly(feature: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    step = -(-len(feature) // most)
    return feature[::step]
