"""Thresholds: a reading is beyond a bound, or equal to a value.

Rows of `alert_thresholds` and `sensor_threshold_profiles`. A profile has up to two thresholds.

A level clears when all readings are inside the reset bounds. A reset bound that a row leaves out
lies 5 % of the way from the bound to where the sensor usually is, or to 0 until that is known. With
two bounds, it lies 5 % of their span inside, but never beyond the usual value.
"""

from collections.abc import Iterable, Mapping
from math import isfinite, nan
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.level import Level
from rules.kind import (
    CLEAR_AFTER,
    LEVELS,
    RAISE_AFTER_SLOWLY,
    SEVERITIES,
    Cause,
    Closed,
    Id,
    Judged,
    Kind,
    Severity,
    Source,
    Texts,
    Told,
    checked_count,
    checked_row,
    span,
)
from rules.words import quantity
from sinks.decimals import rounded

HYSTERESIS = 0.05
"""How far inside a bound a value must return before a level clears: a share of the distance to the
sensor's usual value, or of the span between two bounds."""
ALERTS, PROFILES = "alert_thresholds", "sensor_threshold_profiles"
BOUND_COLUMNS = ("condition_type", "threshold_value_min", "threshold_value_max")
"""The columns that identify a threshold in an event's payload."""


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """Raises its level when a reading is below `low` or above `high`, or equal to `low` (`equal`).
    Clears when all readings of a pane are between `reset_low` and `reset_high`. None: no bound on
    that side; a reset bound is then derived from the bound.
    """

    table: str
    id: int
    sensor_id: int
    name: str
    condition: str
    level: Level
    low: float | None
    high: float | None
    reset_low: float | None
    reset_high: float | None
    raise_after: int
    clear_after: int
    forecast_after: int
    """Consecutive panes whose trend must lead to a critical bound; 0: no forecast."""

    @property
    def equal(self) -> bool:
        """Whether it watches for one value."""
        return self.condition == "equal_to"

    @property
    def severity(self) -> str:
        """The level as the row's `severity`."""
        return SEVERITIES[self.level]

    @property
    def alert_threshold_id(self) -> int | None:
        """Its id in `alert_thresholds`; None for a profile."""
        return self.id if self.table == ALERTS else None

    def breached(self, value: float) -> bool:
        """Whether the value breaches the threshold. A value on a bound is inside. Values are equal
        if they are stored alike, with 5 decimals.
        """
        if self.equal:
            return round(value, 5) == round(self.low or 0.0, 5)
        return (self.low is not None and value < self.low) or (
            self.high is not None and value > self.high
        )

    def as_row(self) -> dict[str, Any]:
        """Condition and bounds, as columns of `alert_thresholds`."""
        low, high = self.low, self.high
        back_low, back_high = self.reset_low, self.reset_high
        if self.condition == "greater_than":
            low, high, back_low, back_high = high, None, back_high, None
        return {
            "condition_type": self.condition,
            "threshold_value_min": low,
            "threshold_value_max": high,
            "reset_value_min": back_low,
            "reset_value_max": back_high,
        }


def worst(thresholds: Iterable[Threshold], value: float) -> Threshold | None:
    """The breached threshold of the highest level; the first one if there are several."""
    breached = (threshold for threshold in thresholds if threshold.breached(value))
    return max(breached, key=lambda threshold: threshold.level, default=None)


class _Row(msgspec.Struct):
    sensor_id: Id
    condition_type: Literal["greater_than", "less_than", "equal_to", "out_of_range"]
    severity: Severity = "warning"
    id: Id = 0
    name: str = ""
    threshold_value_min: float | None = None
    threshold_value_max: float | None = None
    is_active: bool | int = True
    consecutive_readings: int | None = None
    clear_after: int | None = None
    reset_value_min: float | None = None
    reset_value_max: float | None = None
    forecast_after: int | None = None


class _Profile(msgspec.Struct):
    sensor_id: Id
    id: Id = 0
    warning_min: float | None = None
    warning_max: float | None = None
    alert_min: float | None = None
    alert_max: float | None = None


