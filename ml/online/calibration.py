"""Corrects a score by its own record: how often it was exceeded, against how often it should be.

A score s claims that the share 10^-s of normal panes exceeds it. For two scores the claim is held
against what happened, with the claim itself as the prior; between them, and beyond, the correction
is a line. What is right by the long run of a sensor's panes is thus right whatever their
distribution; the tail tells how it goes on where the record has nothing to say.
"""

from dataclasses import dataclass

import numpy as np

from contract.columns import Floats

FIELDS = ("count", "low", "high")
"""What is kept of a sensor: how many scores came, and for either bound how often it was exceeded,
as a multiple of what it claims, less 1."""
_LOW, _HIGH = 1.5, 2.5
_FLATTEST, _STEEPEST = 0.5, 2.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """The parameters; the state is the caller's."""

    prior: float = 30.0
    """The claim weighs as much as so many scores above the bound that came as it says."""
    rate: float = 1e-4
    """How fast a score is forgotten, in the end."""

    def score_then_learn(self, state: Floats, score: Floats) -> Floats:
        """(S,) the scores corrected by those before; `state` (FIELDS, S), zeros before the first
        score, is changed in place.
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
        """By how much the record of a bound changes."""
        rate: Floats = 1.0 / (count + self.prior * 10.0**bound)
        np.maximum(rate, self.rate, out=rate)
        change: Floats = (score > bound) * 10.0**bound
        change -= 1.0
        change -= ratio
        change *= rate
        return change

    @staticmethod
    def _shift(ratio: Floats) -> Floats:
        """By how much a bound claims too much; within a factor of ten, since records are short."""
        shift = ratio + 1.0
        np.maximum(shift, 0.1, out=shift)
        np.minimum(shift, 10.0, out=shift)
        return np.log10(shift, out=shift)
