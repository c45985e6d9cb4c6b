"""The engine of one partition: turns a sequence of records and heartbeats into all results.

Its output and state are a function of the sequence and of the rules alone. They do not depend on
how the sequence is split into pieces, on restarts or on speed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.columns import NEVER, Ints, PacketColumns, taken
from contract.event import Event
from contract.level import Level
from contract.predictions import HORIZON_MS, Predictions
from contract.rollups import ROLLUP_MS, Rollups, StaleRollups
from contract.settings import Settings
from contract.table import Snapshot, Table, restore, snapshot_of
from dataflows.engine.backlog import GRACE_MS, LIMIT, Backlog, Closing
from dataflows.engine.gaps import DeviceGaps
from dataflows.engine.no_data import NoDataState
from dataflows.engine.panes import SECONDS, Late, PaneResult, PaneState, pane_end
from dataflows.engine.predictions import PredictionState
from dataflows.engine.rollups import RollupRows, RollupState
from dataflows.engine.rows import PartitionRows, ReadingRows
from dataflows.engine.stale import StaleBuckets
from dataflows.engine.windows import WindowState
from dataflows.events.abnormal import abnormal
from dataflows.events.detector import Detector
from dataflows.events.levels import LevelState, NoSilences, Silence
from dataflows.events.lookback import LOOKBACK_MS, Change, added, judged
from dataflows.events.told import Told
from dataflows.events.verdicts import VerdictState
from dataflows.events.writing import EventWriter
from dataflows.state.earlier import as_tables
from ml.predict.flow_rows import told
from rules.columns import Rules
from rules.panes import PANE_MS, Panes, Windows
from rules.words import Names

_STABLE = 1e-3
"""A trend of this slope per minute or less is stable."""
_FULL_CONFIDENCE = 60
"""The number of readings that give a moving average a confidence of 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The settings of an installation; times in milliseconds if not stated."""

    grace_ms: int = 1_000
    idle_ms: int = 3_000
    predict_ms: int = 60_000
    late_limit: int = LIMIT
    """Readings, see `dataflows.engine.backlog`."""
    late_grace_ms: int = GRACE_MS
    deviations: bool = True
    """Whether deviations from predictions are reported."""

    @classmethod
    def of(cls, settings: Settings) -> "Times":
        """Those of an installation."""
        return cls(
            grace_ms=settings.grace_ms,
            idle_ms=settings.idle_close_ms,
            predict_ms=settings.predict_every_seconds * 1000,
            deviations=settings.prediction_deviation == "on",
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a piece of the sequence."""

    sensor_id: Ints
    """(S,) the sensor of each row."""
    panes: Panes
    windows: Windows
    late: Late
    closings: list[Closing]
    """The panes of late readings that closed."""
    events: list[Event]
    """Sorted by time. At the same time, events that resolve others come last."""
    rollups: Rollups
    stale: StaleRollups
    predictions: Predictions


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of what entered no pane, since the state was created."""

    late: int
    """Readings that arrived after their pane had closed, and entered the backlog lane."""
    too_late: int
    """Those of them that were late there too."""
    future: int
    duplicates: int
    """Records that repeat one of the last 64 packets of their device."""
    repeated: int
    """Readings that were already in their pane."""


class Engine:
    """The state of one partition."""

    def __init__(self, times: Times, detector: Detector | None = None) -> None:
        self._times = times
        self._rows = PartitionRows()
        self._gaps = DeviceGaps()
        self._panes = PaneState(times.grace_ms, times.idle_ms)
        self._backlog = Backlog(times.idle_ms, times.late_limit, times.late_grace_ms)
        self._windows = WindowState()
        self._verdicts = VerdictState(detector)
        self._levels = LevelState()
        self._told = Told()
        self._stale = StaleBuckets()
        self._no_data = NoDataState()
        self._rollups = [RollupState(period, flush=True) for period in ROLLUP_MS]
        self._predictions = PredictionState(times.predict_ms)
        self.tables: dict[str, Table] = {
            "partition": self._rows,
            "sensors": self._rows.sensors,
            "devices": self._rows.devices,
            "panes": self._panes,
            "open_readings": self._panes.open,
            "windows": self._windows,
            "verdicts": self._verdicts,
            "levels": self._levels,
            "timers": self._levels.timers,
            "told": self._told,
            "stale": self._stale,
            "device_gaps": self._gaps,
            "no_data_sensors": self._no_data.sensors,
            "no_data_devices": self._no_data.devices,
            "predictions": self._predictions,
            f"open_predictions/{times.predict_ms}": self._predictions.open,
            f"predicted_periods/{times.predict_ms}": self._predictions.rollups,
        }
        """All state that outlives a piece, by name."""
        for state in self._rollups:
            self.tables[f"rollups/{state.period}"] = state
        self.tables |= self._verdicts.tables | self._backlog.tables
        if detector is not None:
            self.tables |= detector.tables

    @property
    def arrival(self) -> int:
        """The partition's arrival time, epoch milliseconds UTC."""
        return self._rows.arrival

    @property
    def counts(self) -> Counts:
        """Counts of what entered no pane so far."""
        panes = self._panes
        backlog = self._backlog
        return Counts(
            late=panes.late,
            too_late=backlog.too_late,
            future=panes.future,
            duplicates=self._rows.duplicates,
            repeated=panes.repeated + backlog.repeated,
        )

    @property
    def levels(self) -> tuple[int, int, int]:
        """The number of sensors that are NORMAL, WARN and CRITICAL."""
        return self._levels.counts

    @property
    def unjudged(self) -> int:
        """The number of sensors that the detector cannot report for now, see `Detector`."""
        return self._verdicts.unjudged(self._rows.sensors.id, self._panes.watermark)

    def snapshot(self) -> dict[str, Snapshot]:
        """Copy the state as plain arrays and numbers, by table and column."""
        return snapshot_of(self.tables)

    def restore(self, snapshot: dict[str, Snapshot] | tuple[Any, ...]) -> None:
        """Restore the state from the result of `snapshot`.

        Raises:
            SetupError: an incompatible version of this program wrote it; the message says what to
                do.
        """
        if isinstance(snapshot, tuple):
            snapshot = as_tables(snapshot)
        restore(self.tables, snapshot)

    @property
    def rules_version(self) -> str:
        """The version of the rules that were used last; empty before the first step."""
        return self._rows.rules_version

    def step(
        self, piece: PacketColumns, rules: Rules, names: Names, change: Change | None = None
    ) -> Outcome:
        """Process the next piece of the sequence, with the same `rules` for all of it. `change` if
        the rules before were others.
        """
        events = [] if change is None else self._look_back(change, rules, names)
        rows = self._rows
        rows.rules_version = rules.version
        readings = rows.enter(piece)
        ids, arrival = rows.sensors.id, rows.arrival
        limits = (rules.silences.of_sensors(ids), rules.silences.of_devices(rows.devices.id))
        no_data = self._no_data.step(readings, rows.sensors.device, limits)
        rows.settle_devices(readings)
        gap = self._gaps.step(readings, rows.devices.rows)
        closed = self._panes.step(readings, gap, len(ids))
        panes = closed.panes
        windows = self._windows.step(panes, len(ids))
        verdicts = self._verdicts.step(panes, closed.value, windows, ids, rules)
        levels = self._levels.level.copy()
        silences = _Silences(self._panes, closed, arrival)
        transitions, flappings = self._levels.step(panes, verdicts, rules, len(ids), silences)
        self._told.live(transitions)
        closings, too_late = self._backlog.step(
            closed.late, readings.arrival, gap, ids, (rules, self._told)
        )
        self._told.compress(self._panes.closed_until, self._backlog.sensor)
        watched = ~np.isin(ids, rules.without_deviations) & self._times.deviations
        made, deviations = self._predictions.step(
            closed,
            windows,
            arrival,
            ids,
            rules.trends,
            abnormal(levels, transitions, verdicts),
            watched,
        )
        ended = [rollups.step(closed, arrival, len(ids)) for rollups in self._rollups]
        writer = EventWriter(names, ids, rows.devices.id, rules, verdicts)
        events += [
            *map(writer.transition, transitions),
            *map(writer.flapping, flappings),
            *map(writer.deviation, deviations),
            *map(writer.no_data, no_data),
        ]
        for closing in closings:
            events += self._late_events(closing, rules, names)
        return Outcome(
            sensor_id=ids,
            panes=panes,
            windows=windows,
            late=closed.late,
            closings=closings,
            events=sorted(events, key=lambda event: (event.at, event.status, event.event_key)),
            rollups=_rollups(ended, ids),
            stale=self._stale_buckets(readings, closed, closings, too_late, ended),
            predictions=self._predicted(made, closed, rules, names),
        )

    def _look_back(self, change: Change, rules: Rules, names: Names) -> list[Event]:
        """The events that new rules cause on the panes of the last minute, of sensors whose level
        is NORMAL.
        """
        ids, new = self._rows.sensors.id, added(rules, change.before)
        watched = np.isin(ids, Rules(new).sensors)
        self._levels.grow(len(ids))
        rows = np.flatnonzero(watched & (self._levels.level == Level.NORMAL))
        self._windows.grow(len(ids))
        device = self._rows.sensors.device
        panes = self._windows.since(change.applies_from - LOOKBACK_MS, rows, device)
        if not len(panes.row):
            return []
        windows = WindowState().step(panes, len(ids))
        verdicts = judged(panes, windows, ids, new, rules)
        none = NoSilences()
        transitions, flappings = self._levels.step(panes, verdicts, rules, len(ids), none)
        self._told.live(transitions)
        writer = EventWriter(names, ids, self._rows.devices.id, rules, verdicts)
        return [*map(writer.transition, transitions), *map(writer.flapping, flappings)]

    def _late_events(self, closing: Closing, rules: Rules, names: Names) -> list[Event]:
        """The events of late panes."""
        ids = self._rows.sensors.id[closing.sensor]
        writer = EventWriter(names, ids, self._rows.devices.id, rules, closing.verdicts)
        # an incident that is cut has no event for its end, but the one before it has ended
        cut = {(change.row, change.changed_at) for change in closing.transitions if change.cut}
        whole = cut & {(change.row, change.at) for change in closing.transitions if not change.cut}
        return [
            writer.transition(
                change, int(closing.detected_at[change.row]), ended=(change.row, change.at) in whole
            )
            for change in closing.transitions
            if not (change.cut and (change.row, change.changed_at) in whole)
        ]

    def _stale_buckets(
        self,
        readings: ReadingRows,
        closed: PaneResult,
        closings: list[Closing],
        too_late: Late,
        ended: list[RollupRows],
    ) -> StaleRollups:
        late = [
            (closing.sensor[closing.panes.row], (closing.panes.end - PANE_MS) * 1000)
            for closing in closings
        ]
        of_lane = [
            (readings.repeated_row, readings.repeated_ts),
            (too_late.row, too_late.ts),
            *late,
        ]
        rows, times = zip(*of_lane, (closed.future.row, closed.future.ts), strict=True)
        future = np.zeros(sum(map(len, rows)), np.bool_)
        future[len(future) - len(closed.future.row) :] = True
        return self._stale.step(
            np.concatenate(rows),
            np.concatenate(times),
            future,
            self._rollups,
            ended,
            self._panes.watermark,
            self._rows.sensors.id,
        )

    def _predicted(
        self, made: RollupRows, closed: PaneResult, rules: Rules, names: Names
    ) -> Predictions:
        """The predictions that are forecasts: made before their target. A device that uploads what
        it measured last week gets none for last week, which would look like current ones.
        """
        at = made.start + self._times.predict_ms
        ahead = at + HORIZON_MS > _made_at(closed, made.row, at)
        made, at = taken(made, ahead), at[ahead]
        sensor_id = self._rows.sensors.id[made.row]
        model_id, slope, _ = rules.trends.of(sensor_id, at)
        device_id = self._rows.devices.id[made.device]
        confidence = np.minimum(1.0, made.count / _FULL_CONFIDENCE)
        trend = np.where(np.abs(slope) > _STABLE, np.sign(slope), 0).astype(np.int64)
        texts = told(
            model_id, sensor_id, device_id, at, made.last, made.mean, confidence, made.count, trend,
            slope, rules.thresholds_of, names,
        )  # fmt: skip
        return Predictions(
            model_id=model_id,
            sensor_id=sensor_id,
            device_id=device_id,
            predicted_at=at,
            target=at + HORIZON_MS,
            value=made.mean,
            confidence=confidence,
            window=made.count,
            trend=trend,
            **texts._asdict(),
        )


