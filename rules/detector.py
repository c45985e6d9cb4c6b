"""The detector: a pane is unusual for its sensor. `ml.online.partition` scores the panes; this
module has the rest of the kind, and the false-alarm budget.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from rules.kind import Cause, Closed, Kind, Rule, Texts
from rules.words import quantity

WARN_PER_DAY, CRITICAL_PER_DAY = 1.0, 0.1
"""Default false alarms per sensor and day."""


def _none() -> Ints:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Expected false alarms per sensor and day: panes that reach the level, or a higher one, while
    nothing is wrong. A mean of the deep detector counts once, however long its answer holds. The
    rate is capped at one pane in ten. N sensors have their own bounds.
    """

    warn: float = WARN_PER_DAY
    critical: float = CRITICAL_PER_DAY
    sensor_id: Ints = field(default_factory=_none)
    """(N,) ascending."""
    own: Floats = field(default_factory=lambda: np.empty((2, 0)))
    """(2, N) their WARN and CRITICAL bounds."""
    since: Ints = field(default_factory=_none)
    """(N,) the event time from which they have them, epoch milliseconds UTC; empty: always."""

    def __post_init__(self) -> None:
        if not np.all(np.diff(self.sensor_id) > 0) or self.own.shape != (2, len(self.sensor_id)):
            raise ValueError("Bounds: own must be (2, N), and sensor_id must ascend")
        if not (0 < self.critical <= self.warn and (self.own > 0).all()):
            raise ValueError("Bounds: 0 < critical <= warn must hold for false alarms per day")

    def of(self, sensor_id: Ints, at: Ints) -> Floats:
        """(2, P) WARN and CRITICAL bounds of each sensor at the event times `at` (P,)."""
        bounds = np.empty((2, len(sensor_id)))
        bounds[0], bounds[1] = self.warn, self.critical
        if len(self.sensor_id):
            place = np.searchsorted(self.sensor_id, sensor_id).clip(max=len(self.sensor_id) - 1)
            own = self.sensor_id[place] == sensor_id
            if len(self.since):
                own &= at >= self.since[place]
            bounds[:, own] = self.own[:, place[own]]
        return bounds


VIEWS = {
    "level": "its value",
    "noise": "how much it moves",
    "quiet": "that it hardly moves",
    "shape": "how it moves",
}
"""What of a sensor can be unusual, by name, and in words; events have the name."""


@dataclass(frozen=True, slots=True)
class Findings:
    """A detector's result for P panes."""

    level: NDArray[np.int8]
    """(P,) the level of each pane."""
    usual: Floats
    """(P,) the usual value of the pane's sensor."""
    score: Floats
    """(P,) -log10 of the share of the sensor's normal panes that are at least as unusual."""
    bound: Floats
    """(2, P) the scores at which a pane becomes WARN and CRITICAL."""
    view: NDArray[np.int8]
    """(P,) index into `VIEWS`: what was most unusual."""


class DetectorKind(Kind[Rule]):
    """Has no rows: the detector watches every sensor."""

    number = 3
    name = "detector"
    code = "TRANSIENT_ANOMALY"
    texts: ClassVar[Texts] = {
        "es": {
            "detector": "{sensor} de {device} está en {value}, algo inusual: suele estar alrededor "
                        "de {usual}.",
        },
        "en": {
            "detector": "{sensor} of {device} is at {value}, which is unusual: it is usually at "
                        "about {usual}.",
        },
    }  # fmt: skip

    def cause(
        self, rule: Rule | None, pane: int, closed: Closed, noted: Floats, unit: str
    ) -> Cause:
        """`noted`: the sensor's usual value, the score, its bound, and the view."""
        usual, score, bound, view = noted.tolist()
        words = {"usual": quantity(float(f"{usual:.3g}"), unit)}
        payload = {
            "usual_value": usual,
            "score": round(score, 3),
            "score_bound": round(bound, 3),
            "unusual": list(VIEWS)[int(view)],
        }
        return Cause("detector", words, payload)


DETECTOR = DetectorKind()
