"""Detects anomalous readings with one isolation forest for many sensors of a type.

Liu, Ting and Zhou, "Isolation forest" (2008). A forest per sensor would cost 0.1 s per sensor. One
forest for hundreds of sensors works because residuals are in each sensor's own scale. The
consequence: a rare reading is rare among the sensors of the type, not for that one sensor. The
share of flagged readings holds over all of them; a sensor with an unusual noise distribution gets
more or less than its share, but not by much, because its scale is derived from its own tail.

The bound is not a quantile of the training data: it is the score that one held-out reading in two
thousand exceeds (as in inductive conformal prediction; Vovk and others, 2005). A forest detects
unusual combinations, but gives the same score, or a lower one, to everything outside the range it
was trained on. The deviation itself is therefore tested as well, with a bound of the same kind.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest  # type: ignore[import-untyped]

from contract.columns import Floats, Ints
from ml.predict.residuals import Residuals

SHARE = 0.001
"""At most this share of normal readings is flagged, half by each bound. With fewer than 2000
held-out readings, a bound is the highest of them.
"""
LEAST = 4.0
"""A smaller deviation, in scales, is never anomalous, however few readings there are to compare."""
_TREES, _SAMPLE, _SEED = 100, 256, 42
_TRAINED, _HELD_OUT = 50_000, 20_000
"""Maximum numbers of residuals used, sampled evenly."""


@dataclass(frozen=True, slots=True)
class Anomalies:
    """The most anomalous of each sensor's newest readings."""

    column: Ints
    """(S,) its column; -1: no anomaly."""
    score: Floats
    """(S,) 0.5 to 1, from a deviation of 4 scales upwards; 0 where there is no anomaly."""
    deviation: Floats
    """(S,) in scales; 0 where there is no anomaly."""


def anomalies(residuals: Residuals) -> Anomalies:
    """Fit a forest to the older residuals of these sensors, and test the newest ones with it.

    The result is deterministic.
    """
    deviation = residuals.deviation
    anomalous = np.zeros(deviation.shape)
    row, place = np.nonzero(residuals.newest & (deviation >= LEAST))
    trained = _evenly(residuals.feature[residuals.trained], _TRAINED)
    held_out = _evenly(residuals.feature[residuals.held_out], _HELD_OUT)
    if len(row) and len(trained) and len(held_out):
        forest = IsolationForest(
            n_estimators=_TREES, max_samples=min(_SAMPLE, len(trained)), random_state=_SEED
        ).fit(trained)
        flagged = _beyond(
            -forest.score_samples(residuals.feature[row, place]), -forest.score_samples(held_out)
        ) | _beyond(deviation[row, place], deviation[residuals.held_out])
        anomalous[row[flagged], place[flagged]] = deviation[row[flagged], place[flagged]]
    most = anomalous.max(axis=1, initial=0.0)
    return Anomalies(
        column=np.where(most > 0, anomalous.argmax(axis=1), -1),
        score=np.where(most > 0, 1.0 - 2.0 / np.maximum(most, LEAST), 0.0),
        deviation=most,
    )


def _beyond(rank: Floats, held_out: Floats) -> NDArray[np.bool_]:
    """Which ranks exceed the bound: the rank that half of `SHARE` of the held-out ones exceed."""
    place = min(ceil((len(held_out) + 1) * (1.0 - SHARE / 2)), len(held_out)) - 1
    above: NDArray[np.bool_] = rank > np.partition(held_out, place)[place]
    return above


def _evenly(feature: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    return feature[:: max(-(-len(feature) // most), 1)]
