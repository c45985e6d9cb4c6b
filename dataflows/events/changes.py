"""The changes that the engine reports, before they become events."""

from dataclasses import dataclass
from typing import NamedTuple

from contract.level import Level


class Standing(NamedTuple):
    """A sensor's last pane, whose value stands since then."""

    device: int
    """The device's row."""
    end: int
    """Epoch milliseconds UTC."""
    readings: int
    mean: float
    minimum: float
    maximum: float


class Incident(NamedTuple):
    """What identifies an incident of a sensor: its first event."""

    since: int
    """When the sensor left NORMAL or began to flap, epoch milliseconds UTC."""
    kind: int
    """The number of the kind of rule that raised its level, or `BY_FLAPPING`."""


BY_FLAPPING = -1
"""In place of a kind of rule: the incident began with flapping."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A sensor's level changed: when a pane closed, or because a value stood for long enough."""

    row: int
    """The sensor's row."""
    at: int
    """Event time of the change, epoch milliseconds UTC: the end of the pane, or when the value had
    stood for long enough."""
    pane: int
    """Index into the panes of the step; -1 if a value stood."""
    standing: Standing | None
    """The pane whose value stood."""
    before: Level
    after: Level
    since: int
    """End of the pane that moved the sensor away from NORMAL, epoch milliseconds UTC."""
    changed_at: int
    """When the level `before` was set, epoch milliseconds UTC; NEVER if that was not told."""
    incident: Incident
    """The incident that the change belongs to."""
    kind_before: int
    """The number of the kind of rule that caused `before`."""
    kind: int
    """The number of the kind of rule that causes `after`."""
    rule: int
    """The rule that causes `after`: an index into `Rules.rule`, `NO_RULE` or `BY_DETECTOR`."""
    quiet: int
    """For a lowered level: consecutive panes up to this one that neither raised nor held it."""
    clear_after: int
    """The number of such panes that lower the level."""
    rings: bool
    """Whether somebody has to be notified: the sensor is not flapping, and its level is the highest
    so far in the incident."""
    cut: bool = False
    """Whether the level was lowered only because the late readings of the sensor end here."""


@dataclass(frozen=True, slots=True)
class Flapping:
    """A sensor started or stopped changing its level with almost every pane."""

    pane: int
    begins: bool
    since: int
    """End of the pane with which flapping began, epoch milliseconds UTC."""
    level: Level
    incident: Incident
    rings: bool
    """Whether somebody has to be notified, as for a `Transition`."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """A sensor started or stopped deviating from its predictions."""

    pane: int
    """Index into the panes of the step."""
    begins: bool
    far: bool
    """Whether the error is at least half of the predicted value."""
    seen: float
    """The mean of w10."""
    value: float
    """The predicted value."""
    error: float
    relative: float
    predicted_at: int
    since: int
    """End of the pane with which the deviation began, epoch milliseconds UTC."""


@dataclass(frozen=True, slots=True)
class NoDataChange:
    """A sensor or a device stopped sending data, or resumed."""

    row: int
    """The row of the sensor or the device."""
    device: int
    """The device's row."""
    is_device: bool
    begins: bool
    at: int
    """Arrival time at which it became silent or its data resumed, epoch milliseconds UTC."""
    heard_at: int
    """Arrival time of its last data before that, epoch milliseconds UTC."""
    since: int
    """The `at` of the change with which the silence began."""
