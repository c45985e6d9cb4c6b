"""What every detector can do, in its array form: one pane of each of many sensors at a time."""

from typing import Any, Protocol

from contract.columns import Floats, Ints


class Scorer(Protocol):
    """Sensors are rows, numbered from 0. One by one, the arrays have one element."""

    grace_period: int
    """How many panes of a sensor are learnt from before any is scored."""

    def grow(self, sensors: int) -> None:
        """Make room for so many sensors in all, new ones after those that are there."""

    def score_then_learn(self, row: Ints, end: Ints, value: Floats) -> Floats:
        """(P,) how strange each pane is: at least 0, finite, and 0 in the grace period.

        At most one pane a sensor; `row` ascends, `end` is in ms and later than the sensor's last,
        `value` is finite.
        """

    def snapshot(self) -> tuple[Any, ...]:
        """The state as plain arrays, after the version of its form."""

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Take over the state that `snapshot` was taken of.

        Raises:
            ValueError: it is of another version, or was made with other parameters.
        """
