"""The threshold rules in force: rows of `alert_thresholds` as columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.level import Level
from contract.settings import Settings
from sql.database import open_database

HYSTERESIS = 0.05
"""What share of the threshold's span a value must come back inside before a level ends."""

_LEVELS = {"warning": Level.WARN, "critical": Level.CRITICAL}
_log = structlog.get_logger("rules")


@dataclass(frozen=True, slots=True)
class Rule:
    """One threshold as a text names it."""

    id: int
    name: str
    condition: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Sensor:
    """A sensor as a text names it."""

    name: str
    type: str
    unit: str
    device: str


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules, sorted by sensor. K rules.

    A rule asks for its level where value < low or value > high (with `equal`: where value is
    neither, that is, equal to the bound), and lets go of it where reset_low <= value <= reset_high.
    """

    sensor_id: Ints
    """(K,) ascending."""
    level: NDArray[np.int8]
    """(K,) WARN or CRITICAL."""
    equal: NDArray[np.bool_]
    """(K,)"""
    low: Floats
    high: Floats
    reset_low: Floats
    reset_high: Floats
    rule: tuple[Rule, ...]
    sensors: Mapping[int, Sensor]
    """The sensors that have rules, by id."""

    def sensor(self, sensor_id: int) -> Sensor:
        """The sensor's names; one whose rules were all taken away is named by its id."""
        return self.sensors.get(sensor_id) or Sensor(f"sensor {sensor_id}", "unknown", "", "?")


def load_rules(settings: Settings) -> Rules:
    """The active rules of the configured database; a row that makes no sense is left out, and
    logged by its id with the reason.

    Raises:
        IotError: by blame, see `Database`.
    """
    database = open_database(settings)
    try:
        return make_rules(database.query("list_thresholds"))
    finally:
        database.close()


def make_rules(rows: Sequence[Sequence[Any]]) -> Rules:
    """Rules from rows (id, sensor_id, name, condition_type, min, max, severity, sensor's name,
    sensor_type, unit, device's name). Severity `info` asks for no level and gives no rule.
    """
    made: list[tuple[int, int, bool, Floats, Rule]] = []
    sensors: dict[int, Sensor] = {}
    for number, sensor_id, name, condition, low, high, severity, *names in rows:
        if severity == "info":
            continue
        wrong = _what_is_wrong(condition, low, high, severity)
        if wrong:
            _log.error("threshold left out", threshold_id=number, sensor_id=sensor_id, error=wrong)
            continue
        bounds = _bounds(condition, low, high)
        rule = Rule(number, name, condition, float(bounds[0]), float(bounds[1]))
        sensors[sensor_id] = Sensor(*names)
        made.append((sensor_id, _LEVELS[severity], condition == "equal_to", bounds, rule))
    made.sort(key=lambda one: (one[0], -one[1], one[4].id))
    bounds = np.array([one[3] for one in made]).reshape(-1, 4)
    return Rules(
        sensor_id=np.array([one[0] for one in made], np.int64),
        level=np.array([one[1] for one in made], np.int8),
        equal=np.array([one[2] for one in made], bool),
        low=bounds[:, 0],
        high=bounds[:, 1],
        reset_low=bounds[:, 2],
        reset_high=bounds[:, 3],
        rule=tuple(one[4] for one in made),
        sensors=sensors,
    )


def _what_is_wrong(condition: str, low: Any, high: Any, severity: str) -> str | None:
    if severity not in _LEVELS:
        return f"unknown severity {severity}"
    if condition not in ("greater_than", "less_than", "equal_to", "out_of_range"):
        return f"unknown condition_type {condition}"
    needed = (low, high) if condition == "out_of_range" else (low,)
    if any(bound is None or not isfinite(bound) for bound in needed):
        return f"{condition} lacks a bound"
    if condition == "out_of_range" and low > high:
        return "threshold_value_min is above threshold_value_max"
    return None


def _bounds(condition: str, low: float, high: float | None) -> Floats:
    """(low, high, reset_low, reset_high). The span of a single bound is its own size."""
    inf = float("inf")
    if condition == "out_of_range" and high is not None:
        inside = HYSTERESIS * (high - low)
        return np.array([low, high, low + inside, high - inside])
    inside = HYSTERESIS * abs(low)
    if condition == "greater_than":
        return np.array([-inf, low, -inf, low - inside])
    if condition == "less_than":
        return np.array([low, inf, low + inside, inf])
    return np.array([low, low, -inf, inf])
