"""The engine of one partition: a sequence of records and heartbeats in, everything else out.

All that it gives and keeps is a function of the sequence and of the rules alone: not of how it was
cut into pieces, not of restarts, not of speed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from contract.columns import Ints, PacketColumns
from contract.errors import SetupError
from contract.event import Event
from contract.predictions import HORIZON_MS, Predictions
from contract.rollups import ROLLUP_MS, Rollups
from dataflows.engine.detector import Detector
from dataflows.engine.no_data import NoDataState
from dataflows.engine.panes import Late, PaneState
from dataflows.engine.predictions import PredictionState
from dataflows.engine.rollups import RollupRows, RollupState
from dataflows.engine.rows import SensorRows
from dataflows.engine.verdicts import VerdictState
from dataflows.engine.windows import WindowState
from dataflows.events.levels import LevelState
from dataflows.events.writing import EventWriter
from rules.columns import Rules
from rules.panes import Panes, Windows
from rules.words import Names

_VERSION = 5
_READ = (3, 4, _VERSION)
_STABLE = 1e-3
"""Up to this slope, per minute, a trend is called stable."""
_FULL_CONFIDENCE = 60
"""How many readings a moving average needs for the confidence 1."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long things take, in milliseconds: settings of an installation."""

    grace_ms: int = 1_000
    idle_ms: int = 3_000
    predict_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a piece of the sequence led to."""

    sensor_id: Ints
    """(S,) of each row."""
    panes: Panes
    windows: Windows
    late: Late
    events: list[Event]
    """By time; of one time those that end something come last."""
    rollups: Rollups
    predictions: Predictions


@dataclass(frozen=True, slots=True)
class Counts:
    """What did not enter a pane, since the state was made."""

    late: int
    future: int
    duplicates: int
    """Records that repeat one of the last 64 of their device."""
    repeated: int
    """Readings that were in their pane already."""


class Engine:
    """The state of one partition."""

    def __init__(self, times: Times, detector: Detector | None = None) -> None:
        self._times = times
        self._sensors = SensorRows()
        self._panes = PaneState(times.grace_ms, times.idle_ms)
        self._windows = WindowState()
        self._verdicts = VerdictState(detector)
        self._levels = LevelState()
        self._silence = NoDataState()
        self._rollups = [RollupState(period, flush=True) for period in ROLLUP_MS]
        self._predictions = PredictionState(times.predict_ms)

    @property
    def arrival(self) -> int:
        """The partition's arrival time, epoch milliseconds UTC."""
        return self._sensors.arrival

    @property
    def counts(self) -> Counts:
        """What did not enter a pane so far."""
        panes = self._panes
        return Counts(panes.late, panes.future, self._sensors.duplicates, panes.repeated)

    @property
    def levels(self) -> tuple[int, int, int]:
        """How many sensors are NORMAL, WARN and CRITICAL."""
        return self._levels.counts

    def snapshot(self) -> tuple[Any, ...]:
        """The state as plain arrays and numbers, with a version tag in front."""
        return (
            _VERSION,
            self._sensors.snapshot(),
            self._panes.snapshot(),
            self._windows.snapshot(),
            self._verdicts.snapshot(),
            self._levels.snapshot(),
            self._silence.snapshot(),
            tuple(rollups.snapshot() for rollups in self._rollups),
            self._predictions.snapshot(),
        )

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Take over the state that `snapshot` was taken of.

        Raises:
            SetupError: another version of this program wrote it; the text says what to do.
        """
        if snapshot[0] not in _READ:
            raise SetupError(
                f"the recovery directory was written by another version of this program, and this "
                f"one reads versions {_READ[0]} to {_VERSION} of the state: start with a new "
                "directory. The flow then takes the topic from START_FROM on; what is stored is "
                "not stored again"
            )
        version, sensors, panes, windows, verdicts, levels, silence, rollups, predictions = snapshot
        if version == 3:
            panes = PaneState.upgraded(panes)
        if version < 5:
            verdicts = VerdictState.upgraded(verdicts)
        self._sensors.restore(sensors)
        self._panes.restore(panes)
        self._windows.restore(windows)
        self._verdicts.restore(verdicts)
        self._levels.restore(levels)
        self._silence.restore(silence)
        for state, one in zip(self._rollups, rollups, strict=True):
            state.restore(one)
        self._predictions.restore(predictions)

    def step(self, piece: PacketColumns, rules: Rules, names: Names) -> Outcome:
        """Take the next piece of the sequence, all of it under `rules`."""
        state = self._sensors
        heard = state.hear(piece)
        ids, arrival = state.sensor_id, int(heard.arrival[-1])
        silences = self._silence.step(heard, state.device, len(state.device_id))
        state.settle(heard)
        closed = self._panes.step(heard, len(ids))
        panes = closed.panes
        windows = self._windows.step(panes, len(ids))
        verdicts = self._verdicts.step(panes, windows, ids, rules)
        transitions, flappings = self._levels.step(panes, verdicts, rules, len(ids))
        made, deviations = self._predictions.step(closed, windows, arrival, ids, rules.trends)
        told = [rollups.step(closed, arrival, len(ids)) for rollups in self._rollups]
        writer = EventWriter(names, state, rules, verdicts)
        events = [
            *map(writer.transition, transitions),
            *map(writer.flapping, flappings),
            *map(writer.deviation, deviations),
            *map(writer.silence, silences),
        ]
        return Outcome(
            sensor_id=ids,
            panes=panes,
            windows=windows,
            late=closed.late,
            events=sorted(events, key=lambda event: (event.at, event.status, event.event_key)),
            rollups=_rollups(told, ids),
            predictions=self._predicted(made, rules),
        )

    def _predicted(self, made: RollupRows, rules: Rules) -> Predictions:
        at = made.start + self._times.predict_ms
        sensor_id = self._sensors.sensor_id[made.row]
        model_id, slope, _ = rules.trends.of(sensor_id, at)
        return Predictions(
            model_id=model_id,
            sensor_id=sensor_id,
            device_id=self._sensors.device_id[made.device],
            predicted_at=at,
            target=at + HORIZON_MS,
            value=made.mean,
            confidence=np.minimum(1.0, made.count / _FULL_CONFIDENCE),
            window=made.count,
            trend=np.where(np.abs(slope) > _STABLE, np.sign(slope), 0).astype(np.int64),
        )


def _rollups(told: list[RollupRows], sensor_id: Ints) -> Rollups:
    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(rollups, name) for rollups in told])

    return Rollups(
        period=np.repeat(ROLLUP_MS, [len(rollups.row) for rollups in told]),
        sensor_id=sensor_id[joined("row")],
        bucket=joined("start"),
        count=joined("count"),
        mean=joined("mean"),
        minimum=joined("minimum"),
        maximum=joined("maximum"),
        last=joined("last"),
    )
