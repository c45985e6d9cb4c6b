"""The forecast of one sensor, before it is turned into texts and rows."""

from dataclasses import dataclass

from sql.statements import ForecastSensor


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A reading that differs from the earlier ones."""

    at: int
    """Event time, epoch milliseconds UTC."""
    value: float
    jumped: bool
    """True: compared with the previous reading; False: with the line through all earlier ones."""
    usual: float
    """The value that it was compared with."""
    scale: float
    """Usual distance of a reading from that value."""
    score: float
    """0.5 to 1."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """A forecast. Values are in the sensor's unit."""

    sensor: ForecastSensor
    predicted_at: int
    """Event time of the newest reading used, epoch milliseconds UTC."""
    newest: float
    """Value of that reading."""
    horizon_minutes: int
    value: float
    confidence: float
    trend: int
    """-1, 0 or 1: down, stable, up."""
    slope: float
    """Units per minute."""
    window: int
    """Number of readings used."""
    engine: str
    """The method, one of the constants in `ml.predict.forecast`."""
    judged: bool
    """Whether the newest readings were tested for anomalies."""
    anomaly: Anomaly | None
    """The most anomalous of them."""
    asked: int | None = None
    """The number of readings that was asked for; None if nobody asked."""
    past: bool = False
    """Whether the target has passed already, because the newest reading is that old. Then there is
    no forecast: only the readings are judged."""

    @property
    def window_points(self) -> int:
        """The window, as it identifies the prediction: what was asked for, else what was used."""
        return self.window if self.asked is None else self.asked

    @property
    def target(self) -> int:
        """The time that is forecast, epoch milliseconds UTC."""
        return self.predicted_at + self.horizon_minutes * 60_000
