"""Severity of a forecast: by the user's thresholds if there are any, else by the sensor's type.

The user's thresholds outrank statistics: an anomalous reading inside the user's bounds is at most
`info`.
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
"""Recommended range per type, in its unit; used where the user has set no thresholds."""
_FAR = 0.1
"""Beyond a recommended range by more than this share of its span, the risk is HIGH."""
_BY_SEVERITY = {"critical": ("critical", "HIGH"), "warning": ("warning", "MEDIUM")}


@dataclass(frozen=True, slots=True)
class Assessment:
    """Severity and risk of a forecast."""

    severity: str
    """`info`, `warning` or `critical`."""
    risk_level: str
    """`NONE` (nothing to compare with), `LOW`, `MEDIUM` or `HIGH`."""
    breach: Threshold | None
    """The user's threshold that the forecast breaches."""
    recommended: tuple[float, float] | None
    """The range of the sensor's type, if the forecast was compared with that."""


def assess(
    sensor_type: str, predicted: float, thresholds: Sequence[Threshold], *, anomalous: bool
) -> Assessment:
    """Compare a forecast with the thresholds or the recommended range.

    `anomalous`: whether one of the newest readings is anomalous.
    """
    if thresholds:
        breach = worst(thresholds, predicted)
        severity, risk = _BY_SEVERITY.get(breach.severity if breach else "", ("info", "LOW"))
        return Assessment(severity, risk, breach, None)
    recommended = RANGES.get(sensor_type)
    risk = _risk(predicted, recommended)
    severity = ("info", "warning", "critical")[(risk == "HIGH") + anomalous]
    return Assessment(severity, risk, None, recommended)


def assess_readings(thresholds: Sequence[Threshold], anomaly: float | None) -> Assessment:
    """Without a forecast: only the anomalous reading counts, if there is one."""
    warns = anomaly is not None and anomaly_type(thresholds, anomaly) == "warning"
    return Assessment("warning" if warns else "info", "NONE", None, None)


def anomaly_type(thresholds: Sequence[Threshold], value: float) -> str:
    """Event type of an anomalous reading: `notice` within the user's bounds, else `warning`."""
    return "notice" if thresholds and worst(thresholds, value) is None else "warning"


def _risk(predicted: float, recommended: tuple[float, float] | None) -> str:
    if recommended is None:
        return "NONE"
    low, high = recommended
    beyond = max(low - predicted, predicted - high)
    if beyond <= 0:
        return "LOW"
    return "HIGH" if beyond > _FAR * (high - low) else "MEDIUM"
