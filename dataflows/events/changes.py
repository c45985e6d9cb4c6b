"""The changes that the engine reports, before they become events."""

from dataclasses import dataclass

from contract.level import Level


@dataclass(frozen=True, slots=True)
class Transition:
    """A sensor's level changed when a pane closed."""

    pane: int
    """Index into the panes of the step."""
    before: Level
    after: Level
    since: int
    """End of the pane that moved the sensor away from NORMAL, epoch milliseconds UTC."""
    changed_at: int
    """End of the pane that set the level `before`, epoch milliseconds UTC."""
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
    silent: bool
    """Whether the sensor is flapping."""


@dataclass(frozen=True, slots=True)
class Flapping:
    """A sensor started or stopped changing its level with almost every pane."""

    pane: int
    begins: bool
    since: int
    """End of the pane with which flapping began, epoch milliseconds UTC."""
    level: Level


@dataclass(frozen=True, slots=True)
class Deviation:
    """A sensor started or stopped deviating from its predictions."""

    pane: int
    """Index into the panes of the step."""
    begins: bool
    seen: float
    """The mean of w10."""
    value: float
    """The predicted value."""
    error: float
    relative: float
    band: float
    """The largest error that would have been as predicted."""
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
