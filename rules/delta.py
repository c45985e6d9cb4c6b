"""Deltas: two consecutive panes differ by a bound or more. Rows of `delta_thresholds`."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.level import Level
from rules.kind import (
    CLEAR_AFTER,
    LEVELS,
    Cause,
    Closed,
    Id,
    Judged,
    Kind,
    Severity,
    Source,
    Texts,
    Told,
    check_bounds,
    checked_count,
    checked_row,
    finite,
    or_inf,
)
from rules.panes import Panes, Windows
from rules.words import duration, quantity

BOUNDS = ("abs_delta", "rel_delta", "abs_slope", "rel_slope")
_TABLE = "delta_thresholds"
_ZERO = 1e-6
"""A mean of this absolute value or less has no relative delta."""


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """Raises its level when two consecutive panes differ by a bound or more. None: no bound."""

    table: str
    id: int
    sensor_id: int
    level: Level
    abs_delta: float | None
    rel_delta: float | None
    abs_slope: float | None
    rel_slope: float | None
    min_readings: int
    raise_after: int
    clear_after: int


class _Row(msgspec.Struct):
    sensor_id: Id
    id: Id = 0
    abs_delta: float | None = None
    rel_delta: float | None = None
    abs_slope: float | None = None
    rel_slope: float | None = None
    severity: Severity | None = None
    is_active: bool | int = True
    min_readings: int | None = None
    raise_after: int | None = None
    clear_after: int | None = None


def _of_row(values: Mapping[str, Any]) -> list[Delta]:
    row = checked_row(values, _Row, ("cooldown_sec", "min_delta_abs"))
    if not row.is_active or row.severity == "info":
        return []
    bounds = {name: getattr(row, name) for name in BOUNDS}
    check_bounds(bounds)
    return [
        Delta(
            table=_TABLE, id=row.id, sensor_id=row.sensor_id,
            level=LEVELS[row.severity or "warning"], **bounds,
            min_readings=checked_count("min_readings", row.min_readings, 5, least=0),
            raise_after=checked_count("raise_after", row.raise_after, 1),
            clear_after=checked_count("clear_after", row.clear_after, CLEAR_AFTER),
        )
    ]  # fmt: skip


def delta(panes: Panes, windows: Windows, pane: NDArray[np.intp]) -> tuple[Floats, ...]:
    """abs_delta, rel_delta, abs_slope and rel_slope of each pane compared with the previous one.
    Slopes are per second.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        before = windows.mean_before[pane]
        change = np.abs(panes.mean[pane] - before)
        size = np.abs(before)
        relative = np.divide(change, size, out=np.zeros_like(change), where=size > _ZERO)
        seconds = (panes.end[pane] - windows.end_before[pane]) / 1000.0
    return change, relative, change / seconds, relative / seconds


class DeltaKind(Kind[Delta]):
    """See the module."""

    number = 1
    name = "delta"
    code = "DELTA_SPIKE"
    field = "deltas"
    rule_type = Delta
    sources = (
        Source(
            _TABLE, "list_deltas",
            ("id", "sensor_id", *BOUNDS, "severity", "min_readings", "raise_after", "clear_after"),
            _of_row,
        ),
    )  # fmt: skip
    texts: ClassVar[Texts] = {
        "es": {"delta": "{sensor} de {device} cambió en {change} en {duration}, hasta {value}."},
        "en": {"delta": "{sensor} of {device} changed by {change} in {duration}, to {value}."},
    }
    width = 5

    def chosen(self, rules: Sequence[Delta]) -> list[Delta]:
        """One rule per sensor: the one with the lowest id."""
        first: dict[int, Delta] = {}
        for rule in rules:
            first.setdefault(rule.sensor_id, rule)
        return [first[sensor] for sensor in sorted(first)]

    def bounds(self, rule: Delta) -> tuple[float, ...]:
        """`BOUNDS`, and the number of earlier readings that are required."""
        return (*(or_inf(getattr(rule, name)) for name in BOUNDS), rule.min_readings)

    def judge(
        self, bounds: Floats, pane: NDArray[np.intp], rule: Ints, closed: Closed, memory: Any
    ) -> Judged:
        """Compare each pane with the sensor's previous one."""
        *limits, least = bounds
        met = np.zeros(len(pane), bool)
        for value, limit in zip(delta(closed.panes, closed.windows, pane), limits, strict=True):
            met |= value >= limit
        met &= closed.readings_before[pane] >= least
        met &= closed.windows.end_before[pane] >= 0
        return Judged(met, met)

    def cause(self, rule: Delta, pane: int, closed: Closed, noted: Floats, unit: str) -> Cause:
        """All four figures, and the bounds that were reached."""
        panes, windows = closed.panes, closed.windows
        names = ("delta_abs", "delta_rel", "slope_abs", "slope_rel")
        values = [float(column[0]) for column in delta(panes, windows, np.array([pane]))]
        limits = (rule.abs_delta, rule.rel_delta, rule.abs_slope, rule.rel_slope)
        dt = int(panes.end[pane] - windows.end_before[pane])
        met = [
            name
            for name, value, limit in zip(names, values, limits, strict=True)
            if limit is not None and value >= limit
        ]
        payload: dict[str, Any] = dict(zip(names, map(finite, values), strict=True))
        payload |= {"dt_seconds": dt / 1000, "triggered_thresholds": met, "threshold_id": rule.id}
        payload |= {"raise_after": rule.raise_after, "clear_after": rule.clear_after}
        words = {"change": quantity(values[0], unit), "duration": duration(dt)}
        return Cause("delta", words, payload)

    def is_cause(self, rule: Delta, payload: Mapping[str, Any]) -> bool:
        """By id: a sensor has at most one delta."""
        return rule.id == payload.get("threshold_id")

    def told(self, rule: Delta, unit: str) -> Told:
        """All bounds.

        >>> rule = Delta(table="t", id=1, sensor_id=1, level=Level.WARN, abs_delta=5.0,
        ...     rel_delta=0.25, abs_slope=2.5, rel_slope=None, min_readings=5, raise_after=1,
        ...     clear_after=5)
        >>> DELTA.told(rule, "°C").condition
        'mean changes by 5 °C or 25 % or 2.5 °C per second, or more, after the first 5 readings'
        """
        parts = []
        for bound, relative, a_second in (
            (rule.abs_delta, False, ""), (rule.rel_delta, True, ""),
            (rule.abs_slope, False, " per second"), (rule.rel_slope, True, " per second"),
        ):  # fmt: skip
            if bound is not None:
                size = quantity(bound * 100, "%") if relative else quantity(bound, unit)
                parts.append(size + a_second)
        text = f"mean changes by {' or '.join(parts)}, or more"
        if rule.min_readings:
            text += f", after the first {rule.min_readings} readings"
        return Told(f"{rule.table} {rule.id}", text, "it changes by less")

    def alone(self, rule: Delta, *, whole: bool) -> Delta:
        """The number of readings before the first pane is unknown unless `whole`."""
        least = rule.min_readings if whole else 0
        return msgspec.structs.replace(rule, raise_after=1, min_readings=least)

    def detail(self, rule: Delta, closed: Closed, unit: str) -> list[str]:
        """How much each pane changed."""
        panes, windows = closed.panes, closed.windows
        change, *_ = delta(panes, windows, np.arange(len(panes.end)))
        first = windows.end_before < 0
        return [
            "" if new else f"changed by {quantity(by, unit)}"
            for by, new in zip(change.tolist(), first.tolist(), strict=True)
        ]


DELTA = DeltaKind()
