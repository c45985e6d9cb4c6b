"""The detector: a pane is unusual for its sensor. `ml.online.partition` scores the panes; this
module has the rest of the kind, and the false-alarm budget.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from rules.kind import Cause, Closed, Kind, Rule, Texts, finite
from rules.words import quantity

WARN_PER_DAY, CRITICAL_PER_DAY = 1.0, 0.1
"""Default false alarms per sensor and day."""
_NOTHING = 1e-6
"""Figures below this are shown as 0: what is left of a mean that sinks to 0."""


def _none() -> Ints:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Allowed false alarms per sensor and day: reports of the level, or of a higher one, while
    nothing is wrong, of the detector and of deviations from predictions together. N sensors have
    their own bounds.
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
    """(P,) the level that each pane reaches or holds."""
    told: NDArray[np.int8]
    """(P,) the level that is reported: NORMAL until enough consecutive panes have reached one."""
    usual: Floats
    """(P,) the usual value of the pane's sensor."""
    score: Floats
    """(P,) -log10 of the share of the sensor's normal panes that are at least as unusual."""
    bound: Floats
    """(2, P) the scores at which a pane becomes WARN and CRITICAL; infinite for a pane whose score
    is below every bound."""
    view: NDArray[np.int8]
    """(P,) index into `VIEWS`: what was most unusual."""
    compared: Floats
    """(3, P) where a level is reported, what the view compares: the present figure, what is normal
    for it, and the usual deviation from that. For the shape, those of the noise."""
    accepted: Floats
    """(P,) the value that is accepted as normal, from the pane at which the last report ended by
    that until the next report; else NaN."""

    @classmethod
    def nothing(cls, panes: int) -> "Findings":
        """Nothing is found in any pane."""
        return cls(
            level=np.zeros(panes, np.int8),
            told=np.zeros(panes, np.int8),
            usual=np.zeros(panes),
            score=np.zeros(panes),
            bound=np.zeros((2, panes)),
            view=np.zeros(panes, np.int8),
            compared=np.zeros((3, panes)),
            accepted=np.full(panes, np.nan),
        )


class DetectorKind(Kind[Rule]):
    """Has no rows: the detector watches every sensor."""

    number = 3
    name = "detector"
    code = "TRANSIENT_ANOMALY"
    texts: ClassVar[Texts] = {
        "es": {
            "level": "{sensor} de {device} está en {value}. Su nivel es inusual: su media reciente "
                     "es {now}; suele ser {normal}, con desviaciones de unos {spread}.",
            "level, still": "{sensor} de {device} está en {value}. Su nivel es inusual: su media "
                            "reciente es {now}; suele quedarse en {normal}.",
            "noise": "{sensor} de {device} está en {value}. Se mueve más de lo habitual: {now} de "
                     "un valor al siguiente; suele ser {normal}.",
            "quiet": "{sensor} de {device} está en {value} y casi no se mueve, algo inusual: {now} "
                     "de un valor al siguiente; suele ser {normal}. Puede estar atascado.",
            "shape": "{sensor} de {device} está en {value}. Se mueve de un modo inusual: de sus "
                     "valores anteriores, solo uno de cada {rarity} se parece menos a su pasado. "
                     "Suele estar alrededor de {usual}.",
        },
        "en": {
            "level": "{sensor} of {device} is at {value}. Its level is unusual: its recent mean is "
                     "{now}; it is usually {normal}, with deviations of about {spread}.",
            "level, still": "{sensor} of {device} is at {value}. Its level is unusual: its recent "
                            "mean is {now}; it usually stays at {normal}.",
            "noise": "{sensor} of {device} is at {value}. It moves more than usual: by {now} from "
                     "one value to the next; usually by {normal}.",
            "quiet": "{sensor} of {device} is at {value} and hardly moves, which is unusual: by "
                     "{now} from one value to the next; usually by {normal}. It may be stuck.",
            "shape": "{sensor} of {device} is at {value}. How it moves is unusual: of its earlier "
                     "values, only one in {rarity} is less like its past. It is usually at about "
                     "{usual}.",
        },
    }  # fmt: skip

    def cause(
        self, rule: Rule | None, pane: int, closed: Closed, noted: Floats, unit: str
    ) -> Cause:
        """`noted`: the sensor's usual value, the score, its bound, the view, and what the view
        compares: the present figure, what is normal for it, and the usual deviation.
        """
        usual, score, bound, view, now, normal, spread = noted.tolist()
        unusual = list(VIEWS)[int(view)]
        figures = {"usual": usual, "now": now, "normal": normal, "spread": spread}
        words = {name: quantity(_rounded(figure), unit) for name, figure in figures.items()}
        words["rarity"] = quantity(_rounded(10.0 ** min(score, 6.0), 1), "")
        payload = {
            "usual_value": usual,
            "score": round(score, 3),
            "score_bound": round(bound, 3),
            "unusual": unusual,
            "unusual_value": finite(now),
            "normal_value": finite(normal),
            "normal_deviation": finite(spread),
        }
        still = unusual == "level" and not _rounded(spread)
        return Cause("level, still" if still else unusual, words, payload)


def _rounded(value: float, digits: int = 3) -> float:
    """The value to a few digits; what is too small to be a quantity is 0."""
    return float(f"{value:.{digits}g}") if abs(value) > _NOTHING else 0.0


DETECTOR = DetectorKind()
