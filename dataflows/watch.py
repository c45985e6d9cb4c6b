"""What one partition keeps and does: panes, then levels, then events."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from bytewax.operators import StatefulBatchLogic

from contract.columns import PacketColumns, concatenate
from contract.event import Event, event_key
from contract.level import Level
from dataflows.levels import LevelState, Transition
from dataflows.panes import Panes, PaneState
from dataflows.rules import Rules
from dataflows.texts import alarm_message, event_title, recovery_message

_TYPES = {Level.NORMAL: "notice", Level.WARN: "warning", Level.CRITICAL: "critical"}
_ACTIONS = {
    Level.NORMAL: "none",
    Level.WARN: "check_soon",
    Level.CRITICAL: "immediate_intervention",
}


@dataclass(frozen=True, slots=True)
class Watch:
    """What is watched for, and how: the same for every partition."""

    rules: Rules
    grace_ms: int
    idle_ms: int
    language: str


class PartitionLogic(StatefulBatchLogic[PacketColumns, Event, tuple[object, object]]):
    """The engine of one partition. Its output and state are a function of the sequence alone."""

    def __init__(self, watch: Watch, snapshot: tuple[object, object] | None) -> None:
        self._watch = watch
        if snapshot is None:
            self._panes, self._levels = PaneState(watch.grace_ms, watch.idle_ms), LevelState()
        else:
            panes, levels = snapshot
            self._panes = PaneState.restore(panes, watch.grace_ms, watch.idle_ms)  # type: ignore[arg-type]
            self._levels = LevelState.restore(levels)  # type: ignore[arg-type]

    def on_batch(self, values: list[PacketColumns]) -> tuple[Iterable[Event], bool]:
        """The events of the next pieces of the sequence."""
        state = self._panes
        panes = state.step(concatenate(values))
        transitions = self._levels.step(panes, state.sensor_id, self._watch.rules)
        events = [transition_event(self._watch, state, panes, one) for one in transitions]
        return events, StatefulBatchLogic.RETAIN

    def snapshot(self) -> tuple[object, object]:
        """The state of panes and levels, each plain arrays with a version tag."""
        return self._panes.snapshot(), self._levels.snapshot()


def transition_event(watch: Watch, state: PaneState, panes: Panes, change: Transition) -> Event:
    """The event that tells of a transition, and ends the one before it."""
    row, end = int(panes.row[change.pane]), int(panes.end[change.pane])
    sensor_id, mean = int(state.sensor_id[row]), float(panes.mean[change.pane])
    sensor = watch.rules.sensor(sensor_id)
    payload: dict[str, object] = {
        "severity": change.after.name,
        "recommended_action": _ACTIONS[change.after],
        "from": change.before.name,
        "to": change.after.name,
        "sensor_type": sensor.type,
        "baseline_mean": mean,
        "last_value": float(panes.last[change.pane]),
        "min": float(panes.minimum[change.pane]),
        "max": float(panes.maximum[change.pane]),
        "count": int(panes.count[change.pane]),
    }
    if change.rule is None:
        payload["duration_seconds"] = (end - change.since) / 1000
        message = recovery_message(watch.language, sensor, mean, end - change.since)
    else:
        rule = watch.rules.rule[change.rule]
        payload |= {"threshold_id": rule.id, "condition_type": rule.condition}
        message = alarm_message(watch.language, sensor, rule, change.after, mean)
    code = event_code(change.after)
    resolves = None
    if change.before is not Level.NORMAL:
        resolves = event_key(sensor_id, change.changed_at, event_code(change.before))
    return Event(
        event_key=event_key(sensor_id, end, code),
        device_id=int(state.device_id[row]),
        sensor_id=sensor_id,
        at=end,
        event_type=_TYPES[change.after],
        event_code=code,
        title=event_title(watch.language, sensor, change.after),
        message=message,
        value=mean,
        payload=msgspec.json.encode(payload).decode(),
        resolves=resolves,
        status="resolved" if change.after is Level.NORMAL else "active",
    )


def event_code(level: Level) -> str:
    """The code, of those that the back end knows, for a change to `level`."""
    return "RECOVERED_ANOMALY" if level is Level.NORMAL else "ML_BEHAVIOR_STATE"
