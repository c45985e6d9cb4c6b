"""The interface of an anomaly detector."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.table import Table
from rules.detector import Bounds, Findings


class Detector(Protocol):
    """Finds panes whose means are unusual for their sensor."""

    def use(self, deep: Ints, bounds: Bounds, since: Ints | None = None) -> None:
        """Replace the bounds, and the sensors that get the deep detector as well, each from the
        event time `since` on. `deep` is ascending.
        """

    def step(
        self, sensor_id: Ints, end: Ints, mean: Floats, breached: NDArray[np.bool_]
    ) -> Findings:
        """Score P panes, each one before learning from it; neither where a user's threshold is
        `breached` (P,).

        The level is NORMAL while the sensor is new to the detector. The panes of a sensor are
        consecutive and sorted by end. The result must not depend on how the sequence is split into
        pieces.
        """

    def unjudged(self, sensor_id: Ints, end: Ints) -> NDArray[np.bool_]:
        """(P,) whether no pane of each sensor, however unusual, can be reported at the time `end`
        (P,), because the sensor's signal has used up its budget of false alarms.
        """

    @property
    def tables(self) -> dict[str, Table]:
        """All state that outlives a piece, by name."""
