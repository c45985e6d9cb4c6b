"""What share of a sensor's normal panes exceeds a value, learnt as the values come.

A quantile that one value in ten exceeds is followed by steps of its own size (stochastic
approximation: Robbins and Monro, "A stochastic approximation method", 1951). Above it the tail is
a power law, whose exponent is the mean logarithm of the excess (Hill, "A simple general approach
to inference about the tail of a distribution", 1975). One strange value moves either by a bounded
amount, so what is found today can still be found next week.
"""

from dataclasses import dataclass

import numpy as np

from contract.columns import Floats

FIELDS = ("count", "quantile", "exponent", "spread")
"""What is kept of a sensor: how many values came, the quantile, the tail's exponent, the usual
distance from the quantile."""
_DECADE = float(np.log(10.0))
_STEP = 5.0
"""A step of the quantile, in usual distances and by the rate."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The parameters; the state is the caller's."""

    beyond: float = 0.1
    """The share of values above the quantile."""
    rate: float = 0.0005
    """How fast things are forgotten, once there is enough to forget."""
    exponent: float = 0.2
    """The tail's, before anything is known: about that of a normal distribution."""
    least: float = 0.05
    """No tail is believed to be thinner."""
    most: float = 2.0
    """An excess counts for at most so many times the usual one."""
    grace_period: int = 80
    """The first values, which score 0."""

    def score_then_learn(self, state: Floats, value: Floats) -> Floats:
        """(S,) -log10 of the share of values that exceed each `value`, which is a logarithm.

        `state` (FIELDS, S), zeros before the first value, is changed in place.
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
