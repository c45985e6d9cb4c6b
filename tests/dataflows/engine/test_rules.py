from math import inf, nan
from typing import Any

import numpy as np
import pytest

from contract.level import Level
from rules.columns import Rules
from rules.delta import DELTA as DELTAS
from rules.tables import Refused, RuleSet, decode_rules, make_rules
from rules.threshold import THRESHOLD, reset_bounds

ALERT, PROFILE, DELTA = "alert_thresholds", "sensor_threshold_profiles", "delta_thresholds"
GOOD: dict[str, dict[str, Any]] = {
    ALERT: {
        "id": 1, "sensor_id": 7, "condition_type": "out_of_range", "threshold_value_min": 1.0,
        "threshold_value_max": 9.0, "severity": "critical",
    },
    PROFILE: {
        "id": 1, "sensor_id": 7, "warning_min": 2.0, "warning_max": 8.0, "alert_min": 1.0,
        "alert_max": 9.0,
    },
    DELTA: {"id": 1, "sensor_id": 7, "abs_delta": 3.0},
}  # fmt: skip


def resets(rule, usual=nan):
    """The reset bounds of a threshold of a sensor with that usual value; NaN if it is unknown."""
    low, high = reset_bounds(np.array([THRESHOLD.bounds(rule)]).T, np.array([usual]))
    return float(low[0]), float(high[0])


def rules_of(rules):
    return [(rule.table, rule.id) for rule in (*rules.of(THRESHOLD), *rules.of(DELTAS))]


SENSELESS = [
    (ALERT, {"threshold_value_min": 20.0}, "threshold_value_min is above threshold_value_max"),
    (ALERT, {"condition_type": "near"}, "Invalid enum value 'near' - at `$.condition_type`"),
    (ALERT, {"severity": "bad"}, "Invalid enum value 'bad' - at `$.severity`"),
    (ALERT, {"sevrity": "critical"}, "unknown column sevrity"),
    (ALERT, {"sensor_id": 2**63}, "sensor_id"),
    (
        ALERT,
        {"threshold_value_min": None, "threshold_value_max": None},
        "out_of_range needs threshold_value_min or threshold_value_max",
    ),
    (
        ALERT,
        {"threshold_value_max": None, "reset_value_max": 5.0},
        "a reset value needs a threshold value on the same side",
    ),
    (
        ALERT,
        {"condition_type": "greater_than", "threshold_value_min": None},
        "greater_than needs threshold_value_min",
    ),
    (ALERT, {"threshold_value_min": nan}, "threshold_value_min must be a finite number"),
    (ALERT, {"threshold_value_max": inf}, "threshold_value_max must be a finite number"),
    (ALERT, {"reset_value_min": -inf}, "reset_value_min must be a finite number"),
    (ALERT, {"threshold_value_min": "1,5"}, "got `str` - at `$.threshold_value_min`"),
    (ALERT, {"sensor_id": "seven"}, "got `str` - at `$.sensor_id`"),
    (ALERT, {"sensor_id": None}, "sensor_id"),
    (ALERT, {"reset_value_min": 0.5}, "a reset value is beyond its threshold value"),
    (ALERT, {"reset_value_max": 9.5}, "a reset value is beyond its threshold value"),
    (
        ALERT,
        {"condition_type": "greater_than", "reset_value_min": 1.5},
        "a reset value is beyond its threshold value",
    ),
    (
        ALERT,
        {"condition_type": "less_than", "reset_value_min": 0.5},
        "a reset value is beyond its threshold value",
    ),
    (
        ALERT,
        {"reset_value_min": 6.0, "reset_value_max": 5.0},
        "reset_value_min is above reset_value_max",
    ),
    (ALERT, {"consecutive_readings": -1}, "consecutive_readings must be between 1 and 10000"),
    (ALERT, {"consecutive_readings": 0}, "consecutive_readings must be between 1 and 10000"),
    (ALERT, {"consecutive_readings": 10_001}, "consecutive_readings must be between 1 and 10000"),
    (ALERT, {"clear_after": 0}, "clear_after must be between 1 and 10000"),
    (ALERT, {"clear_after": 1.5}, "clear_after"),
    (ALERT, {"forecast_after": -1}, "forecast_after must be between 0 and 10000"),
    (PROFILE, {"warning_min": 0.5}, "alert_min is above warning_min"),
    (PROFILE, {"warning_max": 9.5}, "warning_max is above alert_max"),
    (PROFILE, {"warning_min": 8.5}, "warning_min is above warning_max"),
    (PROFILE, {"alert_min": 5.0, "alert_max": 4.0, "warning_min": None, "warning_max": None},
     "alert_min is above alert_max"),
    (PROFILE, {"alert_max": nan}, "alert_max must be a finite number"),
    (PROFILE, {"alert_max": "high"}, "got `str` - at `$.alert_max`"),
    (DELTA, {"abs_delta": None}, "no bound is set"),
    (DELTA, {"abs_delta": 0.0}, "abs_delta must be above 0"),
    (DELTA, {"rel_slope": -0.5}, "rel_slope must be above 0"),
    (DELTA, {"rel_delta": nan}, "rel_delta must be a finite number"),
    (DELTA, {"abs_slope": "steep"}, "got `str` - at `$.abs_slope`"),
    (DELTA, {"severity": "severe"}, "Invalid enum value 'severe' - at `$.severity`"),
    (DELTA, {"min_readings": -1}, "min_readings must be between 0 and 10000"),
    (DELTA, {"raise_after": 0}, "raise_after must be between 1 and 10000"),
    (DELTA, {"clear_after": -5}, "clear_after must be between 1 and 10000"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "change", "reason"), SENSELESS)
