"""Where a detector of anomalies is hooked in."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.table import Table
from rules.detector import Bounds


class Detector(Protocol):
    """Tells from the means of a partition's panes which of them are unlike the sensor's others."""

    def use(self, deep: Ints, bounds: Bounds) -> None:
        """From now on these bounds hold, and these sensors are looked at more deeply."""

    def step(self, sensor_id: Ints, end: Ints, mean: Floats) -> tuple[NDArray[np.int8], Floats]:
        """(P,) the level that each pane would deserve, scored before it is learnt from, NORMAL
        while the sensor is new to the detector; (P,) the value about which the sensor usually is.
        A sensor's panes stand together, by their ends, and the answer must not depend on how the
        sequence was cut.
        """

    @property
    def tables(self) -> dict[str, Table]:
        """Everything that lives longer than a piece, by name."""
