"""What the engine reports of sensors and devices, before it is put into words."""

from dataclasses import dataclass

from contract.level import Level


@dataclass(frozen=True, slots=True)
class Transition:
    """A sensor's level changed with the closing of a pane."""

    pane: int
    """Index into the panes of the step."""
    before: Level
    after: Level
    since: int
    """End of the pane with which the sensor left NORMAL, epoch milliseconds UTC."""
    changed_at: int
    """End of the pane that brought `before`, likewise."""
    kind_before: int
    """The number of the kind of rule that asked for `before`."""
    kind: int
    """That of the kind that asks for `after`."""
    rule: int
    """The rule that asks for `after`, an index into `Rules.rule`, or `NOBODY`, or `BY_DETECTOR`."""
    quiet: int
    """Of one that fell: panes in a row, up to this one, that neither asked for the level nor held
    it."""
    clear_after: int
    """How many of those were needed."""
    silent: bool
    """Whether the sensor is flapping."""


@dataclass(frozen=True, slots=True)
class Flapping:
    """A sensor began, or ceased, to change its level with almost every pane."""

    pane: int
    begins: bool
    since: int
    """End of the pane with which it began."""
    level: Level


@dataclass(frozen=True, slots=True)
class Deviation:
    """A sensor began, or ceased, to be where it was not predicted to be."""

    pane: int
    """Index into the panes of the step."""
    begins: bool
    far: bool
    """Off by half of the predicted value or more."""
    seen: float
    """The mean of w10."""
    value: float
    """What was predicted."""
    error: float
    relative: float
    predicted_at: int
    since: int
    """End of the pane with which the sensor began to be off, epoch milliseconds UTC."""


@dataclass(frozen=True, slots=True)
class NoDataChange:
    """A sensor or a device fell silent, or was heard again."""

    row: int
    """The sensor's row, or the device's."""
    device: int
    """The device's row."""
    is_device: bool
    begins: bool
    at: int
    """Arrival time at which it counts as silent, or was heard again, epoch milliseconds UTC."""
    heard_at: int
    """When it had last been heard before."""
    since: int
    """The `at` of the silence's beginning."""
