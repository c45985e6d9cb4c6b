"""Where a detector of anomalies is hooked in."""

from typing import Protocol

from contract.columns import Floats, Ints
from contract.table import Table
from rules.detector import Bounds, Findings


class Detector(Protocol):
    """Tells from the means of a partition's panes which of them are unusual for the sensor."""

    def use(self, deep: Ints, bounds: Bounds) -> None:
        """From now on these bounds hold, and these sensors are looked at more deeply."""

    def step(self, sensor_id: Ints, end: Ints, mean: Floats) -> Findings:
        """What it says of P panes, each scored before it is learned from: NORMAL while the sensor
        is new to the detector. A sensor's panes stand together, by their ends, and the answer must
        not depend on how the sequence was cut.
        """

    @property
    def tables(self) -> dict[str, Table]:
        """Everything that lives longer than a piece, by name."""
