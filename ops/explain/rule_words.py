"""A rule as an operator says it, with its unit."""

from collections.abc import Iterable
from dataclasses import dataclass

from dataflows.rules import Delta, Forecast, Threshold
from dataflows.texts import quantity
from dataflows.verdicts import FORECAST_S

Rule = Threshold | Delta | Forecast


@dataclass(frozen=True, slots=True)
class RuleWords:
    """One rule, told."""

    kind: str
    name: str
    level: str
    condition: str
    reset: str
    raise_after: int
    """Panes in a row."""
    clear_after: int
    """Quiet panes in a row."""
    asked: str
    """`asked` for the event's level, `had asked` for the level before it, or nothing."""


def told(rule: Rule, unit: str, asked: str) -> RuleWords:
    """A rule in words."""
    if isinstance(rule, Delta):
        return RuleWords(
            "delta", f"{rule.table} {rule.id}", rule.level.name, _change(rule, unit),
            "it changes by less", rule.raise_after, rule.clear_after, asked,
        )  # fmt: skip
    if isinstance(rule, Forecast):
        one = rule.threshold
        bounds = " or ".join(quantity(b, unit) for b in (one.low, one.high) if b is not None)
        return RuleWords(
            "forecast", one.name, rule.level.name,
            f"a clear trend leads to {bounds} within {FORECAST_S:g} s", "it leads there no more",
            one.forecast_after, one.clear_after, asked,
        )  # fmt: skip
    if rule.equal:
        condition, reset = f"mean is {quantity(rule.low or 0.0, unit)}", "mean is another"
    else:
        beyond = (("below", rule.low), ("above", rule.high))
        back = (("at least", rule.reset_low), ("at most", rule.reset_high))
        condition = f"mean {_bounds(beyond, ' or ', unit)}"
        reset = f"mean {_bounds(back, ' and ', unit)}"
    return RuleWords(
        "threshold", rule.name, rule.level.name, condition, reset,
        rule.raise_after, rule.clear_after, asked,
    )  # fmt: skip


def _bounds(bounds: Iterable[tuple[str, float | None]], between: str, unit: str) -> str:
    return between.join(f"{word} {quantity(b, unit)}" for word, b in bounds if b is not None)


def _change(rule: Delta, unit: str) -> str:
    """All bounds of a delta rule.

    >>> from contract.level import Level
    >>> rule = Delta(table="t", id=1, sensor_id=1, level=Level.WARN, abs_delta=5.0, rel_delta=0.25,
    ...     abs_slope=2.5, rel_slope=None, min_readings=5, raise_after=1, clear_after=5)
    >>> _change(rule, "°C")
    'mean changes by 5 °C or 25 % or 2.5 °C a second, or more, after the first 5 readings'
    """
    parts = []
    for bound, relative, a_second in (
        (rule.abs_delta, False, ""), (rule.rel_delta, True, ""),
        (rule.abs_slope, False, " a second"), (rule.rel_slope, True, " a second"),
    ):  # fmt: skip
        if bound is not None:
            size = quantity(bound * 100, "%") if relative else quantity(bound, unit)
            parts.append(size + a_second)
    text = f"mean changes by {' or '.join(parts)}, or more"
    return f"{text}, after the first {rule.min_readings} readings" if rule.min_readings else text