def test_an_invalid_row_is_refused_by_table_and_id_and_the_others_stay(table, change, reason):
    bad = GOOD[table] | {"id": 9, "sensor_id": 8} | change
    tables = {name: [row] for name, row in GOOD.items()} | {table: [bad, GOOD[table]]}
    rules, refused = make_rules(tables)
    (row,) = refused
    assert (row.table, row.id, row.kept) == (table, 9, False)
    assert reason in row.error
    assert rules == make_rules({name: [row] for name, row in GOOD.items()})[0]
    assert len(rules_of(rules)) == 4


@pytest.mark.parametrize(("table", "change", "reason"), SENSELESS)
def test_the_last_valid_rules_of_an_invalid_row_stay_in_force(table, change, reason):
    good, _ = make_rules({name: [row] for name, row in GOOD.items()})
    rules, refused = make_rules({table: [GOOD[table] | change]}, good)
    assert [(row.table, row.id, row.kept) for row in refused] == [(table, 1, True)]
    assert rules_of(rules) == [(table, 1)] * (2 if table == PROFILE else 1)
    assert rules.of(THRESHOLD) == tuple(rule for rule in good.of(THRESHOLD) if rule.table == table)
    assert rules.of(DELTAS) == tuple(rule for rule in good.of(DELTAS) if rule.table == table)


def test_a_deleted_row_is_no_longer_in_force():
    good, _ = make_rules({name: [row] for name, row in GOOD.items()})
    assert make_rules({}, good) == (RuleSet(), [])


def test_a_row_without_a_usable_id_is_refused_too():
    _, (row,) = make_rules({ALERT: [GOOD[ALERT] | {"id": "x"}]})
    assert (row.table, row.id, row.kept) == (ALERT, 0, False)
    assert "id" in row.error
    assert isinstance(row, Refused)


@pytest.mark.parametrize("table", [ALERT, DELTA])
@pytest.mark.parametrize("change", [{"severity": "info"}, {"is_active": False}, {"is_active": 0}])
def test_info_and_inactive_rows_become_no_rule(table, change):
    good, _ = make_rules({table: [GOOD[table]]})
    assert make_rules({table: [GOOD[table] | change]}, good) == (RuleSet(), [])


