"""Forecasts: the trend reaches a critical threshold within a minute. Derived from thresholds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.level import Level
from rules.kind import Cause, Closed, Judged, Kind, Texts, Told, span
from rules.panes import Windows
from rules.threshold import THRESHOLD, Threshold, is_same, threshold_payload
from rules.words import duration, quantity

FORECAST_S = 60.0
"""How far ahead a trend is extrapolated."""
FORECAST_READINGS = 5
FORECAST_FIT = 0.9
_SHOWN_S = 3600


@dataclass(frozen=True, slots=True)
class Forecast:
    """Raises WARN when the trend leads to a critical threshold."""

    threshold: Threshold

    @property
    def table(self) -> str:
        """The threshold's table."""
        return self.threshold.table

    @property
    def id(self) -> int:
        """The threshold's id."""
        return self.threshold.id

    @property
    def sensor_id(self) -> int:
        """The threshold's sensor."""
        return self.threshold.sensor_id

    @property
    def level(self) -> Level:
        """Always WARN."""
        return Level.WARN

    @property
    def raise_after(self) -> int:
        """The number of consecutive panes whose trend must lead to the threshold."""
        return self.threshold.forecast_after

    @property
    def clear_after(self) -> int:
        """The threshold's `clear_after`."""
        return self.threshold.clear_after


def trend_ahead(windows: Windows) -> Floats:
    """(P,) the trend that a forecast extrapolates: the slower of those of w5 and w10.

    0 where their signs differ: a value that has stopped moving leads nowhere, although w10 still
    contains the movement. Also 0 where noise alone could explain the trend: w10 has fewer than
    `FORECAST_READINGS` readings, or its trend explains less than `FORECAST_FIT` of their variance.
    """
    short, long = windows.w5.trend, windows.w10.trend
    slower = np.where(np.abs(short) < np.abs(long), short, long)
    clear = (windows.w10.count >= FORECAST_READINGS) & (windows.w10.fit >= FORECAST_FIT)
    return np.where(clear & (np.sign(short) == np.sign(long)), slower, 0.0)


def time_to_reach(mean: Floats, trend: Floats, low: Floats, high: Floats) -> Floats:
    """Seconds until a value that moves by `trend` per second reaches `low` or `high`; inf where it
    never does.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        bound = np.where(trend > 0, high, low)
        return np.where(trend == 0, np.inf, (bound - mean) / trend)


class ForecastKind(Kind[Forecast]):
    """See the module."""

    number = 2
    name = "forecast"
    code = "PRED_THRESHOLD_BREACH"
    rule_type = Forecast
    texts: ClassVar[Texts] = {
        "es": {
            "forecast": "{sensor} de {device} está en {value} y alcanzará {bound} en unos "
                        "{duration} si sigue así ({rule}).",
        },
        "en": {
            "forecast": "{sensor} of {device} is at {value} and will reach {bound} in about "
                        "{duration} if the trend continues ({rule}).",
        },
    }  # fmt: skip
    width = 2
    judges_late = False
    timed = False

    def key(self, rule: Forecast) -> tuple[str, str, int]:
        """Separate from the key of its threshold."""
        return "forecast", rule.table, rule.id

    def derived(self, rules: Callable[[Kind[Any]], tuple[Any, ...]]) -> tuple[Forecast, ...]:
        """One for each critical threshold that has a bound and `forecast_after` above 0."""
        return tuple(
            Forecast(threshold)
            for threshold in rules(THRESHOLD)
            if threshold.level is Level.CRITICAL
            and not threshold.equal
            and threshold.forecast_after
        )

    def bounds(self, rule: Forecast) -> tuple[float, ...]:
        """The threshold's `low` and `high`."""
        return span(rule.threshold.low, rule.threshold.high)

    def judge(
        self, bounds: Floats, pane: NDArray[np.intp], rule: Ints, closed: Closed, memory: Any
    ) -> Judged:
        """Extrapolate the mean of each pane by its trend."""
        low, high = bounds
        mean, trend = closed.panes.mean[pane], trend_ahead(closed.windows)[pane]
        seconds = time_to_reach(mean, trend, low, high)
        met = (mean >= low) & (mean <= high) & (seconds <= FORECAST_S)
        return Judged(met, met)

    def cause(self, rule: Forecast, pane: int, closed: Closed, noted: Floats, unit: str) -> Cause:
        """The bound, and when the value will reach it."""
        threshold = rule.threshold
        mean, trend = float(closed.panes.mean[pane]), float(trend_ahead(closed.windows)[pane])
        bound = threshold.high if trend > 0 else threshold.low
        assert bound is not None
        seconds = (bound - mean) / trend
        payload = threshold_payload(threshold, rule.raise_after) | {
            "predicted_value": bound,
            "seconds_to_reach": round(seconds, 3),
            "trend": trend,
        }
        words = {
            "rule": threshold.name,
            "bound": quantity(bound, unit),
            "duration": duration(int(seconds * 1000)),
        }
        return Cause("forecast", words, payload)

    def is_cause(self, rule: Forecast, payload: Mapping[str, Any]) -> bool:
        """By the threshold."""
        return rule.level.name == payload.get("to") and is_same(rule.threshold, payload)

    def told(self, rule: Forecast, unit: str) -> Told:
        """The bounds that the trend may reach."""
        threshold = rule.threshold
        bounds = " or ".join(
            quantity(bound, unit) for bound in (threshold.low, threshold.high) if bound is not None
        )
        return Told(
            threshold.name,
            f"a clear trend leads to {bounds} within {FORECAST_S:g} s",
            "the trend no longer leads there",
        )

    def alone(self, rule: Forecast, *, whole: bool) -> Threshold:
        """Its threshold, which is a separate rule and CRITICAL."""
        return msgspec.structs.replace(rule.threshold, raise_after=1, forecast_after=1)

    def said(self, rule: Forecast, asked: Sequence[int], held: Sequence[int]) -> list[str]:
        """`crossed` where the value is beyond the bound itself."""
        names = {Level.NORMAL: "inside", Level.WARN: "beyond", Level.CRITICAL: "crossed"}
        return [names[Level(level)] for level in asked]

    def detail(self, rule: Forecast, closed: Closed, unit: str) -> list[str]:
        """The bound that each pane's trend leads to, and when."""
        mean = closed.panes.mean
        low, high = span(rule.threshold.low, rule.threshold.high)
        trend = trend_ahead(closed.windows)
        seconds = time_to_reach(mean, trend, np.full(len(mean), low), np.full(len(mean), high))
        bound = np.where(trend > 0, high, low)
        return [
            f"{quantity(at, unit)} in {duration(int(s * 1000))}" if 0 <= s < _SHOWN_S else ""
            for s, at in zip(seconds.tolist(), bound.tolist(), strict=True)
        ]


FORECAST = ForecastKind()
