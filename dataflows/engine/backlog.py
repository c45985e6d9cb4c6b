"""The backlog lane: panes of readings that arrived after their pane had closed.

The lane is a second, independent sequence of panes per sensor. A sensor is in it for a session:
from its first late reading until no further one has arrived for the idle time, or for twice the
usual gap between the packets of its device. The panes stay open for long, so the order in which a
backlog arrives hardly matters. In a long session, panes close when the newest reading is
`GRACE_MS` ahead of them; this is checked each time that it has advanced by as much. A session of
more than `LIMIT` readings closes all panes but the newest. A reading whose pane has closed in its
session is too late.

The panes of a session have their own windows, streaks and levels, which start from nothing and are
dropped with the session. A level that is still raised at the end of a session is lowered there.

This module processes a whole piece of the sequence at once, like `dataflows.engine.panes`. The late
readings of a sensor are cut into phases where its panes close; the n-th phases of all sensors are
processed together. Usually there is only one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Ints, concatenate, taken
from contract.table import Table, column, single
from dataflows.engine.panes import Late, OpenReadings, aggregate_distinct, end_of_pane, hold
from dataflows.engine.windows import WindowState
from dataflows.events.changes import Transition
from dataflows.events.levels import LevelState, NoSilences
from dataflows.events.told import LateSpan, Told
from dataflows.events.verdicts import Verdicts, VerdictState
from dataflows.segments import begins, lengths
from rules.columns import Rules
from rules.panes import PANE_MS, Panes, Windows

LIMIT = 10_000
"""The number of readings of a sensor after which its late panes close."""
_FAR = 2**62
GRACE_MS = 3_600_000
"""How far the newest late reading of a sensor is ahead of panes that close."""
_STAYS, _CLOSES, _ENDS = range(3)
"""What happens to a session before a record: nothing, its old panes close, or it ends."""


@dataclass(frozen=True, slots=True)
class Closing:
    """The late panes of some sensors that closed at the same time. P panes, K sensors."""

    sensor: Ints
    """(K,) the sensor's row in the live lane."""
    panes: Panes
    """`row` is the index of the sensor."""
    windows: Windows
    verdicts: Verdicts
    transitions: list[Transition]
    """Those to tell. `row` is the index of the sensor; those of a sensor are in order."""
    detected_at: Ints
    """(K,) the partition's arrival time at which the panes closed, epoch milliseconds UTC."""


class LateReadings(OpenReadings):
    """The readings of open late panes, of each sensor in order of arrival."""

    def settle(self) -> None:
        """Sort by sensor, so that a snapshot does not depend on which sensor came first."""
        self.keep(np.argsort(self.row, kind="stable"))


