"""The rules in force: rows of `alert_thresholds`, `sensor_threshold_profiles`, `delta_thresholds`
and `ml_models`, checked, known by a version, and as columns.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import inf, isfinite
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.level import Level
from ml.model import TYPE as TREND_TYPE
from ml.model import decode as decode_line
from ml.partition import CRITICAL_PER_DAY, WARN_PER_DAY, Bounds

HYSTERESIS = 0.05
"""What share of the threshold's span a value must come back inside before a level ends."""
CLEAR_AFTER = 5
"""How many quiet panes in a row end a level, where the rule does not say."""
RAISE_AFTER_SLOWLY = 3
"""How many panes in a row a forecast or a detector needs to be believed."""

_LEVELS = {"warning": Level.WARN, "critical": Level.CRITICAL}
KINDS = ("threshold", "delta", "forecast", "detector")
"""What can ask for a level."""
DETECTOR = 3


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for its level where the mean is below `low` or above `high`, or equal to it (`equal`),
    and lets go of it where reset_low <= mean <= reset_high. None: not bounded on that side.
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
    """In how many panes in a row the trend must lead to a critical bound; 0: no forecast."""

    @property
    def equal(self) -> bool:
        """Whether it watches for one value."""
        return self.condition == "equal_to"


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for its level where two panes in a row differ by a bound or more. None: no bound."""

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


class DetectorModel(msgspec.Struct, frozen=True, kw_only=True, tag="detector"):
    """Gives a sensor the deep detector beside the light one (`deep`), and how many false alarms a
    day are allowed it.
    """

    table: str
    id: int
    sensor_id: int
    deep: bool
    warn_per_day: float
    critical_per_day: float


class TrendModel(msgspec.Struct, frozen=True, kw_only=True, tag="trend"):
    """Predicts a sensor's values to go on by `slope_per_minute`, as long as it may: for as much
    time after its readings as they took.
    """

    table: str
    id: int
    sensor_id: int
    slope_per_minute: float
    until: int
    """Epoch milliseconds UTC; the baseline predicts afterwards."""


class RuleSet(msgspec.Struct, frozen=True):
    """All rules that make sense, in the order of their sensors and ids; of each kind of model one a
    sensor.
    """

    thresholds: tuple[Threshold, ...] = ()
    deltas: tuple[Delta, ...] = ()
    models: tuple[DetectorModel | TrendModel, ...] = ()

    def encode(self) -> bytes:
        """As JSON, which `decode_rules` reads."""
        return msgspec.json.encode(self, order="deterministic")

    def version(self) -> str:
        """12 hexadecimal digits that stand for the content.

        >>> RuleSet().version()
        '50c173f36ad0'
        """
        return sha256(self.encode()).hexdigest()[:12]


def decode_rules(text: str | bytes) -> RuleSet:
    """The rules that `RuleSet.encode` wrote."""
    return msgspec.json.decode(text, type=RuleSet)


_Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _ThresholdRow(msgspec.Struct):
    sensor_id: _Id
    condition_type: Literal["greater_than", "less_than", "equal_to", "out_of_range"]
    severity: Literal["info", "warning", "critical"] = "warning"
    id: _Id = 0
    name: str = ""
    threshold_value_min: float | None = None
    threshold_value_max: float | None = None
    is_active: bool | int = True
    consecutive_readings: int | None = None
    clear_after: int | None = None
    reset_value_min: float | None = None
    reset_value_max: float | None = None
    forecast_after: int | None = None


class _ProfileRow(msgspec.Struct):
    sensor_id: _Id
    id: _Id = 0
    warning_min: float | None = None
    warning_max: float | None = None
    alert_min: float | None = None
    alert_max: float | None = None


class _DeltaRow(msgspec.Struct):
    sensor_id: _Id
    id: _Id = 0
    abs_delta: float | None = None
    rel_delta: float | None = None
    abs_slope: float | None = None
    rel_slope: float | None = None
    severity: Literal["info", "warning", "critical"] | None = None
    is_active: bool | int = True
    min_readings: int | None = None
    raise_after: int | None = None
    clear_after: int | None = None


class _ModelRow(msgspec.Struct):
    sensor_id: _Id
    model_type: str
    id: _Id = 0
    metadata: str | dict[str, Any] = ""
    is_active: bool | int = True


class _DetectorData(msgspec.Struct):
    kind: Literal["light", "deep"]
    warn_per_day: Annotated[float, msgspec.Meta(gt=0)] = WARN_PER_DAY
    critical_per_day: Annotated[float, msgspec.Meta(gt=0)] = CRITICAL_PER_DAY


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that makes no sense."""

    table: str
    id: int
    error: str
    kept: bool
    """Whether the last good row of that id stays in force."""


