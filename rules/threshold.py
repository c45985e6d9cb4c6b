"""Thresholds: the mean of a pane is beyond a bound, or equal to a value.

Rows of `alert_thresholds` and `sensor_threshold_profiles`. A profile has up to two thresholds.
"""

from collections.abc import Iterable, Mapping
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

HYSTERESIS = 0.05
"""How far inside its bounds a value must return before a level clears, as a share of their span."""
ALERTS, PROFILES = "alert_thresholds", "sensor_threshold_profiles"
BOUND_COLUMNS = ("condition_type", "threshold_value_min", "threshold_value_max")
"""The columns that identify a threshold in an event's payload."""


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """Raises its level when the mean is below `low` or above `high`, or equal to `low` (`equal`).
    Clears when reset_low <= mean <= reset_high. None: no bound on that side.
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
        """Whether the value breaches the threshold. A value on a bound is inside."""
        if self.equal:
            return value == self.low
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
    """A threshold with the row's reset bounds. A missing reset bound is derived by `HYSTERESIS`:
    from the span between two bounds, or from the absolute value of a single one.
    """
    inside = HYSTERESIS * abs(low or high or 0.0)
    if low is not None and high is not None:
        inside = HYSTERESIS * high - HYSTERESIS * low
    if condition == "equal_to":
        back_low = back_high = None
    else:
        given_low, given_high = back_low, back_high
        if low is not None and back_low is None:
            back_low = low + inside if given_high is None else min(low + inside, given_high)
        if high is not None and back_high is None:
            back_high = high - inside if given_low is None else max(high - inside, given_low)
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

    def key(self, rule: Threshold) -> tuple[str, str, int]:
        """With the level, since a profile has two thresholds."""
        return rule.level.name, rule.table, rule.id

    def schema(self, rule: Threshold) -> int:
        """Schema 2 for a range in `alert_thresholds` with only one bound."""
        one_sided = rule.low is None or rule.high is None
        return 2 if rule.table == ALERTS and rule.condition == "out_of_range" and one_sided else 1

    def bounds(self, rule: Threshold) -> tuple[float, ...]:
        """`low`, `high`, `reset_low`, `reset_high`, and 1 for `equal`, else 0."""
        if rule.equal:
            return (*span(rule.low, rule.low), *span(None, None), 1.0)
        return (*span(rule.low, rule.high), *span(rule.reset_low, rule.reset_high), 0.0)

    def judge(
        self, bounds: Floats, pane: NDArray[np.intp], rule: Ints, closed: Closed, memory: Any
    ) -> Judged:
        """Compare the mean of each pane with the bounds."""
        low, high, reset_low, reset_high, equal = bounds
        mean, is_equal = closed.panes.mean[pane], equal > 0
        met = ((mean < low) | (mean > high)) ^ is_equal
        return Judged(met, (mean < reset_low) | (mean > reset_high) | (is_equal & met))

    def cause(self, rule: Threshold, pane: int, closed: Closed, noted: Floats, unit: str) -> Cause:
        """The bound that the mean is beyond."""
        payload, words = threshold_payload(rule, rule.raise_after), {"rule": rule.name}
        if rule.equal:
            return Cause("equal", words, payload)
        side, bound = "above", rule.high
        if rule.low is not None and float(closed.panes.mean[pane]) < rule.low:
            side, bound = "below", rule.low
        return Cause(side, words | {"bound": quantity(bound or 0.0, unit)}, payload)

    def is_cause(self, rule: Threshold, payload: Mapping[str, Any]) -> bool:
        """By its bounds as well as its id."""
        return super().is_cause(rule, payload) and is_same(rule, payload)

    def told(self, rule: Threshold, unit: str) -> Told:
        """The threshold's bounds and reset bounds."""
        if rule.equal:
            return Told(
                rule.name, f"mean is {quantity(rule.low or 0.0, unit)}", "mean is a different value"
            )
        beyond = (("below", rule.low), ("above", rule.high))
        back = (("at least", rule.reset_low), ("at most", rule.reset_high))
        return Told(
            rule.name,
            f"mean {_bounds(beyond, ' or ', unit)}",
            f"mean {_bounds(back, ' and ', unit)}",
        )

    def alone(self, rule: Threshold, *, whole: bool) -> Threshold:
        """The threshold without its forecast."""
        return msgspec.structs.replace(rule, raise_after=1, forecast_after=0)


def _bounds(bounds: Iterable[tuple[str, float | None]], between: str, unit: str) -> str:
    return between.join(f"{word} {quantity(b, unit)}" for word, b in bounds if b is not None)


THRESHOLD = ThresholdKind()
