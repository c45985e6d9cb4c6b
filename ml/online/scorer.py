"""What every detector can do, in its array form: one pane of each of many sensors at a time."""

from typing import Protocol

from contract.columns import Floats, Ints


class Scorer(Protocol):
    """Sensors are rows of a `Table`, numbered from 0. One by one, the arrays have one element."""

    grace_period: int
    """How many panes of a sensor are learnt from before any is scored."""

    def grow(self, rows: int) -> None:
        """Grow to `rows` sensors, new ones after those that are there."""

    def score_then_learn(self, row: Ints, end: Ints, value: Floats) -> Floats:
        """(P,) how strange each pane is: at least 0, finite, and 0 in the grace period.

        At most one pane a sensor; `row` ascends, `end` is in ms and later than the sensor's last,
        `value` is finite.
        """
