"""The usual interval between a sensor's panes, and the number of panes missing before each one."""

import numpy as np

from contract.columns import Floats

FIELDS = ("end", "interval")
"""The state of a sensor: the end of its last pane and the usual interval, both in ms."""
_SHORTER, _LONGER = 0.1, 0.01
"""Rates at which the interval shrinks and grows. It grows slowly, because a long interval is often
just a missing pane."""


def missing(state: Floats, seen: Floats, end: Floats) -> Floats:
    """(S,) number of whole panes missing before the panes that end at `end` (S,), in ms.

    `state` (FIELDS, S) is updated in place. `seen` (S,) is the number of earlier panes; the state
    is ignored where it is 0.
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