class _Silences:
    """How long the values of sensors have stood: while they were idle, and up to now."""

    def __init__(self, state: PaneState, closed: PaneResult, arrival: int) -> None:
        self._state = state
        self._closed = closed
        self._arrival = arrival

    def of(self, sensors: NDArray[np.bool_]) -> Silence:
        """Those of some sensors, a mask (S,)."""
        spells, state = self._closed.spells, self._state
        ended = np.flatnonzero(sensors[spells.row])
        end, until = spells.end[ended], spells.until[ended]
        stood = np.minimum(end + until - spells.stands_from[ended], until)
        now = np.flatnonzero(sensors)
        newest = pane_end(state.watermark[now])
        idle = np.where(self._closed.idle[now], self._arrival - state.stands_from(now), NEVER)
        stands = np.maximum(state.closed_until[now], np.minimum(newest + idle, self._arrival))
        row = np.concatenate((spells.row[ended], now))
        order = np.argsort(row, kind="stable")
        return Silence(
            row[order],
            np.concatenate((end, newest))[order],
            np.concatenate((stood, stands))[order],
        )


def _made_at(closed: PaneResult, row: Ints, end: Ints) -> Ints:
    """(P,) the arrival time at which periods that end at `end` were over: when the first pane that
    reaches their end closed.
    """
    if not len(row):
        return end
    panes = closed.panes
    keys = panes.row * SECONDS + panes.end // PANE_MS
    pane = np.searchsorted(keys, row * SECONDS + end // PANE_MS)
    return closed.closings.of(row, panes.end[pane])


def _rollups(ended: list[RollupRows], sensor_id: Ints) -> Rollups:
    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(rollups, name) for rollups in ended])

    return Rollups(
        period=np.repeat(ROLLUP_MS, [len(rollups.row) for rollups in ended]),
        sensor_id=sensor_id[joined("row")],
        bucket=joined("start"),
        count=joined("count"),
        mean=joined("mean"),
        minimum=joined("minimum"),
        maximum=joined("maximum"),
        last=joined("last"),
    )
