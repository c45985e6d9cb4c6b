"""Predicted values of sensors, as columns."""

from dataclasses import dataclass

from contract.columns import Floats, Ints, Texts

HORIZON_MS = 600_000
"""How far ahead a prediction looks."""
LARGEST = 9_999_999_999.0
"""Largest absolute value of a prediction; values are stored as decimal(15,5)."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """P predictions, identified by (model, sensor, predicted_at, horizon, window).

    Each has all that its row shows: whoever reads the newest prediction of a sensor gets ours as
    often as the batch runner's.
    """

    model_id: Ints
    """(P,) row of `ml_models`; 0 stands for the sensor's baseline, the moving average."""
    sensor_id: Ints
    """(P,)"""
    device_id: Ints
    """(P,)"""
    predicted_at: Ints
    """(P,) event time of the latest reading used, epoch milliseconds UTC."""
    target: Ints
    """(P,) the predicted time, epoch milliseconds UTC."""
    value: Floats
    """(P,) in the sensor's unit."""
    confidence: Floats
    """(P,) 0 to 1."""
    window: Ints
    """(P,) number of readings used."""
    trend: Ints
    """(P,) -1, 0 or 1: down, stable, up."""
    engine: Texts
    """(P,) the method, one of the constants in `ml.predict.forecast`."""
    risk_level: Texts
    """(P,) `NONE`, `LOW`, `MEDIUM` or `HIGH`."""
    severity: Texts
    """(P,) `info`, `warning` or `critical`."""
    explanation: Texts
    """(P,) JSON of at most 1000 characters, in the language of the installation."""