_UNUSED = {
    "created_at", "updated_at", "cooldown_seconds", "stale_threshold_ms", "cooldown_sec",
    "min_delta_abs", "model_name", "version", "trained_at", "accuracy",
}  # fmt: skip
"""Columns of the tables that say nothing about the rule."""

Tables = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows by the name of their table; each by the names of its columns."""

_X = TypeVar("_X", Threshold, Delta, DetectorModel | TrendModel)


def make_rules(tables: Tables, good: RuleSet | None = None) -> tuple[RuleSet, list[Refused]]:
    """The rules in `tables`. Of a row that makes no sense the rule that it gave in `good`, the
    rules before, stays in force, if there is one. Rows of severity `info` ask for no level, and
    delta rules count one a sensor, the one with the lowest id. Of models of a kind a sensor's last
    one counts, and those of the baseline are none.
    """
    refused: list[Refused] = []
    before = good or RuleSet()
    thresholds = _read(tables, "alert_thresholds", _thresholds, before.thresholds, refused)
    thresholds += _read(tables, "sensor_threshold_profiles", _profile, before.thresholds, refused)
    deltas: dict[int, Delta] = {}
    for delta in _read(tables, "delta_thresholds", _delta, before.deltas, refused):
        deltas.setdefault(delta.sensor_id, delta)
    thresholds.sort(key=lambda one: (one.sensor_id, one.table, one.id, -one.level))
    models = {
        (model.sensor_id, isinstance(model, TrendModel)): model
        for model in _read(tables, "ml_models", _model, before.models, refused)
    }
    rules = RuleSet(
        tuple(thresholds),
        tuple(deltas[sensor] for sensor in sorted(deltas)),
        tuple(models[key] for key in sorted(models)),
    )
    return rules, refused


def _read(
    tables: Tables, table: str, make: Any, good: Iterable[_X], refused: list[Refused]
) -> list[_X]:
    made: list[_X] = []
    given = [{n: v for n, v in row.items() if v is not None} for row in tables.get(table, ())]
    rows = [{"id": number, **row} for number, row in enumerate(given, 1)]
    for row in sorted(rows, key=lambda row: row["id"] if isinstance(row["id"], int) else 0):
        try:
            made += make(table, row)
        except (msgspec.DecodeError, ValueError) as error:
            number = row["id"] if isinstance(row["id"], int) else 0
            kept = [one for one in good if (one.table, one.id) == (table, number)]
            refused.append(Refused(table, number, str(error), bool(kept)))
            made += kept
    return made


def _thresholds(table: str, values: Mapping[str, Any]) -> list[Threshold]:
    row = _convert(values, _ThresholdRow)
    if not row.is_active or row.severity == "info":
        return []
    condition, low, high = row.condition_type, row.threshold_value_min, row.threshold_value_max
    if low is None:
        raise ValueError(f"{condition} lacks threshold_value_min")
    if condition != "out_of_range":
        high = None
    elif high is None:
        raise ValueError("out_of_range lacks threshold_value_max")
    elif low > high:
        raise ValueError("threshold_value_min is above threshold_value_max")
    back_low, back_high = row.reset_value_min, row.reset_value_max
    if condition != "out_of_range" and back_high is not None:
        raise ValueError(f"{condition} is reset by reset_value_min, not by reset_value_max")
    if condition == "greater_than":
        low, high, back_low, back_high = None, low, None, back_low
    return [
        _threshold(
            table, row.id, row.sensor_id, row.name or f"threshold {row.id}", condition,
            _LEVELS[row.severity], low, high, back_low, back_high,
            _count("consecutive_readings", row.consecutive_readings, 1),
            _count("clear_after", row.clear_after, CLEAR_AFTER),
            _count("forecast_after", row.forecast_after, RAISE_AFTER_SLOWLY, least=0),
        )
    ]  # fmt: skip


def _profile(table: str, values: Mapping[str, Any]) -> list[Threshold]:
    row = _convert(values, _ProfileRow)
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
            table, row.id, row.sensor_id, f"profile {row.id}", "out_of_range",
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
    """With the bounds of reset that the row gives, or those of `HYSTERESIS`: of the span between
    two bounds, or of the size of a single one.
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
            raise ValueError("a reset value lies beyond its threshold value")
        if back_low is not None and back_high is not None and back_low > back_high:
            raise ValueError("reset_value_min is above reset_value_max")
    return Threshold(
        table=table, id=number, sensor_id=sensor_id, name=name, condition=condition, level=level,
        low=low, high=high, reset_low=back_low, reset_high=back_high,
        raise_after=raise_after, clear_after=clear_after, forecast_after=forecast_after,
    )  # fmt: skip


