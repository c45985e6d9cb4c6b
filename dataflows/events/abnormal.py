"""Panes that say nothing about predictions: something is wrong with the sensor anyway."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dataflows.events.changes import Transition
from dataflows.events.verdicts import Verdicts


def abnormal(
    before: NDArray[np.int8], transitions: Iterable[Transition], verdicts: Verdicts
) -> NDArray[np.bool_]:
    """(P,) whether the sensor's level stands at the end of each pane, or a rule or the detector
    calls for one, or a threshold is breached. `before` has the levels of sensors before the panes;
    sensors without an entry are new.
    """
    panes = verdicts.closed.panes
    level = np.zeros(max(len(before), int(panes.row.max(initial=-1)) + 1), np.int8)
    level[: len(before)] = before
    stands = level[panes.row]
    for change in sorted(transitions, key=lambda change: change.at):
        first, last = np.searchsorted(panes.row, [change.row, change.row + 1])
        first += np.searchsorted(panes.end[first:last], change.at)
        stands[first:last] = change.after
    return np.asarray((stands > 0) | (verdicts.asked > 0) | verdicts.breached)