def test_info_rows_are_validated_as_well():
    _, refused = make_rules(
        {ALERT: [GOOD[ALERT] | {"severity": "info", "threshold_value_min": nan}]}
    )
    assert len(refused) == 1


def test_empty_columns_have_defaults():
    (rule,) = make_rules({ALERT: [GOOD[ALERT]]})[0].of(THRESHOLD)
    assert (rule.raise_after, rule.clear_after, rule.forecast_after) == (1, 5, 3)
    assert (rule.reset_low, rule.reset_high) == (None, None)
    assert resets(rule) == pytest.approx((1.4, 8.6))
    assert (rule.level, rule.name) == (Level.CRITICAL, "threshold 1")
    (delta,) = make_rules({DELTA: [GOOD[DELTA]]})[0].of(DELTAS)
    assert (delta.min_readings, delta.raise_after, delta.clear_after) == (5, 1, 5)
    assert delta.level is Level.WARN
    warn, critical = sorted(
        make_rules({PROFILE: [GOOD[PROFILE]]})[0].of(THRESHOLD), key=lambda t: t.level
    )
    assert (warn.level, warn.low, warn.high) == (Level.WARN, 2.0, 8.0)
    assert (critical.level, critical.low, critical.high) == (Level.CRITICAL, 1.0, 9.0)
    assert (critical.raise_after, critical.clear_after, critical.forecast_after) == (1, 5, 3)


def test_the_values_of_a_row_are_used():
    row = GOOD[ALERT] | {
        "name": "narrow", "reset_value_min": 2.0, "reset_value_max": 7.0, "clear_after": 9,
        "consecutive_readings": 4, "forecast_after": 0,
    }  # fmt: skip
    (rule,) = make_rules({ALERT: [row]})[0].of(THRESHOLD)
    assert (rule.raise_after, rule.clear_after, rule.forecast_after) == (4, 9, 0)
    assert (rule.reset_low, rule.reset_high, rule.name) == (2.0, 7.0, "narrow")
    bounds = {"abs_delta": 1.0, "rel_delta": 2.0, "abs_slope": 3.0, "rel_slope": 4.0}
    row = {"id": 2, "sensor_id": 7, "min_readings": 0, "raise_after": 2, "clear_after": 3, **bounds}
    (delta,) = make_rules({DELTA: [row]})[0].of(DELTAS)
    assert {name: getattr(delta, name) for name in bounds} == bounds
    assert (delta.min_readings, delta.raise_after, delta.clear_after) == (0, 2, 3)


@pytest.mark.parametrize("bound", [0.0, 5.0, -5.0])
def test_bounds_may_be_equal_and_need_not_be_positive(bound):
    row = GOOD[ALERT] | {"threshold_value_min": bound, "threshold_value_max": bound}
    (rule,), () = make_rules({ALERT: [row]})[0].of(THRESHOLD), make_rules({ALERT: [row]})[1]
    assert (rule.low, rule.high, *resets(rule)) == (bound,) * 4
    assert (rule.low, rule.high, *resets(rule, bound)) == (bound,) * 4


def test_one_sided_profiles_bound_one_side():
    row = {"sensor_id": 7, "warning_max": 8.0}
    (rule,) = make_rules({PROFILE: [row]})[0].of(THRESHOLD)
    assert (rule.low, rule.high, *resets(rule)) == (None, 8.0, -inf, 7.6)
    assert make_rules({PROFILE: [{"sensor_id": 7}]}) == (RuleSet(), [])


@pytest.mark.parametrize(
    ("left_out", "low", "high", "reset"),
    [
        ("threshold_value_min", None, 9.0, {"reset_value_max": 8.0}),
        ("threshold_value_max", 1.0, None, {"reset_value_min": 2.0}),
    ],
)
def test_a_range_with_one_bound_means_that_bound(left_out, low, high, reset):
    for more, schema in (({}, 3), (reset, 2)):
        rules, refused = make_rules({ALERT: [GOOD[ALERT] | {left_out: None} | more]})
        (rule,) = rules.of(THRESHOLD)
        assert not refused
        assert (rule.low, rule.high) == (low, high)
        assert rules.schema == schema


