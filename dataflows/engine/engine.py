"""The engine of one partition: turns a sequence of records and heartbeats into all results.

Its output and state are a function of the sequence and of the rules alone. They do not depend on
how the sequence is split into pieces, on restarts or on speed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from contract.columns import Ints, PacketColumns, taken
from contract.event import Event
from contract.predictions import HORIZON_MS, Predictions
from contract.rollups import ROLLUP_MS, Rollups
from contract.table import Snapshot, Table, restore, snapshot_of
from dataflows.engine.no_data import NoDataState
from dataflows.engine.panes import PANE_MS, SECONDS, Late, PaneResult, PaneState
from dataflows.engine.predictions import PredictionState
from dataflows.engine.rollups import RollupRows, RollupState
from dataflows.engine.rows import PartitionRows
from dataflows.engine.windows import WindowState
from dataflows.events.detector import Detector
from dataflows.events.levels import LevelState
from dataflows.events.verdicts import VerdictState
from dataflows.events.writing import EventWriter
from dataflows.state.earlier import as_tables
from ml.predict.flow_rows import told
from rules.columns import Rules
from rules.panes import Panes, Windows
from rules.tables import kind_numbered
from rules.words import Names

_STABLE = 1e-3
"""A trend of this slope per minute or less is stable."""
_FULL_CONFIDENCE = 60
"""The number of readings that give a moving average a confidence of 1."""


@dataclass(frozen=True, slots=True)
class Times:
    """The time settings of an installation, in milliseconds."""

    grace_ms: int = 1_000
    idle_ms: int = 3_000
    predict_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a piece of the sequence."""

    sensor_id: Ints
    """(S,) the sensor of each row."""
    panes: Panes
    windows: Windows
    late: Late
    events: list[Event]
    """Sorted by time. At the same time, events that resolve others come last."""
    rollups: Rollups
    predictions: Predictions


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of what entered no pane, since the state was created."""

    late: int
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
        self._panes = PaneState(times.grace_ms, times.idle_ms)
        self._windows = WindowState()
        self._verdicts = VerdictState(detector)
        self._levels = LevelState()
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
            "no_data_sensors": self._no_data.sensors,
            "no_data_devices": self._no_data.devices,
            "predictions": self._predictions,
            f"open_predictions/{times.predict_ms}": self._predictions.open,
            f"predicted_periods/{times.predict_ms}": self._predictions.rollups,
        }
        """All state that outlives a piece, by name."""
        for state in self._rollups:
            self.tables[f"rollups/{state.period}"] = state
        for number, memory in self._verdicts.memories.items():
            self.tables[f"{kind_numbered(number).name}_memory"] = memory
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
        return Counts(panes.late, panes.future, self._rows.duplicates, panes.repeated)

    @property
    def levels(self) -> tuple[int, int, int]:
        """The number of sensors that are NORMAL, WARN and CRITICAL."""
        return self._levels.counts

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

    def step(self, piece: PacketColumns, rules: Rules, names: Names) -> Outcome:
        """Process the next piece of the sequence, with the same `rules` for all of it."""
        rows = self._rows
        readings = rows.enter(piece)
        ids, arrival = rows.sensors.id, rows.arrival
        no_data = self._no_data.step(readings, rows.sensors.device, rows.devices.rows)
        rows.settle_devices(readings)
        closed = self._panes.step(readings, len(ids))
        panes = closed.panes
        windows = self._windows.step(panes, len(ids))
        verdicts = self._verdicts.step(panes, windows, ids, rules)
        transitions, flappings = self._levels.step(panes, verdicts, rules, len(ids))
        made, deviations = self._predictions.step(closed, windows, arrival, ids, rules.trends)
        ended = [rollups.step(closed, arrival, len(ids)) for rollups in self._rollups]
        writer = EventWriter(names, ids, rows.devices.id, rules, verdicts)
        events = [
            *map(writer.transition, transitions),
            *map(writer.flapping, flappings),
            *map(writer.deviation, deviations),
            *map(writer.no_data, no_data),
        ]
        return Outcome(
            sensor_id=ids,
            panes=panes,
            windows=windows,
            late=closed.late,
            events=sorted(events, key=lambda event: (event.at, event.status, event.event_key)),
            rollups=_rollups(ended, ids),
            predictions=self._predicted(made, closed, rules, names),
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


def _made_at(closed: PaneResult, row: Ints, end: Ints) -> Ints:
    """(P,) the arrival time at which periods that end at `end` were over: when the first pane that
    reaches their end closed.
    """
    panes = closed.panes
    keys = panes.row * SECONDS + panes.end // PANE_MS
    pane = np.searchsorted(keys, row * SECONDS + end // PANE_MS)
    return closed.closed_at(row, panes.end[pane])


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