def _of_row(values: Mapping[str, Any]) -> list[Threshold]:
    row = checked_row(values, _Row, ("cooldown_seconds",))
    if not row.is_active or row.severity == "info":
        return []
    condition, low, high = row.condition_type, row.threshold_value_min, row.threshold_value_max
    back_low, back_high = row.reset_value_min, row.reset_value_max
    if condition == "out_of_range":
        if low is None and high is None:
            raise ValueError("out_of_range needs threshold_value_min or threshold_value_max")
        if low is not None and high is not None and low > high:
            raise ValueError("threshold_value_min is above threshold_value_max")
        if (low is None and back_low is not None) or (high is None and back_high is not None):
            raise ValueError("a reset value needs a threshold value on the same side")
    else:
        if low is None:
            raise ValueError(f"{condition} needs threshold_value_min")
        if back_high is not None:
            raise ValueError(f"{condition} uses reset_value_min, not reset_value_max")
        high = None
    if condition == "greater_than":
        low, high, back_low, back_high = None, low, None, back_low
    return [
        _threshold(
            ALERTS, row.id, row.sensor_id, row.name or f"threshold {row.id}", condition,
            LEVELS[row.severity], low, high, back_low, back_high,
            checked_count("consecutive_readings", row.consecutive_readings, 1),
            checked_count("clear_after", row.clear_after, CLEAR_AFTER),
            checked_count("forecast_after", row.forecast_after, RAISE_AFTER_SLOWLY, least=0),
        )
    ]  # fmt: skip


def _of_profile(values: Mapping[str, Any]) -> list[Threshold]:
    row = checked_row(values, _Profile, ("cooldown_seconds", "stale_threshold_ms"))
    for low_name, high_name in (
        ("alert_min", "warning_min"), ("warning_min", "warning_max"), ("warning_max", "alert_max"),
        ("alert_min", "warning_max"), ("warning_min", "alert_max"), ("alert_min", "alert_max"),
    ):  # fmt: skip
        low, high = getattr(row, low_name), getattr(row, high_name)
        if low is not None and high is not None and low > high:
            raise ValueError(f"{low_name} is above {high_name}")
    spans = (
        (Level.WARN, row.warning_min, row.warning_max),
        (Level.CRITICAL, row.alert_min, row.alert_max),
    )
    return [
        _threshold(
            PROFILES, row.id, row.sensor_id, f"profile {row.id}", "out_of_range",
            level, low, high, None, None, 1, CLEAR_AFTER, RAISE_AFTER_SLOWLY,
        )
        for level, low, high in spans
        if low is not None or high is not None
    ]  # fmt: skip


def _threshold(  # noqa: PLR0917 - one for each column
    table: str, number: int, sensor_id: int, name: str, condition: str, level: Level,
    low: float | None, high: float | None, back_low: float | None, back_high: float | None,
    raise_after: int, clear_after: int, forecast_after: int,
) -> Threshold:  # fmt: skip
    """A threshold. Checks the reset bounds of the row."""
    if condition == "equal_to":
        back_low = back_high = None
    if (low is not None and back_low is not None and back_low < low) or (
        high is not None and back_high is not None and back_high > high
    ):
        raise ValueError("a reset value is beyond its threshold value")
    if back_low is not None and back_high is not None and back_low > back_high:
        raise ValueError("reset_value_min is above reset_value_max")
    return Threshold(
        table=table, id=number, sensor_id=sensor_id, name=name, condition=condition, level=level,
        low=low, high=high, reset_low=back_low, reset_high=back_high,
        raise_after=raise_after, clear_after=clear_after, forecast_after=forecast_after,
    )  # fmt: skip


def reset_bounds(bounds: Floats, usual: Floats) -> tuple[Floats, Floats]:
    """(N,) lower and (N,) upper reset bounds; infinite where there is no bound on that side.
    `bounds` (5, N) are of thresholds, see `ThresholdKind.bounds`; `usual` (N,) is the usual value
    of the sensor, NaN if it is unknown.
    """
    low, high, reset_low, reset_high, _ = bounds
    with np.errstate(over="ignore", invalid="ignore"):
        span = high - low
        towards = np.where(np.isnan(usual), 0.0, usual)
        near_low = low + HYSTERESIS * np.maximum(towards - low, 0.0)
        near_high = high - HYSTERESIS * np.maximum(high - towards, 0.0)
        far_low, far_high = low + HYSTERESIS * span, high - HYSTERESIS * span
    both = np.isfinite(span)
    beyond_low, beyond_high = (low < usual) & (usual < far_low), (far_high < usual) & (usual < high)
    back_low = np.where(both & ~beyond_low, far_low, near_low)
    back_high = np.where(both & ~beyond_high, far_high, near_high)
    # a bound that is derived never crosses one that is stated
    derived_low, derived_high = np.isnan(reset_low), np.isnan(reset_high)
    back_low = np.where(derived_low, np.fmin(back_low, reset_high), reset_low)
    back_high = np.where(derived_high, np.fmax(back_high, reset_low), reset_high)
    return np.where(np.isinf(low), -np.inf, back_low), np.where(np.isinf(high), np.inf, back_high)