def _delta(table: str, values: Mapping[str, Any]) -> list[Delta]:
    row = _convert(values, _DeltaRow)
    if not row.is_active or row.severity == "info":
        return []
    bounds = {name: getattr(row, name) for name in DELTA_BOUNDS}
    if all(bound is None for bound in bounds.values()):
        raise ValueError("it has no bound")
    for name, bound in bounds.items():
        if bound is not None and bound <= 0:
            raise ValueError(f"{name} is not above 0")
    return [
        Delta(
            table=table, id=row.id, sensor_id=row.sensor_id,
            level=_LEVELS[row.severity or "warning"], **bounds,
            min_readings=_count("min_readings", row.min_readings, 5, least=0),
            raise_after=_count("raise_after", row.raise_after, 1),
            clear_after=_count("clear_after", row.clear_after, CLEAR_AFTER),
        )
    ]  # fmt: skip


def _model(table: str, values: Mapping[str, Any]) -> list[DetectorModel | TrendModel]:
    row = _convert(values, _ModelRow)
    if not row.is_active or row.model_type == "baseline":
        return []
    if row.model_type == "detector":
        detector = msgspec.json.decode(_text(row), type=_DetectorData)
        if detector.critical_per_day > detector.warn_per_day:
            raise ValueError("critical_per_day is above warn_per_day")
        return [
            DetectorModel(
                table=table, id=row.id, sensor_id=row.sensor_id, deep=detector.kind == "deep",
                warn_per_day=detector.warn_per_day, critical_per_day=detector.critical_per_day,
            )
        ]  # fmt: skip
    if row.model_type == TREND_TYPE:
        line = decode_line(_text(row))
        if not isfinite(line.slope_per_minute):
            raise ValueError("slope_per_minute is not a finite number")
        return [
            TrendModel(
                table=table, id=row.id, sensor_id=row.sensor_id,
                slope_per_minute=line.slope_per_minute, until=line.until,
            )
        ]  # fmt: skip
    raise ValueError(f"the flow knows no model_type {row.model_type}")


def _text(row: _ModelRow) -> str:
    if isinstance(row.metadata, str):
        return row.metadata
    return msgspec.json.encode(row.metadata).decode()


DELTA_BOUNDS = ("abs_delta", "rel_delta", "abs_slope", "rel_slope")


def _count(name: str, value: int | None, usual: int, least: int = 1) -> int:
    if value is None:
        return usual
    if not least <= value <= 10_000:
        raise ValueError(f"{name} is not between {least} and 10000")
    return value


_Row = TypeVar("_Row", _ThresholdRow, _ProfileRow, _DeltaRow, _ModelRow)


def _convert(values: Mapping[str, Any], kind: type[_Row]) -> _Row:
    """The row as its kind: every column known, every number finite."""
    if unknown := sorted(set(values) - set(kind.__struct_fields__) - _UNUSED):
        raise ValueError(f"it has no column {unknown[0]}")
    row = msgspec.convert(values, kind)
    for name in kind.__struct_fields__:
        value = getattr(row, name)
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(f"{name} is not a finite number")
    return row


@dataclass(frozen=True, slots=True)
class Group:
    """Rules of one kind as columns, sorted by sensor. K rules."""

    sensor_id: Ints
    """(K,) ascending."""
    number: Ints
    """(K,) index into `Rules.rule`."""
    level: NDArray[np.int8]
    """(K,) WARN or CRITICAL."""
    raise_after: Ints
    """(K,) how many panes in a row must ask for it."""
    bounds: Floats
    """(B, K) what the kind compares with."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Asks for WARN where the trend leads to a critical threshold."""

    threshold: Threshold
    level: Level = Level.WARN