def test_only_the_delta_with_the_lowest_id_of_a_sensor_applies():
    rows = [GOOD[DELTA] | {"id": number, "abs_delta": float(number)} for number in (5, 3, 4)]
    assert [rule.id for rule in make_rules({DELTA: rows})[0].of(DELTAS)] == [3]
    rows[1]["is_active"] = False
    assert [rule.id for rule in make_rules({DELTA: rows})[0].of(DELTAS)] == [4]
    rows[2]["abs_delta"] = -1.0
    assert [rule.id for rule in make_rules({DELTA: rows})[0].of(DELTAS)] == [5]
    other = GOOD[DELTA] | {"id": 9, "sensor_id": 1}
    assert [rule.id for rule in make_rules({DELTA: [*rows, other]})[0].of(DELTAS)] == [9, 5]


MANY: dict[str, list[dict[str, Any]]] = {
    ALERT: [GOOD[ALERT] | {"id": n, "sensor_id": n % 3} for n in range(1, 8)],
    PROFILE: [GOOD[PROFILE] | {"id": n, "sensor_id": n % 3} for n in range(1, 5)],
    DELTA: [GOOD[DELTA] | {"id": n, "sensor_id": n % 3} for n in range(1, 5)],
}


def test_the_version_changes_with_the_content_and_not_with_the_order_of_rows():
    rules, _ = make_rules(MANY)
    turned, _ = make_rules({name: rows[::-1] for name, rows in reversed(MANY.items())})
    assert turned == rules
    assert turned.version() == rules.version()
    assert len(rules.version()) == 12
    versions = {rules.version()}
    for table, column, value in (
        (ALERT, "threshold_value_max", 9.5), (ALERT, "name", "x"), (ALERT, "clear_after", 4),
        (ALERT, "reset_value_min", 1.5), (PROFILE, "warning_max", 8.5), (DELTA, "rel_slope", 1.0),
        (DELTA, "min_readings", 4), (ALERT, "severity", "warning"), (ALERT, "sensor_id", 99),
    ):  # fmt: skip
        first, *others = MANY[table]
        changed, refused = make_rules(MANY | {table: [first | {column: value}, *others]})
        assert not refused
        versions.add(changed.version())
    assert len(versions) == 10


def test_rules_survive_encoding_and_decoding():
    rules, _ = make_rules(MANY)
    assert decode_rules(rules.encode()) == rules
    assert decode_rules(rules.encode().decode()) == rules
    assert decode_rules(rules.encode()).version() == Rules(rules).version == rules.version()
    assert decode_rules(RuleSet().encode()) == RuleSet()


def test_thresholds_are_sorted_by_sensor_table_and_id():
    rules, _ = make_rules(MANY)
    keys = [(rule.sensor_id, rule.table, rule.id, -rule.level) for rule in rules.of(THRESHOLD)]
    assert keys == sorted(keys)
    assert [rule.sensor_id for rule in rules.of(DELTAS)] == [0, 1, 2]


def test_an_inactive_row_is_ignored_regardless_of_its_other_columns():
    row = {"id": 1, "sensor_id": 7, "condition_type": "greater_than", "threshold_value_min": 1.0}
    good, _ = make_rules({"alert_thresholds": [row]})
    off = row | {"is_active": 0, "threshold_value_min": None}
    assert make_rules({"alert_thresholds": [off]}, good) == (RuleSet(), [])


