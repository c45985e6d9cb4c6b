"""The input of rules: the closed panes of a partition, and the windows that end with them."""

from dataclasses import dataclass

from contract.columns import Floats, Ints

PANE_MS = 1_000
"""The length of a pane."""


@dataclass(frozen=True, slots=True)
class Panes:
    """Closed panes, sorted by sensor row and end. P panes.

    Times inside a pane are seconds since its start. Second moments are sums of products of
    deviations from the means. Where the minimum or maximum is beyond
    `dataflows.engine.panes.LARGE`, values are first scaled by `dataflows.engine.panes.SMALL`.
    """

    row: Ints
    """(P,) the sensor's row."""
    device: Ints
    """(P,) row of the device that sent its last reading."""
    end: Ints
    """(P,) end of the pane, exclusive, epoch milliseconds UTC."""
    count: Ints
    """(P,) readings in it, at least 1."""
    mean: Floats
    """(P,)"""
    minimum: Floats
    """(P,)"""
    maximum: Floats
    """(P,)"""
    first: Floats
    """(P,) the value with the lowest event time; of equal times, the one that arrived first."""
    last: Floats
    """(P,) the value with the highest event time; of equal times, the one that arrived last."""
    time: Floats
    """(P,) mean time."""
    time_time: Floats
    """(P,) second moment of the times."""
    time_value: Floats
    """(P,) second moment of times and values."""
    value_value: Floats
    """(P,) second moment of the values."""


WINDOWS = {"w1": 1, "w5": 5, "w10": 10}
"""Lengths in seconds."""


@dataclass(frozen=True, slots=True)
class Window:
    """One window for each closed pane, ending with it. P windows, in the order of the panes."""

    count: Floats
    """(P,) readings in it; whole numbers."""
    mean: Floats
    """(P,)"""
    minimum: Floats
    """(P,)"""
    maximum: Floats
    """(P,)"""
    std: Floats
    """(P,) population standard deviation."""
    first: Floats
    """(P,) the value with the lowest event time."""
    last: Floats
    """(P,) the value with the highest event time."""
    trend: Floats
    """(P,) least-squares slope of value over event time, units per second; 0 where all times are
    equal."""
    fit: Floats
    """(P,) the share of the values' variance that the trend explains, 0 to 1; 0 where the variance
    is 0."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of the closed panes, and the panes before each one."""

    by_name: dict[str, Window]
    """One for each of `WINDOWS`."""
    end_before: Ints
    """(P,) end of the sensor's previous pane; NEVER where there is none."""
    mean_before: Floats
    """(P,) its mean; 0 where there is none."""
    lately_end: Floats
    """(10, P) ends of the pane and of the nine before it, newest first; NEVER where there is none.
    Milliseconds since 1970-01-01 UTC, whole numbers."""
    lately_count: Floats
    """(10, P) their readings."""
    lately_mean: Floats
    """(10, P) their means."""

    @property
    def w1(self) -> Window:
        """The pane alone."""
        return self.by_name["w1"]

    @property
    def w5(self) -> Window:
        """Up to 5 s."""
        return self.by_name["w5"]

    @property
    def w10(self) -> Window:
        """Up to 10 s."""
        return self.by_name["w10"]