class Trends:
    """By which model each sensor is predicted."""

    def __init__(self, models: Sequence[TrendModel]) -> None:
        self._sensor_id = np.array([one.sensor_id for one in models], np.int64)
        self._id = np.array([one.id for one in models], np.int64)
        self._slope = np.array([one.slope_per_minute for one in models])
        self._until = np.array([one.until for one in models], np.int64)

    def of(self, sensor_id: Ints, at: Ints) -> tuple[Ints, Floats, Ints]:
        """(N,) the model's id, 0 for the baseline; (N,) how much the value changes in a minute;
        (N,) up to which event time. At the event times `at` (N,).
        """
        if not len(self._id):
            nothing = np.zeros(len(sensor_id), np.int64)
            return nothing, np.zeros(len(sensor_id)), nothing
        place = np.searchsorted(self._sensor_id, sensor_id).clip(max=len(self._id) - 1)
        known = (self._sensor_id[place] == sensor_id) & (at <= self._until[place])
        return (
            np.where(known, self._id[place], 0),
            np.where(known, self._slope[place], 0.0),
            self._until[place],
        )


class Rules:
    """A rule set as columns."""

    def __init__(self, rules: RuleSet) -> None:
        self.version = rules.version()
        forecasts = [
            Forecast(one)
            for one in rules.thresholds
            if one.level is Level.CRITICAL and not one.equal and one.forecast_after
        ]
        self.rule: tuple[Threshold | Delta | Forecast, ...] = (
            *rules.thresholds, *rules.deltas, *forecasts
        )  # fmt: skip
        first = len(rules.thresholds)
        second = first + len(rules.deltas)
        self.thresholds = _group(
            0,
            [(one.sensor_id, one.level, one.raise_after) for one in rules.thresholds],
            [
                (one.low, one.low, -inf, inf)
                if one.equal
                else (*_span(one.low, one.high), *_span(one.reset_low, one.reset_high))
                for one in rules.thresholds
            ],
            4,
        )
        """Bounds: low, high, reset_low, reset_high."""
        self.equal = np.array([one.equal for one in rules.thresholds], bool)
        """(K,) the thresholds that watch for one value."""
        self.deltas = _group(
            first,
            [(one.sensor_id, one.level, one.raise_after) for one in rules.deltas],
            [
                (*(_or_inf(getattr(one, name)) for name in DELTA_BOUNDS), one.min_readings)
                for one in rules.deltas
            ],
            5,
        )
        """Bounds: `DELTA_BOUNDS`, and how many readings must have been seen before."""
        self.forecasts = _group(
            second,
            [
                (one.threshold.sensor_id, one.level, one.threshold.forecast_after)
                for one in forecasts
            ],
            [_span(one.threshold.low, one.threshold.high) for one in forecasts],
            2,
        )
        """Bounds: low and high of the critical threshold."""
        self.clear_after = np.array(
            [
                one.threshold.clear_after if isinstance(one, Forecast) else one.clear_after
                for one in self.rule
            ],
            np.int64,
        )
        """(all rules,) how many quiet panes end the level that a rule asked for."""
        self.kind = np.repeat([0, 1, 2], [first, second - first, len(forecasts)])
        """(all rules,) index into `KINDS`."""
        detectors = [one for one in rules.models if isinstance(one, DetectorModel)]
        self.deep = np.array([one.sensor_id for one in detectors if one.deep], np.int64)
        """The sensors that have the deep detector, ascending."""
        self.unusual = Bounds(
            sensor_id=np.array([one.sensor_id for one in detectors], np.int64),
            own=np.array([(one.warn_per_day, one.critical_per_day) for one in detectors])
            .reshape(-1, 2)
            .T,
        )
        """How many false alarms a day are allowed."""
        self.trends = Trends([one for one in rules.models if isinstance(one, TrendModel)])

    def watch(self, sensor_id: int) -> bool:
        """Whether any of them is the sensor's."""
        return any(sensor_id in group.sensor_id for group in (self.thresholds, self.deltas))


def _span(low: float | None, high: float | None) -> tuple[float, float]:
    return -inf if low is None else low, inf if high is None else high


def _or_inf(bound: float | None) -> float:
    return inf if bound is None else bound


def _group(
    first: int, rows: list[tuple[int, Level, int]], bounds: list[tuple[Any, ...]], width: int
) -> Group:
    return Group(
        sensor_id=np.array([row[0] for row in rows], np.int64),
        number=np.arange(first, first + len(rows)),
        level=np.array([row[1] for row in rows], np.int8),
        raise_after=np.array([row[2] for row in rows], np.int64),
        bounds=np.array(bounds, np.float64).reshape(-1, width).T,
    )
