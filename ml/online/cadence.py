"""How often a sensor's panes come, and how many are missing before one."""

import numpy as np

from contract.columns import Floats

FIELDS = ("end", "interval")
"""What is kept of a sensor: the end of its last pane, and the usual interval, both in ms."""
_SHORTER, _LONGER = 0.1, 0.01
"""How fast the interval follows: missing panes make it longer, and should not for long."""


def missing(state: Floats, seen: Floats, end: Floats) -> Floats:
    """(S,) whole panes that are missing before those that end at `end` (S,), in ms.

    `state` (FIELDS, S) is changed in place; `seen` (S,) tells how many panes came before, and what
    is in the state where it is 0 does not matter.
    """
    last, interval = state
    if not seen.all():
        new = seen == 0
        last[new], interval[new] = end[new], 0.0
    passed = end - last
    last[:] = end
    if (seen <= 1).any():
        second = seen == 1
        interval[second] = passed[second]
    late = passed - interval
    gap: Floats = np.zeros_like(late)
    if not late.any():
        return gap
    if len(on := np.flatnonzero((late + late > interval) & (interval > 0))):
        gap[on] = np.rint(late[on] / interval[on])
    shorter = np.minimum(late, 0.0)
    np.minimum(late, interval, out=late)
    late -= shorter
    late *= _LONGER
    shorter *= _SHORTER
    interval += late
    interval += shorter
    return gap
