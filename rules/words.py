"""Names, quantities and durations, as texts for people show them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

NAME_LENGTH = 100
"""Longer names are truncated: a title has two names, and a message has those and a rule's."""


@dataclass(frozen=True, slots=True)
class Named:
    """The names of a sensor, or of a device alone."""

    name: str
    """The sensor's name; empty for a device alone."""
    type: str
    unit: str
    device: str


@dataclass(frozen=True, slots=True)
class Names:
    """The names of sensors and devices, and the language of texts."""

    language: str = "es"
    sensors: Mapping[int, Named] | None = None
    """By sensor id."""
    devices: Mapping[int, str] | None = None
    """By device id."""
    again: Callable[[], "Names"] | None = None
    """Reads the names again: called for a sensor or device that has none, since it may be new."""

    def of(self, sensor_id: int, device_id: int) -> Named:
        """A sensor's names; its id if it has none."""
        named = (self.sensors or {}).get(sensor_id)
        if named is None and self.again is not None:
            return self.again().of(sensor_id, device_id)
        return named or Named(f"sensor {sensor_id}", "unknown", "", self.device(device_id).device)

    def device(self, device_id: int) -> Named:
        """A device's name; its id if it has none."""
        if self.again is not None and device_id not in (self.devices or {}):
            return self.again().device(device_id)
        return Named("", "", "", (self.devices or {}).get(device_id, f"device {device_id}"))


def quantity(value: float, unit: str) -> str:
    """The value with six significant digits, or all digits before the point, and its unit.

    >>> quantity(21.0, "°C"), quantity(1013257.25, "Pa"), quantity(0.5, "")
    ('21 °C', '1013257 Pa', '0.5')
    """
    number = f"{value:.0f}" if 1e6 <= abs(value) < 1e15 else f"{value:.6g}"
    return f"{number} {unit}".rstrip()


def duration(ms: int) -> str:
    """The duration in its two largest units.

    >>> duration(65_000), duration(7_260_000), duration(5_000), duration(180_000_000)
    ('1 min 5 s', '2 h 1 min', '5 s', '2 d 2 h')
    """
    seconds = ms // 1000
    hours, minutes, rest = seconds // 3600, seconds % 3600 // 60, seconds % 60
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def short(text: str) -> str:
    """The text, truncated to `NAME_LENGTH` characters."""
    return text if len(text) <= NAME_LENGTH else text[: NAME_LENGTH - 1] + "…"
