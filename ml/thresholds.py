"""What a user says a sensor's values must not be."""

from collections.abc import Iterable
from dataclasses import dataclass

_ORDER = {"critical": 2, "warning": 1}


@dataclass(frozen=True, slots=True)
class Threshold:
    """A row of `alert_thresholds`, or half a row of `sensor_threshold_profiles` (without id).

    Bounds are strict: a value on the bound is inside. A row that makes no sense bounds nothing.
    """

    sensor_id: int
    id: int | None
    name: str
    condition: str
    minimum: float | None
    maximum: float | None
    severity: str

    @property
    def low(self) -> float | None:
        """Below it values are outside."""
        return self.minimum if self.condition in ("less_than", "out_of_range") else None

    @property
    def high(self) -> float | None:
        """Above it values are outside."""
        if self.condition == "greater_than":
            return self.minimum
        return self.maximum if self.condition == "out_of_range" else None

    @property
    def equal(self) -> float | None:
        """The value that is watched for."""
        return self.minimum if self.condition == "equal_to" else None

    @property
    def bounds(self) -> bool:
        """Whether it makes sense."""
        low, high = self.low, self.high
        if low is not None and high is not None:
            return low <= high
        return not (low is None and high is None and self.equal is None)

    def breached(self, value: float) -> bool:
        """Whether the value is what it must not be."""
        return self.bounds and (
            (self.low is not None and value < self.low)
            or (self.high is not None and value > self.high)
            or (self.equal is not None and value == self.equal)
        )


def worst(thresholds: Iterable[Threshold], value: float) -> Threshold | None:
    """The one of the highest severity that the value breaches, of several the first."""
    return max(
        (one for one in thresholds if one.breached(value)),
        key=lambda one: _ORDER.get(one.severity, 0),
        default=None,
    )
