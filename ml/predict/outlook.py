"""What is known of one sensor's near future, before it is put into words or rows."""

from dataclasses import dataclass

from sql.statements import ForecastSensor


@dataclass(frozen=True, slots=True)
class Strange:
    """A reading that is not like those before it."""

    at: int
    """Event time, epoch milliseconds UTC."""
    value: float
    jumped: bool
    """Compared with the reading before it; else with the line through all before it."""
    usual: float
    """What it was compared with."""
    scale: float
    """How far from that readings usually are."""
    score: float
    """0.5 to 1."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """A forecast. All values are in the sensor's unit."""

    sensor: ForecastSensor
    predicted_at: int
    """Event time of the newest reading that was seen, epoch milliseconds UTC."""
    newest: float
    """That reading."""
    horizon_minutes: int
    value: float
    confidence: float
    trend: int
    """-1, 0 or 1: down, stable, up."""
    slope: float
    """Units a minute."""
    window: int
    """How many readings it was made of."""
    engine: str
    """What made it, a word."""
    judged: bool
    """Whether somebody has looked if the newest readings are strange."""
    strange: Strange | None
    """The strangest of them."""

    @property
    def target(self) -> int:
        """The time that it is for, epoch milliseconds UTC."""
        return self.predicted_at + self.horizon_minutes * 60_000