def threshold_payload(rule: Threshold, raise_after: int) -> dict[str, Any]:
    """The part of an event's payload that describes its threshold."""
    return {
        "threshold_id": rule.id,
        **rule.as_row(),
        "raise_after": raise_after,
        "clear_after": rule.clear_after,
    }


def is_same(rule: Threshold, payload: Mapping[str, Any]) -> bool:
    """Whether a payload describes the threshold."""
    row = rule.as_row()
    return rule.id == payload.get("threshold_id") and all(
        row[name] == payload.get(name) for name in BOUND_COLUMNS
    )


class ThresholdKind(Kind[Threshold]):
    """See the module."""

    number = 0
    name = "threshold"
    breaches = True
    code = "ML_BEHAVIOR_STATE"
    field = "thresholds"
    rule_type = Threshold
    sources = (
        Source(
            ALERTS, "list_alert_thresholds",
            ("id", "sensor_id", "name", "condition_type", "threshold_value_min",
             "threshold_value_max", "severity", "consecutive_readings", "clear_after",
             "reset_value_min", "reset_value_max", "forecast_after"),
            _of_row,
        ),
        Source(
            PROFILES, "list_profiles",
            ("id", "sensor_id", "warning_min", "warning_max", "alert_min", "alert_max"),
            _of_profile,
        ),
    )  # fmt: skip
    texts: ClassVar[Texts] = {
        "es": {
            "above": "{sensor} de {device} está en {value}, por encima de {bound} ({rule}).",
            "below": "{sensor} de {device} está en {value}, por debajo de {bound} ({rule}).",
            "equal": "{sensor} de {device} está en {value}, el valor que vigila {rule}.",
        },
        "en": {
            "above": "{sensor} of {device} is at {value}, above {bound} ({rule}).",
            "below": "{sensor} of {device} is at {value}, below {bound} ({rule}).",
            "equal": "{sensor} of {device} is at {value}, the value that {rule} watches for.",
        },
    }
    width = 5
    stands = True
    alerts = True

    def key(self, rule: Threshold) -> tuple[str, str, int]:
        """With the level, since a profile has two thresholds."""
        return rule.level.name, rule.table, rule.id

    def schema(self, rule: Threshold) -> int:
        """Schema 2 for a range in `alert_thresholds` with only one bound, 3 if a reset bound is to
        be derived: until schema 2, editions had all reset bounds as numbers.
        """
        if not rule.equal and (
            (rule.low is not None and rule.reset_low is None)
            or (rule.high is not None and rule.reset_high is None)
        ):
            return 3
        one_sided = rule.low is None or rule.high is None
        return 2 if rule.table == ALERTS and rule.condition == "out_of_range" and one_sided else 1

    def bounds(self, rule: Threshold) -> tuple[float, ...]:
        """`low`, `high`, `reset_low` and `reset_high`, NaN if they are derived, and 1 for `equal`,
        else 0.
        """
        if rule.equal:
            return (*span(rule.low, rule.low), nan, nan, 1.0)
        return (*span(rule.low, rule.high), _or_nan(rule.reset_low), _or_nan(rule.reset_high), 0.0)

    def judge(
        self, bounds: Floats, pane: NDArray[np.intp], rule: Ints, closed: Closed, memory: Any
    ) -> Judged:
        """Compare all readings of each pane with the bounds."""
        panes, is_equal = closed.panes, bounds[4] > 0
        met = self.breached(bounds, pane, closed)
        back_low, back_high = reset_bounds(bounds, closed.usual[pane])
        out = (panes.minimum[pane] < back_low) | (panes.maximum[pane] > back_high)
        return Judged(met, np.where(is_equal, met, out))

    def breached(self, bounds: Floats, pane: NDArray[np.intp], closed: Closed) -> NDArray[np.bool_]:
        """Whether any reading of each pane is beyond a bound, or equal to the value."""
        low, high = bounds[:2]
        met: NDArray[np.bool_] = closed.panes.minimum[pane] < low
        met |= closed.panes.maximum[pane] > high
        if len(equal := np.flatnonzero(bounds[4])):
            met[equal] = _any_equal(closed, pane[equal], low[equal])
        return met

    def cause(self, rule: Threshold, pane: int, closed: Closed, noted: Floats, unit: str) -> Cause:
        """The bound that a reading is beyond, and the reading that is furthest beyond it."""
        payload, words = threshold_payload(rule, rule.raise_after), {"rule": rule.name}
        if rule.equal:
            value = rule.low or 0.0
            return Cause("equal", words | {"value": quantity(value, unit)}, payload, value)
        back_low, back_high = reset_bounds(np.array([self.bounds(rule)]).T, closed.usual[[pane]])
        ends = {"reset_value_min": float(back_low[0]), "reset_value_max": float(back_high[0])}
        if rule.condition == "greater_than":
            ends = {"reset_value_min": ends["reset_value_max"]}
        payload |= {name: value for name, value in ends.items() if isfinite(value)}
        side, bound, value = "above", rule.high, float(closed.panes.maximum[pane])
        lowest = float(closed.panes.minimum[pane])
        if rule.low is not None and lowest < rule.low:
            side, bound, value = "below", rule.low, lowest
        words |= {"bound": quantity(bound or 0.0, unit), "value": quantity(value, unit)}
        return Cause(side, words, payload, value)

    def is_cause(self, rule: Threshold, payload: Mapping[str, Any]) -> bool:
        """By its bounds as well as its id."""
        return super().is_cause(rule, payload) and is_same(rule, payload)

    def told(self, rule: Threshold, unit: str) -> Told:
        """The threshold's bounds and reset bounds."""
        if rule.equal:
            value = quantity(rule.low or 0.0, unit)
            return Told(rule.name, f"a reading is {value}", f"no reading is {value}")
        beyond = (("below", rule.low), ("above", rule.high))
        reset = " and ".join(
            part
            for part in (
                _back("at least", rule.low, rule.reset_low, rule.high, unit),
                _back("at most", rule.high, rule.reset_high, rule.low, unit),
            )
            if part
        )
        return Told(
            rule.name, f"a reading is {_bounds(beyond, ' or ', unit)}", f"all readings are {reset}"
        )

    def alone(self, rule: Threshold, *, whole: bool) -> Threshold:
        """The threshold without its forecast."""
        return msgspec.structs.replace(rule, raise_after=1, forecast_after=0)