class Backlog(Table):
    """The sessions of one partition's sensors, one row per session."""

    sensor: Ints = column(np.int64, 0)
    """(K,) the sensor's row in the live lane, ascending."""
    idle_at: Ints = column(np.int64, NEVER)
    """(K,) the partition's arrival time at which the session ends."""
    mark: Ints = column(np.int64, NEVER)
    """(K,) the highest event time of its readings, epoch microseconds UTC."""
    closed_until: Ints = column(np.int64, NEVER)
    """(K,) epoch milliseconds UTC."""
    taken: Ints = column(np.int64, 0)
    """(K,) the number of readings since its panes last closed."""
    live_until: Ints = column(np.int64, NEVER)
    """(K,) `closed_until` of the sensor in the live lane, at its last late reading."""
    base: Ints = column(np.int64, NEVER)
    """(K,) `mark` after the session's first record, or `GRACE_MS` before it when panes closed."""
    decided: Ints = column(np.int64, 0)
    """(K,) what was decided about the incident that the sensor is in, see `Told`."""
    too_late: int = single(0)
    """The number of readings that were late in this lane too."""
    repeated: int = single(0)
    """The number of readings that were already in their late pane."""

    def __init__(self, idle_ms: int, limit: int = LIMIT, grace_ms: int = GRACE_MS) -> None:
        super().__init__()
        self._idle = idle_ms
        self._grace = grace_ms
        self._limit = limit
        self.open = LateReadings()
        self.windows = WindowState()
        self.verdicts = VerdictState(late=True)
        self.levels = LevelState(flaps=False)

    @property
    def tables(self) -> dict[str, Table]:
        """All state that outlives a piece, by name."""
        tables: dict[str, Table] = {
            "late_sessions": self,
            "late_readings": self.open,
            "late_windows": self.windows,
            "late_verdicts": self.verdicts,
            "late_levels": self.levels,
            "late_timers": self.levels.timers,
        }
        return tables | {f"late_{name}": table for name, table in self.verdicts.tables.items()}

    def step(
        self, late: Late, arrival: Ints, gap: Ints, sensor_id: Ints, judge: tuple[Rules, Told]
    ) -> tuple[list[Closing], Late]:
        """Process the late readings of the next piece of the sequence, whose records arrive at
        `arrival` (R,). `gap` (R,) is the usual gap of each record's device, `sensor_id` (S,) the
        sensor of each row. The panes are judged by the rules, and by what was told of the live
        lane. Returns the panes that close, and the readings that are too late.
        """
        if not len(late.row) and not self.rows:
            return [], late
        groups = np.flatnonzero(begins(late.row, late.record))  # of a sensor in a record
        count = lengths(groups, len(late.row))
        row, record = late.row[groups], late.record[groups]
        idle_at = arrival[record] + np.maximum(hold(gap[record], self._idle), self._idle)
        newest = np.maximum.reduceat(late.ts, groups) // 1000 if len(groups) else groups
        fate, due, until = self._fates(row, arrival[record], idle_at, count, newest)
        phase = np.cumsum(fate != _STAYS)
        if len(row):
            starts = np.flatnonzero(begins(row))
            before = phase[starts] - (fate[starts] != _STAYS)
            phase -= np.repeat(before, lengths(starts, len(row)))
        closings: list[Closing] = []
        too_late: list[Late] = []
        for turn in range(int(phase.max(initial=0)) + 1):
            mine = phase == turn
            closes = mine & (fate != _STAYS)
            if closes.any():
                at = arrival[np.searchsorted(arrival, due[closes])]
                session = self._find(row[closes])
                closings += self._close(session, until[closes], at, sensor_id, *judge)
            readings = taken(late, np.repeat(mine, count))
            too_late.append(self._take(readings, row[mine], idle_at[mine], count[mine]))
        over = np.flatnonzero(self.idle_at <= arrival[-1])
        if len(over):
            at = arrival[np.searchsorted(arrival, self.idle_at[over])]
            closings += self._close(over, np.full(len(over), _FAR), at, sensor_id, *judge)
        return closings, concatenate(too_late)

    def _fates(
        self, row: Ints, at: Ints, idle_at: Ints, count: Ints, newest: Ints
    ) -> tuple[NDArray[np.int8], Ints, Ints]:
        """(G,) what happens to the sensor's session before each group of late readings, (G,) the
        arrival time at which it does, and (G,) the end of the last pane that closes.
        """
        place = self._find(row)
        known = place >= 0
        idle_before = np.full(len(row), _FAR)
        idle_before[known] = self.idle_at[place[known]]
        first = begins(row)
        idle_before = np.where(first, idle_before, np.roll(idle_at, 1))
        fate = np.where(idle_before <= at, _ENDS, _STAYS).astype(np.int8)
        due = np.where(fate == _ENDS, idle_before, at)
        until = np.full(len(row), _FAR)
        starts = np.flatnonzero(first)
        ends = np.append(starts[1:], len(row))
        if len(starts):
            total, most = np.add.reduceat(count, starts), np.maximum.reduceat(newest, starts)
            least = np.minimum.reduceat(newest, starts)
            old = place[starts]
            if self.rows:
                total = total + np.where(old >= 0, self.taken[old], 0)
                most = np.maximum(most, np.where(old >= 0, self.mark[old] // 1000, NEVER))
                least = np.minimum(least, np.where(old >= 0, self.base[old], _FAR))
            long = (total > self._limit) | (most - least >= 2 * self._grace)
            for index in np.flatnonzero(long).tolist():
                part = slice(int(starts[index]), int(ends[index]))
                self._close_old(int(old[index]), fate[part], until[part], count[part], newest[part])
        return fate, due, until

    def _close_old(
        self, session: int, fate: NDArray[np.int8], until: Ints, count: Ints, newest: Ints
    ) -> None:
        """Set where the old panes of a session close, in `fate` and `until`."""
        mark, base, readings = NEVER, NEVER, 0
        if session >= 0:
            mark, base = int(self.mark[session]) // 1000, int(self.base[session])
            readings = int(self.taken[session])
        for group in range(len(fate)):
            if fate[group] == _ENDS:
                mark, base, readings = NEVER, NEVER, 0
            elif readings >= self._limit:
                fate[group], until[group] = _CLOSES, mark // PANE_MS * PANE_MS
                base, readings = mark, 0
            elif base > NEVER and mark - base >= 2 * self._grace:
                base, readings = mark - self._grace, 0
                fate[group], until[group] = _CLOSES, base // PANE_MS * PANE_MS
            readings += int(count[group])
            mark = max(mark, int(newest[group]))
            base = mark if base == NEVER else base

    def _take(self, late: Late, row: Ints, idle_at: Ints, count: Ints) -> Late:
        """Add readings to their sessions; return those that are too late. The readings are of
        groups: `row`, `idle_at` and `count`, (G,).
        """
        if not len(row):
            return late
        self._open(row[begins(row)])
        place = self._find(late.row)
        too_late = end_of_pane(late.ts) <= self.closed_until[place]
        self.too_late += int(too_late.sum())
        enters = ~too_late
        self.open.append(
            row=late.row[enters],
            device=late.device[enters],
            ts=late.ts[enters],
            seq=late.seq[enters],
            value=late.value[enters],
        )
        np.maximum.at(self.mark, place[enters], late.ts[enters])
        np.maximum.at(self.live_until, place, late.closed_until)
        of_group = self._find(row)
        np.add.at(self.taken, of_group, count)
        self.idle_at[of_group] = idle_at  # of a sensor's groups, the last one counts
        new = self.base[of_group] == NEVER
        newest = np.maximum.reduceat(late.ts, np.cumsum(count) - count) // 1000
        self.base[of_group[new][::-1]] = newest[new][::-1]  # the first one counts
        return taken(late, too_late)

    def _open(self, sensors: Ints) -> None:
        """Open sessions for the sensors that have none."""
        new = sensors[self._find(sensors) < 0]
        if not len(new):
            return
        self.append(sensor=new)
        order = np.argsort(self.sensor)
        for table in (self, self.windows, self.verdicts, self.levels):
            table.grow(self.rows)
            table.keep(order)
        self.levels.timers.rename(np.argsort(order))

    def _find(self, sensor: Ints) -> NDArray[np.intp]:
        """(N,) the session of each sensor; -1 if it has none."""
        if not self.rows:
            return np.full(len(sensor), -1)
        place = np.minimum(np.searchsorted(self.sensor, sensor), self.rows - 1)
        return np.where(self.sensor[place] == sensor, place, -1)

    def _close(  # noqa: PLR0917 - the sessions, and what judges them
        self, session: NDArray[np.intp], end: Ints, at: Ints, sensor_id: Ints, rules: Rules,
        told: Told,
    ) -> list[Closing]:  # fmt: skip
        """Close and judge the panes of sessions up to `end`, at the arrival times `at`. If `end` is
        `_FAR` the session ends and is dropped.
        """
        ends = end == _FAR
        until = np.full(self.rows, NEVER)
        until[session] = end
        self.closed_until[session] = np.maximum(self.closed_until[session], end)
        self.taken[session] = 0
        newest = self.mark[session] // 1000
        at_limit = end == newest // PANE_MS * PANE_MS
        self.base[session] = np.where(at_limit, newest, newest - self._grace)
        row = self._find(self.open.row)
        closing = end_of_pane(self.open.ts) <= until[row]
        panes, value, repeated = aggregate_distinct(self.open, row, closing)
        self.open.keep(~closing)
        self.repeated += repeated
        closings = []
        if len(panes.row):
            ids = sensor_id[self.sensor]
            windows = self.windows.step(panes, self.rows)
            verdicts = self.verdicts.step(panes, value, windows, ids, rules)
            transitions, _ = self.levels.step(panes, verdicts, rules, self.rows, NoSilences())
            last = np.append(np.flatnonzero(begins(panes.row))[1:] - 1, len(panes.row) - 1)
            ended = np.isin(panes.row[last], session[ends])
            transitions += self.levels.end(panes, last[ended])
            detected_at = np.full(self.rows, NEVER)
            detected_at[session] = at
            to_tell = self._to_tell(panes, transitions, told)
            closings = [Closing(self.sensor, panes, windows, verdicts, to_tell, detected_at)]
        self._drop(session[ends], sensor_id)
        return closings

    def _to_tell(self, panes: Panes, transitions: list[Transition], told: Told) -> list[Transition]:
        """The transitions of incidents that were not told before."""
        of_session: dict[int, list[Transition]] = {}
        for change in transitions:
            of_session.setdefault(change.row, []).append(change)
        to_tell = []
        for row, changes in of_session.items():
            first, end = np.searchsorted(panes.row, [row, row + 1])
            ends = panes.end[first:end].tolist()
            extended = ends[-1] - ends[-2] if len(ends) > 1 else PANE_MS
            span = LateSpan(ends[-1], extended, int(self.live_until[row]))
            sensor, decided = int(self.sensor[row]), int(self.decided[row])
            tells, self.decided[row] = told.late(sensor, changes, decided, span)
            if tells:
                self.levels.set_incident(row, tells[-1].incident)
            to_tell += tells
        return to_tell

    def _drop(self, session: NDArray[np.intp], sensor_id: Ints) -> None:
        """Drop sessions, and all that the lane knows of their sensors."""
        if not len(session):
            return
        kept = np.ones(self.rows, bool)
        kept[session] = False
        self.verdicts.grow(self.rows)
        self.verdicts.forget(session, sensor_id[self.sensor[session]])
        self.levels.timers.rename(np.where(kept, np.cumsum(kept) - 1, -1))
        for table in (self, self.windows, self.levels):
            table.grow(len(kept))
            table.keep(kept)
