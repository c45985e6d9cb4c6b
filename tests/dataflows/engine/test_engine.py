"""Compares the engine with an independent oracle, and with itself on other pieces."""

from math import inf, isclose

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataflows.engine.engine import Times
from rules.columns import Rules
from rules.delta import DELTA
from rules.tables import make_rules
from rules.threshold import THRESHOLD
from tests.dataflows.oracle import Oracle
from tests.dataflows.streams import Partition, long_stream, streams

RULES, refused = make_rules(
    {
        "alert_thresholds": [
            {
                "sensor_id": sensor,
                "condition_type": "out_of_range",
                "threshold_value_min": low,
                "threshold_value_max": high,
                "severity": severity,
                "consecutive_readings": after,
                "clear_after": clear,
                "forecast_after": 1 + sensor % 3,
            }
            for sensor in (1, 2, 3)
            for severity, low, high, after, clear in (
                ("warning", 10.013, 36.017, 1, 3), ("critical", 5.011, 42.019, 2 - sensor % 2, 2)
            )
        ]
        + [{"sensor_id": 4, "condition_type": "equal_to", "threshold_value_min": 21.0}],
        "sensor_threshold_profiles": [
            {"sensor_id": 4, "warning_max": 38.031, "alert_max": 44.1003}
        ],
        "delta_thresholds": [
            {"sensor_id": 1, "abs_delta": 25.0701, "min_readings": 2, "clear_after": 2},
            {"sensor_id": 4, "rel_delta": 0.90017, "abs_slope": 30.013, "severity": "critical",
             "raise_after": 2},
        ],
    }
)  # fmt: skip
_CODES = {"NO_DATA", "DATA_RESUMED", "PATTERN_CHANGE", "PREDICTION_DEVIATION"}


def oracle_rules():
    def unbounded(bound, otherwise=inf):
        return otherwise if bound is None else bound

    thresholds = [
        {
            "kind": "threshold", "id": number, "sensor": rule.sensor_id, "level": int(rule.level),
            "low": unbounded(rule.low, -inf), "high": unbounded(rule.high),
            "reset_low": unbounded(rule.reset_low, -inf), "reset_high": unbounded(rule.reset_high),
            "equal": rule.condition == "equal_to", "raise_after": rule.raise_after,
            "clear_after": rule.clear_after, "forecast_after": rule.forecast_after,
        }
        for number, rule in enumerate(RULES.of(THRESHOLD))
    ]  # fmt: skip
    deltas = [
        {
            "kind": "delta", "sensor": rule.sensor_id, "level": int(rule.level),
            "abs_delta": unbounded(rule.abs_delta), "rel_delta": unbounded(rule.rel_delta),
            "abs_slope": unbounded(rule.abs_slope), "rel_slope": unbounded(rule.rel_slope),
            "min_readings": rule.min_readings, "raise_after": rule.raise_after,
            "clear_after": rule.clear_after,
        }
        for rule in RULES.of(DELTA)
    ]  # fmt: skip
    return thresholds + deltas


def oracle_row(event):
    """An event in the form of the oracle."""
    levels = {"NORMAL": 0, "WARN": 1, "CRITICAL": 2}
    types = {"notice": 0, "warning": 1, "critical": 2}
    payload = msgspec.json.decode(event.payload)
    if event.event_code not in _CODES:
        change = levels[payload["from"]], levels[payload["to"]]
        return (event.sensor_id, None, event.at, "LEVEL", *change, event.silent)
    who = (event.sensor_id, None) if event.sensor_id is not None else (None, event.device_id)
    detail = "end" if event.status == "resolved" else "begin"
    if event.event_code == "PREDICTION_DEVIATION":
        return (*who, event.at, event.event_code, None, types[event.event_type], False)
    return (*who, event.at, event.event_code, None, detail, False)


def order(rows):
    return sorted(rows, key=lambda row: tuple(str(cell) for cell in row))


def assert_close(actual, expected, keys):
    """Check that the first `keys` cells of rows are equal, and the others nearly so."""
    actual, expected = sorted(actual), sorted(expected)
    assert [row[:keys] for row in actual] == [tuple(row[:keys]) for row in expected]
    for mine, other in zip(actual, expected, strict=True):
        for a, b in zip(mine[keys:], other[keys:], strict=True):
            assert isclose(a, b, rel_tol=1e-9, abs_tol=1e-7), (mine, other)


_ALL = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
_CUTS = st.lists(st.integers(0, 250), max_size=8)


def check(records, cuts, restarts, predict_ms):
    oracle = Oracle(1000, 3000, oracle_rules(), predict_ms)
    for record in records:
        oracle.record(*record)
    partition = Partition(Times(predict_ms=predict_ms), Rules(RULES))
    partition.run(records, cuts, restarts=restarts)

    assert_close(partition.windows, oracle.windows, 3)
    assert_close([row[:8] for row in partition.rollups], oracle.rollups, 4)
    predictions = [(row[1], row[3], row[5], row[7]) for row in partition.predictions]
    assert_close(predictions, oracle.forecasts, 2)
    assert order(map(oracle_row, partition.events)) == order(oracle.events)
    counts = partition.engine.counts
    assert (counts.late, counts.future, counts.duplicates) == (
        len(oracle.late), oracle.future, oracle.duplicates,
    )  # fmt: skip
    assert sorted(partition.late) == sorted(oracle.late)


@settings(_ALL, max_examples=1200)
@given(streams(), _CUTS, st.booleans(), st.sampled_from([5000, 60_000]))
def test_short_streams_match_the_oracle(records, cuts, restarts, predict_ms):
    check(records, cuts, restarts, predict_ms)


@settings(_ALL, max_examples=120)
@given(st.integers(0, 10**6), _CUTS, st.booleans(), st.sampled_from([5000, 60_000]))
def test_long_streams_match_the_oracle(seed, cuts, restarts, predict_ms):
    check(long_stream(seed), cuts, restarts, predict_ms)


@settings(_ALL, max_examples=150)
@given(st.one_of(streams(), st.integers(0, 10**6).map(long_stream)), _CUTS, st.booleans())
def test_cuts_and_restarts_do_not_change_a_bit(records, cuts, restarts):
    def run(*how, **more):
        return Partition(Times(predict_ms=5000), Rules(RULES)).run(records, *how, **more).found()

    whole = run()
    assert run(cuts, restarts=restarts) == whole
    assert run(range(len(records))) == whole
