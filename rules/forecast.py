"""Forecasts: the trend leads to a critical threshold within a minute. Made of thresholds."""

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
"""How far ahead a trend is followed."""
FORECAST_READINGS = 5
FORECAST_FIT = 0.9
_SHOWN_S = 3600


@dataclass(frozen=True, slots=True)
class Forecast:
    """Asks for WARN where the trend leads to a critical threshold."""

    threshold: Threshold

    @property
    def table(self) -> str:
        """Of the threshold."""
        return self.threshold.table

    @property
    def id(self) -> int:
        """Of the threshold."""
        return self.threshold.id

    @property
    def sensor_id(self) -> int:
        """Of the threshold."""
        return self.threshold.sensor_id

    @property
    def level(self) -> Level:
        """Always WARN."""
        return Level.WARN

    @property
    def raise_after(self) -> int:
        """Panes in a row whose trend leads there."""
        return self.threshold.forecast_after

    @property
    def clear_after(self) -> int:
        """Of the threshold."""
        return self.threshold.clear_after


def trend_ahead(windows: Windows) -> Floats:
    """(P,) the trend that a forecast follows: the slower of w5's and w10's.

    0 where they disagree, since a value that has stopped moving leads nowhere, though w10 still
    holds the movement; and where noise alone may look like it: where w10 has fewer than
    `FORECAST_READINGS`, or its trend explains less than `FORECAST_FIT` of their variance.
    """
    short, long = windows.w5.trend, windows.w10.trend
    slower = np.where(np.abs(short) < np.abs(long), short, long)
    clear = (windows.w10.count >= FORECAST_READINGS) & (windows.w10.fit >= FORECAST_FIT)
    return np.where(clear & (np.sign(short) == np.sign(long)), slower, 0.0)


def time_to_reach(mean: Floats, trend: Floats, low: Floats, high: Floats) -> Floats:
    """Seconds until a value that continues by `trend` reaches `low` or `high`; inf where it never
    does.
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
                        "{duration} if it goes on like this ({rule}).",
        },
    }  # fmt: skip
    width = 2

    def key(self, rule: Forecast) -> tuple[str, str, int]:
        """Beside that of its threshold."""
        return "forecast", rule.table, rule.id

    def derived(self, rules: Callable[[Kind[Any]], tuple[Any, ...]]) -> tuple[Forecast, ...]:
        """One for each critical threshold that is a bound."""
        return tuple(
            Forecast(one)
            for one in rules(THRESHOLD)
            if one.level is Level.CRITICAL and not one.equal and one.forecast_after
        )

    def bounds(self, rule: Forecast) -> tuple[float, ...]:
        """Low and high of the threshold."""
        return span(rule.threshold.low, rule.threshold.high)

    def judge(
        self, bounds: Floats, pane: NDArray[np.intp], rule: Ints, closed: Closed, memory: Any
    ) -> Judged:
        """By where the mean is, and where its trend leads."""
        low, high = bounds
        mean, trend = closed.panes.mean[pane], trend_ahead(closed.windows)[pane]
        seconds = time_to_reach(mean, trend, low, high)
        met = (mean >= low) & (mean <= high) & (seconds <= FORECAST_S)
        return Judged(met, met)

    def cause(self, rule: Forecast, pane: int, closed: Closed, noted: Floats, unit: str) -> Cause:
        """The bound, and when it will be reached."""
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
        """By its threshold."""
        return rule.level.name == payload.get("to") and is_same(rule.threshold, payload)

    def told(self, rule: Forecast, unit: str) -> Told:
        """By where the trend leads."""
        one = rule.threshold
        bounds = " or ".join(quantity(b, unit) for b in (one.low, one.high) if b is not None)
        return Told(
            one.name,
            f"a clear trend leads to {bounds} within {FORECAST_S:g} s",
            "it leads there no more",
        )

    def alone(self, rule: Forecast, *, whole: bool) -> Threshold:
        """Its threshold, which stands beside it and is CRITICAL."""
        return msgspec.structs.replace(rule.threshold, raise_after=1, forecast_after=1)

    def said(self, rule: Forecast, asked: Sequence[int], held: Sequence[int]) -> list[str]:
        """`crossed` where the bound itself is."""
        names = {Level.NORMAL: "inside", Level.WARN: "beyond", Level.CRITICAL: "crossed"}
        return [names[Level(one)] for one in asked]

    def detail(self, rule: Forecast, closed: Closed, unit: str) -> list[str]:
        """Which bound each pane's trend leads to, and when."""
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
