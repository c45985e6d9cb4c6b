"""How bad a forecast is: by the user's thresholds where there are any, else by the sensor's type.

What statistics find strange counts for less than what a user has said: a strange reading inside the
user's bounds is no more than `info`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rules.threshold import Threshold, worst

RANGES = {
    "temperature": (15.0, 35.0),
    "humidity": (30.0, 70.0),
    "air_quality": (400.0, 1000.0),
    "power": (0.0, 100_000.0),
    "voltage": (0.0, 100_000.0),
}
"""What is recommended for a type, in its unit, where no user has said anything."""
_FAR = 0.1
"""Beyond a recommended range by so much of its span the risk is HIGH."""
_BY_SEVERITY = {"critical": ("critical", "HIGH"), "warning": ("warning", "MEDIUM")}


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a forecast means."""

    severity: str
    """`info`, `warning` or `critical`."""
    risk_level: str
    """`NONE` (nothing to compare with), `LOW`, `MEDIUM` or `HIGH`."""
    breach: Threshold | None
    """The user's threshold that the forecast is beyond."""
    recommended: tuple[float, float] | None
    """The range of the sensor's type, where it was compared with that."""


def assess(
    sensor_type: str, predicted: float, thresholds: Sequence[Threshold], *, anomalous: bool
) -> Assessment:
    """Compare a forecast, and whether the newest readings are strange, with what should be."""
    if thresholds:
        breach = worst(thresholds, predicted)
        severity, risk = _BY_SEVERITY.get(breach.severity if breach else "", ("info", "LOW"))
        return Assessment(severity, risk, breach, None)
    recommended = RANGES.get(sensor_type)
    risk = _risk(predicted, recommended)
    severity = ("info", "warning", "critical")[(risk == "HIGH") + anomalous]
    return Assessment(severity, risk, None, recommended)


def anomaly_type(thresholds: Sequence[Threshold], value: float) -> str:
    """The event type of a strange reading: `notice` where the user's bounds hold it for good."""
    return "notice" if thresholds and worst(thresholds, value) is None else "warning"


def _risk(predicted: float, recommended: tuple[float, float] | None) -> str:
    if recommended is None:
        return "NONE"
    low, high = recommended
    beyond = max(low - predicted, predicted - high)
    if beyond <= 0:
        return "LOW"
    return "HIGH" if beyond > _FAR * (high - low) else "MEDIUM"
