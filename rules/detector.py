"""The detector: a pane is unusual for its sensor. `ml.online.partition` judges; here is what else a
kind of rule has, and the budget of false alarms.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from rules.kind import Cause, Closed, Kind, Rule, Texts
from rules.words import quantity

WARN_PER_DAY, CRITICAL_PER_DAY = 1.0, 0.1
"""False alarms of a sensor in a day, where nothing else is said."""


def _none() -> Ints:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Bounds:
    """False alarms that are expected of a sensor in a day: panes that reach the level, or a higher
    one, while nothing is wrong (a mean of the deep detector's counts once, however long its answer
    holds). More than one pane in ten is never asked for. N sensors have bounds of their own.
    """

    warn: float = WARN_PER_DAY
    critical: float = CRITICAL_PER_DAY
    sensor_id: Ints = field(default_factory=_none)
    """(N,) ascending."""
    own: Floats = field(default_factory=lambda: np.empty((2, 0)))
    """(2, N) WARN and CRITICAL of each of them."""

    def __post_init__(self) -> None:
        if not np.all(np.diff(self.sensor_id) > 0) or self.own.shape != (2, len(self.sensor_id)):
            raise ValueError("own bounds are two for each sensor, and sensors ascend")
        if not (0 < self.critical <= self.warn and (self.own > 0).all()):
            raise ValueError("0 < critical <= warn false alarms a day")

    def of(self, sensor_id: Ints) -> Floats:
        """(2, P) WARN and CRITICAL of each sensor."""
        bounds = np.empty((2, len(sensor_id)))
        bounds[0], bounds[1] = self.warn, self.critical
        if len(self.sensor_id):
            place = np.searchsorted(self.sensor_id, sensor_id).clip(max=len(self.sensor_id) - 1)
            own = self.sensor_id[place] == sensor_id
            bounds[:, own] = self.own[:, place[own]]
        return bounds


VIEWS = ("level", "noise", "quiet", "shape")
"""What of a sensor can be unusual: its value, how much it moves, that it hardly moves any more, and
how it moves."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a detector says of P panes."""

    level: NDArray[np.int8]
    """(P,) the level that each pane deserves."""
    usual: Floats
    """(P,) the value about which its sensor usually is."""
    score: Floats
    """(P,) -log10 of the share of the sensor's normal panes that are as unusual."""
    bound: Floats
    """(2, P) the scores from which it is WARN, and CRITICAL."""
    view: NDArray[np.int8]
    """(P,) index into `VIEWS`: what was most unusual."""


class DetectorKind(Kind[Rule]):
    """Has no rows of its own: every sensor is watched."""

    number = 3
    name = "detector"
    code = "TRANSIENT_ANOMALY"
    texts: ClassVar[Texts] = {
        "es": {
            "detector": "{sensor} de {device} está en {value}, algo inusual: suele estar alrededor "
                        "de {usual}.",
        },
        "en": {
            "detector": "{sensor} of {device} is at {value}, which is unlike it: it is usually at "
                        "about {usual}.",
        },
    }  # fmt: skip

    def cause(
        self, rule: Rule | None, pane: int, closed: Closed, noted: Floats, unit: str
    ) -> Cause:
        """`noted`: about which value the sensor usually is, the score, its bound, and the view."""
        usual, score, bound, view = noted.tolist()
        words = {"usual": quantity(float(f"{usual:.3g}"), unit)}
        payload = {
            "usual_value": usual,
            "score": round(score, 3),
            "score_bound": round(bound, 3),
            "unusual": VIEWS[int(view)],
        }
        return Cause("detector", words, payload)


DETECTOR = DetectorKind()
