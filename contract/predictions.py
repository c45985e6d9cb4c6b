"""What sensors are expected to measure some time ahead, as columns."""

from dataclasses import dataclass

from contract.columns import Floats, Ints

HORIZON_MS = 600_000
"""How far ahead a prediction looks."""
LARGEST = 9_999_999_999.0
"""What no prediction is beyond, either way: columns of values are decimal(15,5)."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """P predictions, known by (model, sensor, predicted_at)."""

    model_id: Ints
    """(P,) row of `ml_models`; 0 stands for the sensor's baseline, the moving average."""
    sensor_id: Ints
    """(P,)"""
    device_id: Ints
    """(P,)"""
    predicted_at: Ints
    """(P,) event time up to which readings were seen, epoch milliseconds UTC."""
    target: Ints
    """(P,) the time that it is for, likewise."""
    value: Floats
    """(P,) in the sensor's unit."""
    confidence: Floats
    """(P,) 0 to 1."""
    window: Ints
    """(P,) how many readings it was made of."""
    trend: Ints
    """(P,) -1, 0 or 1: down, stable, up."""
