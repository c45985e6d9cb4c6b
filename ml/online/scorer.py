"""The interface of every detector, in array form: one pane of each of many sensors per call."""

from typing import Protocol

from contract.columns import Floats, Ints


class Scorer(Protocol):
    """Sensors are rows of a `Table`, numbered from 0. For one sensor, pass arrays of length 1."""

    grace_period: int
    """Number of panes of a sensor that are learned from before the first one is scored."""

    def grow(self, rows: int) -> None:
        """Grow to `rows` sensors; new sensors are appended."""

    def score_then_learn(self, row: Ints, end: Ints, value: Floats) -> Floats:
        """(P,) how unusual each pane is: at least 0, finite, and 0 in the grace period.

        Takes at most one pane per sensor. `row` is ascending, `end` is in ms and later than the
        end of the sensor's previous pane, `value` is finite.
        """
