"""Rounds values to the decimals of the database."""

import numpy as np

from contract.columns import Floats


def rounded(value: Floats, decimals: int = 5) -> Floats:
    """(N,) rounded to `decimals` decimals; 5 because values are stored as decimal(15,5).

    The result equals Python's `round`, which is exact. numpy multiplies first, so it is off by one
    for values close to the middle between two results.

    >>> rounded(np.array([-2.728085, 1.5])).tolist(), np.round(-2.728085, 5).item()
    ([-2.72809, 1.5], -2.72808)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        fast = np.round(value, decimals)
        fast = np.where(np.isfinite(fast), fast, value)  # too large to have decimals
        fraction = np.abs(value * 10.0**decimals) % 1.0
        near_middle = np.flatnonzero(~(np.abs(fraction - 0.5) > 1e-3))
    fast[near_middle] = [round(exact, decimals) for exact in value[near_middle].tolist()]
    return fast
