"""Values as the database's decimals have them."""

import numpy as np

from contract.columns import Floats


def rounded(value: Floats, decimals: int = 5) -> Floats:
    """(N,) to `decimals` decimals (5: columns of values are decimal(15,5)), each as Python's
    `round` does it, that is, correctly: numpy multiplies first, which is off by one where a value
    lies next to the middle between two results.

    >>> rounded(np.array([-2.728085, 1.5])).tolist(), np.round(-2.728085, 5).item()
    ([-2.72809, 1.5], -2.72808)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        fast = np.round(value, decimals)
        fast = np.where(np.isfinite(fast), fast, value)  # so large that it has no decimals
        fraction = np.abs(value * 10.0**decimals) % 1.0
        near_middle = np.flatnonzero(~(np.abs(fraction - 0.5) > 1e-3))
    fast[near_middle] = [round(one, decimals) for one in value[near_middle].tolist()]
    return fast