def _any_equal(closed: Closed, pane: NDArray[np.intp], value: Floats) -> NDArray[np.bool_]:
    """(N,) whether any reading of each pane is equal to its value, as stored."""
    count = closed.panes.count
    first, of_pane = np.cumsum(count) - count, count[pane]
    starts = np.cumsum(of_pane) - of_pane
    place = np.arange(int(of_pane.sum())) + np.repeat(first[pane] - starts, of_pane)
    equal = rounded(closed.value[place]) == np.repeat(rounded(value), of_pane)
    any_equal: NDArray[np.bool_] = np.logical_or.reduceat(equal, starts)
    return any_equal


def _or_nan(bound: float | None) -> float:
    return nan if bound is None else bound


def _bounds(bounds: Iterable[tuple[str, float | None]], between: str, unit: str) -> str:
    return between.join(f"{word} {quantity(b, unit)}" for word, b in bounds if b is not None)


def _back(
    word: str, bound: float | None, reset: float | None, other: float | None, unit: str
) -> str:
    """A reset bound in words; `other` is the bound on the other side."""
    if bound is None:
        return ""
    if reset is not None:
        return f"{word} {quantity(reset, unit)}"
    if other is not None:
        return f"{word} {quantity(bound + HYSTERESIS * (other - bound), unit)}"
    return f"{word} {quantity(bound, unit)}, by 5 % of the distance to the usual value"


THRESHOLD = ThresholdKind()
