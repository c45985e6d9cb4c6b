"""Which of the newest readings are strange, by one isolation forest for many sensors of a type.

Liu, Ting and Zhou, "Isolation forest" (2008). A forest for each sensor would cost 0.1 s a sensor;
one for hundreds of sensors is possible because residuals are in each sensor's own scale. What that
changes: what is rare is rare among the sensors of the type, not for the one sensor. The share of
readings that is flagged is kept over all of them; a sensor whose noise has a shape of its own gets
more or less than its part, which the scale, made of its own tail, keeps small.

A bound is not a share of what the forest has grown from: it is the rank that one held-out reading
in two thousand exceeds (as in inductive conformal prediction; Vovk and others, 2005). A forest sees
odd combinations, but says the same of everything beyond what it has seen, or less; so the deviation
by itself is a second chance, with a bound of the same kind.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest  # type: ignore[import-untyped]

from contract.columns import Floats, Ints
from ml.predict.residuals import Residuals

SHARE = 0.001
"""Of normal readings at most so many are flagged, half by either bound. With less than 2000 held
out a bound is the highest of them.
"""
LEAST = 4.0
"""Deviations, in scales, below which nothing is strange, however few there are to compare with."""
_TREES, _SAMPLE, _SEED = 100, 256, 42
_TRAINED, _HELD_OUT = 50_000, 20_000
"""So many residuals are enough, evenly taken."""


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
    trained = _evenly(found.feature[found.trained], _TRAINED)
    held_out = _evenly(found.feature[found.held_out], _HELD_OUT)
    if len(row) and len(trained) and len(held_out):
        forest = IsolationForest(
            n_estimators=_TREES, max_samples=min(_SAMPLE, len(trained)), random_state=_SEED
        ).fit(trained)
        flagged = _beyond(
            -forest.score_samples(found.feature[row, place]), -forest.score_samples(held_out)
        ) | _beyond(deviation[row, place], deviation[found.held_out])
        strange[row[flagged], place[flagged]] = deviation[row[flagged], place[flagged]]
    most = strange.max(axis=1, initial=0.0)
    return Anomalies(
        column=np.where(most > 0, strange.argmax(axis=1), -1),
        score=np.where(most > 0, 1.0 - 2.0 / np.maximum(most, LEAST), 0.0),
        deviation=most,
    )


def _beyond(rank: Floats, held_out: Floats) -> NDArray[np.bool_]:
    """Which ranks are above what half the share of those held out exceeds."""
    place = min(ceil((len(held_out) + 1) * (1.0 - SHARE / 2)), len(held_out)) - 1
    above: NDArray[np.bool_] = rank > np.partition(held_out, place)[place]
    return above


def _evenly(feature: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    return feature[:: max(-(-len(feature) // most), 1)]
