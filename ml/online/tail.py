"""Estimates online what share of a sensor's normal panes exceeds a value.

The quantile that one value in ten exceeds is tracked in steps proportional to the usual distance
from it (stochastic approximation: Robbins and Monro, "A stochastic approximation method", 1951).
Above it, the tail is a power law whose exponent is the mean logarithm of the excess (Hill, "A
simple general approach to inference about the tail of a distribution", 1975). A single outlier
changes both by a bounded amount, so an anomaly that is detected today is still detected next week.
"""

from dataclasses import dataclass

import numpy as np

from contract.columns import Floats

FIELDS = ("count", "quantile", "exponent", "spread")
"""The state of a sensor: the number of values, the quantile, the tail's exponent, and the usual
distance from the quantile."""
_DECADE = float(np.log(10.0))
_STEP = 5.0
"""Step size of the quantile, as a multiple of the rate and of the usual distance."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The parameters. The caller holds the state."""

    beyond: float = 0.1
    """The share of values above the quantile."""
    rate: float = 0.0005
    """Forgetting rate once enough values were seen."""
    exponent: float = 0.2
    """Initial exponent of the tail: about that of a normal distribution."""
    least: float = 0.05
    """Lower limit of the exponent."""
    most: float = 2.0
    """An excess is capped at this multiple of the usual one."""
    grace_period: int = 80
    """Number of first values that score 0."""

    def score_then_learn(self, state: Floats, value: Floats) -> Floats:
        """(S,) -log10 of the share of values that exceed each `value`, which is a logarithm.

        `state` (FIELDS, S), zeros before the first value, is updated in place.
        """
        count, quantile, exponent, spread = state
        if not count.all():
            new = count == 0
            quantile[new], exponent[new], spread[new] = value[new], self.exponent, 0.5
        excess = value - quantile
        score: Floats = np.divide(excess, exponent)
        score *= 1.0 / _DECADE
        score += -np.log10(self.beyond)
        np.maximum(score, 0.0, out=score)
        if count.min() < self.grace_period:
            score[count < self.grace_period] = 0.0

        rate = np.maximum(2.0 / (count + 3.0), self.rate)
        above = excess > 0
        step = above * _STEP
        step -= _STEP * self.beyond
        step *= rate
        step *= spread
        quantile += step
        change = np.minimum(excess, self.most * exponent)
        change -= exponent
        change *= np.maximum(1.0 / (self.beyond * count + 10.0), self.rate)
        change *= above
        exponent += change
        np.maximum(exponent, self.least, out=exponent)
        np.abs(excess, out=excess)
        np.minimum(excess, 3.0 * spread + 0.01, out=excess)
        excess -= spread
        excess *= rate
        spread += excess
        count += 1.0
        return score
