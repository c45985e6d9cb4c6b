"""The newest value of each sensor, as columns."""

from dataclasses import dataclass

from contract.columns import Floats, Ints


@dataclass(frozen=True, slots=True)
class Latest:
    """S sensors whose newest reading changed: one row each of `sensor_readings_latest`."""

    sensor_id: Ints
    """(S,) each once."""
    ts: Ints
    """(S,) event time of the reading, epoch milliseconds UTC; never from the future."""
    value: Floats
    """(S,) of several readings with that time, the one that arrived last."""