@pytest.mark.parametrize("condition", ["less_than", "greater_than", "equal_to"])
def test_a_single_bound_has_a_single_reset(condition):
    row = {"sensor_id": 7, "condition_type": condition, "threshold_value_min": 10.0}
    _, (refused,) = make_rules({"alert_thresholds": [row | {"reset_value_max": 50.0}]})
    assert refused.error == f"{condition} uses reset_value_min, not reset_value_max"


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"reset_value_min": 11.95}, (11.95, 11.95)),
        ({"reset_value_max": 10.05}, (10.05, 10.05)),
        ({"reset_value_min": 10.5}, (10.5, 11.9)),
        ({"reset_value_max": 11.5}, (10.1, 11.5)),
        ({"reset_value_min": 10.0, "reset_value_max": 12.0}, (10.0, 12.0)),
    ],
)
def test_a_default_reset_bound_never_crosses_the_given_one(stated, expected):
    row = {"sensor_id": 7, "condition_type": "out_of_range", "threshold_value_min": 10.0}
    row |= {"threshold_value_max": 12.0} | stated
    rules, refused = make_rules({"alert_thresholds": [row]})
    assert refused == []
    assert resets(rules.of(THRESHOLD)[0]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("bounds", "usual", "expected"),
    [
        # 5 % of the way from the only bound to the usual value, or to 0 until that is known
        ({"high": 80.0}, nan, 76.0),
        ({"high": 80.0}, 20.0, 77.0),
        ({"high": 80.0}, -120.0, 70.0),
        ({"high": 80.0}, 79.9, 79.995),
        ({"high": -20.0}, nan, -20.0),
        ({"high": -20.0}, -40.0, -21.0),
        ({"low": 80.0}, nan, 80.0),
        ({"low": 80.0}, 100.0, 81.0),
        ({"low": -20.0}, nan, -19.0),
        ({"low": -20.0}, 180.0, -10.0),
        # a usual value beyond the bound
        ({"high": 80.0}, 90.0, 80.0),
        ({"low": 80.0}, 70.0, 80.0),
    ],
)
def test_the_reset_bound_of_one_bound_lies_five_percent_of_the_way_to_the_usual_value(
    bounds, usual, expected
):
    row = {"sensor_id": 7, "condition_type": "out_of_range"}
    row |= {{"low": "threshold_value_min", "high": "threshold_value_max"}[k]: v
            for k, v in bounds.items()}  # fmt: skip
    (rule,) = make_rules({ALERT: [row]})[0].of(THRESHOLD)
    low, high = resets(rule, usual)
    assert (low, high) == pytest.approx((expected, inf) if "low" in bounds else (-inf, expected))


@pytest.mark.parametrize(
    ("usual", "expected"),
    [
        (nan, (11.0, 29.0)),
        (20.0, (11.0, 29.0)),
        (11.0, (11.0, 29.0)),
        (29.0, (11.0, 29.0)),
        # between a bound and its reset bound
        (29.8, (11.0, 29.99)),
        (10.2, (10.01, 29.0)),
        # beyond a bound
        (31.0, (11.0, 29.0)),
        (9.0, (11.0, 29.0)),
        (30.0, (11.0, 29.0)),
        (10.0, (11.0, 29.0)),
    ],
)
def test_the_reset_bounds_of_a_range_lie_five_percent_of_its_span_inside_unless_the_sensor_is_there(
    usual, expected
):
    row = {"sensor_id": 7, "condition_type": "out_of_range", "threshold_value_min": 10.0}
    (rule,) = make_rules({ALERT: [row | {"threshold_value_max": 30.0}]})[0].of(THRESHOLD)
    assert resets(rule, usual) == pytest.approx(expected)


def test_null_means_the_default():
    row = {"sensor_id": 7, "condition_type": "greater_than", "threshold_value_min": 1.0}
    nulls = {"name": None, "severity": None, "is_active": None, "consecutive_readings": None}
    assert make_rules({ALERT: [row | nulls]}) == make_rules({ALERT: [row]})


def test_a_range_may_span_the_whole_float_range():
    row = {"sensor_id": 7, "condition_type": "out_of_range", "threshold_value_min": -1.7e308}
    assert make_rules({"alert_thresholds": [row | {"threshold_value_max": 1.7e308}]})[1] == []
