"""The episodes that were told, so that late readings do not tell one of them again.

An episode is a time in which a sensor had a level or a higher one. Readings that arrive late may
show an episode that the flow has told already, because the device sends some readings twice, or
because a breach began while it was offline and still lasted when it returned. An incident that late
readings show is told only if no told episode of its highest level, or of a higher one, overlaps it.
Episodes that follow each other within `_TOGETHER_MS` count as one, and an episode is forgotten
`_KEPT_MS` after its end.

A decision must not depend on how the sequence is split into pieces. A piece tells the episodes of
the live lane before those of late readings. So each decision has a latest time, up to which the
live lane had closed its panes by then, and ignores episodes that begin later.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Ints
from contract.level import Level
from contract.table import Table, column
from dataflows.events.changes import Incident, Transition
from rules.panes import PANE_MS

_KEPT_MS = 86_400_000
_TOGETHER_MS = 60_000
_LASTS = 2**62


class LateSpan(NamedTuple):
    """The late panes of a sensor that closed together. All times are event times, in ms."""

    end: int
    """End of the last one."""
    extended: int
    """How far an incident that is cut there extends beyond it."""
    latest: int
    """The end up to which the live lane had closed its panes."""


class Told(Table):
    """The told episodes of a partition's sensors."""

    row: Ints = column(np.int64, 0)
    """The sensor's row."""
    level: Ints = column(np.int64, 0)
    begin: Ints = column(np.int64, 0)
    """Event time, epoch milliseconds UTC."""
    end: Ints = column(np.int64, _LASTS)
    """The same; far in the future while the episode lasts."""
    late_one: Ints = column(np.int64, 0)
    """1 if late readings told it."""

    def live(self, transitions: Sequence[Transition]) -> None:
        """Note transitions of the live lane, those of a sensor in order."""
        for change in transitions:
            self._note(change.row, change, late=0)

    def late(
        self, row: int, transitions: Sequence[Transition], decided: int, span: LateSpan
    ) -> tuple[list[Transition], int]:
        """Note the late transitions of one sensor that closed together, and return those to tell.

        `decided` is what was decided about the incident that the sensor is in: `TELL`, or the
        highest level that it is not told for. Also returns it for the sensor's next transitions.
        """
        to_tell = []
        begun = None
        for index, change in enumerate(transitions):
            if change.before is Level.NORMAL:
                decided, begun = int(Level.NORMAL), None
            if decided != TELL and change.after > max(change.before, decided):
                decided = self._decide(row, transitions[index:], span)
                if decided == TELL and change.before > Level.NORMAL:  # its first event is this one
                    begun = Incident(change.at, change.kind)
                    to_tell.append(replace(change, changed_at=NEVER, incident=begun))
                    self._note(row, change, late=1)
                    continue
            if decided == TELL:
                self._note(row, change, late=1)
                to_tell.append(replace(change, incident=begun) if begun else change)
        return to_tell, decided

    def compress(self, closed_until: Ints, busy: Ints) -> None:
        """Join and forget episodes where that changes no decision: not of sensors that have late
        readings to judge, the rows `busy`. `closed_until` (S,) is that of each sensor.
        """
        over = (self.end <= closed_until[self.row]) & ~np.isin(self.row, busy)
        if not over.any():
            return
        kept = ~(over & (self.end <= closed_until[self.row] - _KEPT_MS))
        self.keep(kept)
        over = over[kept]
        order = np.lexsort((self.begin, self.level, self.row, ~over))
        self.keep(order)
        joined = int(over.sum())
        row, level, begin, end = (
            getattr(self, name)[:joined] for name in ("row", "level", "begin", "end")
        )
        first = np.ones(joined, bool)
        for index in range(1, joined):
            same = row[index] == row[index - 1] and level[index] == level[index - 1]
            if same and begin[index] < end[index - 1] + _TOGETHER_MS:
                first[index] = False
                begin[index], end[index] = begin[index - 1], max(end[index], end[index - 1])
        last = np.append(first[1:], True) if joined else first
        self.keep(np.concatenate((last, np.ones(self.rows - joined, bool))))

    def settle(self) -> None:
        """Sort by sensor and time."""
        self.keep(np.lexsort((self.late_one, self.end, self.level, self.begin, self.row)))

    def _decide(self, row: int, transitions: Sequence[Transition], span: LateSpan) -> int:
        """`TELL`, or the level for which the incident that these transitions begin was told."""
        peak, end = Level.NORMAL, span.end
        for change in transitions:
            peak = max(peak, change.after)
            if change.after is Level.NORMAL:
                end = change.at + (span.extended if change.cut else 0)
                break
        begin, end = transitions[0].at - PANE_MS, min(end, span.latest)
        mine = (self.row == row) & (self.level >= peak) & (self.begin < span.latest)
        mine &= self.end > span.latest - _KEPT_MS
        return int(peak) if _covered(self.begin[mine], self.end[mine], begin, end) else TELL

    def _note(self, row: int, change: Transition, late: int) -> None:
        if change.after > change.before:
            self._add(row, change.after, change.at - PANE_MS, late)
            return
        lasts = (self.row == row) & (self.end == _LASTS) & (self.late_one == late)
        self.end[lasts & (self.level > change.after)] = change.at
        if change.after > Level.NORMAL and not (lasts & (self.level == change.after)).any():
            self._add(row, change.after, change.at, late)

    def _add(self, row: int, level: Level, begin: int, late: int) -> None:
        self.append(
            row=np.array([row]),
            level=np.array([int(level)]),
            begin=np.array([begin]),
            late_one=np.array([late]),
        )


TELL = -1


def _covered(begins: Ints, ends: Ints, begin: int, end: int) -> bool:
    """Whether the span overlaps one of the episodes, or the gap between two that count as one."""
    if ((begins < end) & (ends > begin)).any():
        return True
    before: NDArray[np.int64] = ends[ends <= begin]
    after = begins[begins >= end]
    return bool(len(before) and len(after) and int(after.min()) - int(before.max()) < _TOGETHER_MS)
