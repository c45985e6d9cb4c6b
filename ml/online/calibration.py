"""Corrects a score by its history: how often it was exceeded, compared with how often it should be.

A score s claims that the share 10^-s of normal panes exceeds it. At two scores, the claim is
compared with the observed frequency, with the claim itself as the prior. Between and beyond these
two scores the correction is linear. In the long run the scores are therefore calibrated whatever
the distribution of a sensor's panes; the tail extrapolates to scores that have not been observed.
"""

from dataclasses import dataclass

import numpy as np

from contract.columns import Floats

FIELDS = ("count", "low", "high")
"""The state of a sensor: the number of scores, and for each bound how often it was exceeded, as a
multiple of the claimed frequency, minus 1."""
_LOW, _HIGH = 1.5, 2.5
_FLATTEST, _STEEPEST = 0.5, 2.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """The parameters. The caller holds the state."""

    prior: float = 30.0
    """Weight of the claim: that of `prior` observed scores above the bound."""
    rate: float = 1e-4
    """Forgetting rate once enough scores were seen."""

    def score_then_learn(self, state: Floats, score: Floats) -> Floats:
        """(S,) the scores, corrected by the earlier ones.

        `state` (FIELDS, S), zeros before the first score, is updated in place.
        """
        count, low, high = state
        first = _LOW - self._shift(low)
        second = np.maximum(_HIGH - self._shift(high) - first, _FLATTEST * (_HIGH - _LOW))
        second *= 1.0 / (_HIGH - _LOW)
        first *= 1.0 / _LOW
        corrected = np.minimum(score, _LOW)
        corrected *= first
        part = np.maximum(score, _LOW)
        np.minimum(part, _HIGH, out=part)
        part -= _LOW
        part *= second
        corrected += part
        np.maximum(score, _HIGH, out=part)
        part -= _HIGH
        part *= np.minimum(second, _STEEPEST)
        corrected += part
        low += self._change(_LOW, low, count, score)
        high += self._change(_HIGH, high, count, score)
        count += 1.0
        return corrected

    def _change(self, bound: float, ratio: Floats, count: Floats, score: Floats) -> Floats:
        """The change of a bound's observed frequency."""
        rate: Floats = 1.0 / (count + self.prior * 10.0**bound)
        np.maximum(rate, self.rate, out=rate)
        change: Floats = (score > bound) * 10.0**bound
        change -= 1.0
        change -= ratio
        change *= rate
        return change

    @staticmethod
    def _shift(ratio: Floats) -> Floats:
        """log10 of the observed over the claimed frequency, limited to a factor of ten because the
        history is short.
        """
        shift = ratio + 1.0
        np.maximum(shift, 0.1, out=shift)
        np.minimum(shift, 10.0, out=shift)
        return np.log10(shift, out=shift)
