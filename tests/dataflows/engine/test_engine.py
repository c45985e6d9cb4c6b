"""Compares the engine with an independent oracle, and with itself on other pieces."""

from math import inf, isclose
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataflows.engine import predictions
from dataflows.engine.engine import Times
from rules.columns import Rules
from rules.delta import DELTA
from rules.tables import make_rules
from rules.threshold import THRESHOLD
from tests.dataflows.late_streams import late_stream
from tests.dataflows.oracle import Oracle
from tests.dataflows.streams import Partition, heartbeat, long_stream, streams

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
        "sensors": [{"id": 2, "no_data_after_seconds": 4}],
        "devices": [{"id": 2, "no_data_after_seconds": 20}],
    }
)  # fmt: skip
_ERRORS, _SPAN_MS, _APART_MS = 3, 20_000, 60_000
"""What the band of deviations needs here: streams last for minutes, not for days."""
_CODES = {"NO_DATA", "DATA_RESUMED", "PATTERN_CHANGE", "PREDICTION_DEVIATION"}


@pytest.fixture(autouse=True, scope="module")
def deviations_in_minutes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictions, "_KNOWN", _ERRORS)
        patch.setattr(predictions, "_KNOWN_MS", _SPAN_MS)
        patch.setattr(predictions, "_APART_MS", _APART_MS)
        yield


def oracle_rules():
    def unbounded(bound, otherwise=inf):
        return otherwise if bound is None else bound

    thresholds = [
        {
            "kind": "threshold", "id": number, "sensor": rule.sensor_id, "level": int(rule.level),
            "low": unbounded(rule.low, -inf), "high": unbounded(rule.high),
            "reset_low": rule.reset_low, "reset_high": rule.reset_high,
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
    payload = msgspec.json.decode(event.payload)
    late = (bool(payload.get("late")), payload.get("detected_at"))
    if event.event_code not in _CODES:
        change = levels[payload["from"]], levels[payload["to"]]
        reason = "timer" if "stood_seconds" in payload else ""
        reason = "late_end" if event.message.startswith("The late readings") else reason
        return (event.sensor_id, None, event.at, "LEVEL", *change, *late, reason)
    who = (event.sensor_id, None) if event.sensor_id is not None else (None, event.device_id)
    detail: Any = "end" if event.status == "resolved" else "begin"
    if event.event_code == "PREDICTION_DEVIATION":
        detail = int(event.event_type == "warning")
    return (*who, event.at, event.event_code, None, detail, *late, "")


def without_silence(row):
    """An event of the oracle, without what says whether it is silent: incidents decide that."""
    return (*row[:6], *row[7:])


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
_LANE = st.sampled_from(
    [(10_000, 3_600_000), (10_000, 3_600_000), (7, 3_600_000), (10_000, 60_000)]
)
"""The limit and the grace of the backlog lane."""


_LAG = st.one_of(st.just(0), st.integers(530_000, 601_000))
"""How late all records arrive: when a pane closes decides whether its predictions are ahead."""


def delayed(records, lag):
    """The records, all of them so much later."""
    return [(arrival + lag, *rest) for arrival, *rest in records]


def quiet(records):
    """The records, and time in which everything closes."""
    last = max(record[0] for record in records)
    return [*records, heartbeat(last + 400_000), heartbeat(last + 8_000_000)]


def check(records, cuts, restarts, predict_ms, lane):
    oracle = Oracle(
        1000, 3000, oracle_rules(), predict_ms, *lane, sensor_silence={2: 4},
        device_silence={2: 20}, errors=_ERRORS, span=_SPAN_MS, apart=_APART_MS,
    )  # fmt: skip
    for record in records:
        oracle.record(*record)
    partition = Partition(
        Times(predict_ms=predict_ms, late_limit=lane[0], late_grace_ms=lane[1]), Rules(RULES)
    )
    partition.run(records, cuts, restarts=restarts)

    assert_close(partition.windows, oracle.windows, 3)
    assert_close(partition.late_windows, oracle.late_windows, 3)
    assert_close([row[:8] for row in partition.rollups], oracle.rollups, 4)
    made = [(row[1], row[3], row[5], row[7]) for row in partition.predictions]
    assert_close(made, oracle.forecasts, 2)
    events = order(map(oracle_row, partition.events))
    assert events == order(map(without_silence, oracle.events))
    counts = partition.engine.counts
    assert (counts.late, counts.too_late, counts.future, counts.duplicates, counts.repeated) == (
        len(oracle.late), oracle.too_late, oracle.future, oracle.duplicates, oracle.repeated,
    )  # fmt: skip
    assert sorted(partition.late) == sorted(row[:3] for row in oracle.late)
    check_rollups(partition, oracle.final_rollups())


def check_rollups(partition, final):
    """After quiet, each bucket is stale, or was emitted with all its stored readings."""
    emitted = {}
    for row in sorted(partition.rollups, key=lambda row: row[3]):
        emitted[row[:3]] = row[3:]
    for bucket, (count, mean, low, high, _) in final.items():
        if bucket not in partition.stale:
            assert emitted[bucket][0] == count, bucket
            assert emitted[bucket][1:4] == pytest.approx((mean, low, high), abs=1e-4), bucket


@settings(_ALL, max_examples=1200)
@given(streams(), _CUTS, st.booleans(), st.sampled_from([5000, 60_000]), _LANE, _LAG)
def test_short_streams_match_the_oracle(records, cuts, restarts, predict_ms, lane, lag):
    check(quiet(delayed(records, lag)), cuts, restarts, predict_ms, lane)


@settings(_ALL, max_examples=120)
@given(st.integers(0, 10**6), _CUTS, st.booleans(), st.sampled_from([5000, 60_000]), _LANE, _LAG)
def test_long_streams_match_the_oracle(seed, cuts, restarts, predict_ms, lane, lag):
    check(quiet(delayed(long_stream(seed), lag)), cuts, restarts, predict_ms, lane)


@settings(_ALL, max_examples=60)
@given(st.integers(0, 10**6), _CUTS, st.booleans(), _LANE, _LAG)
def test_backlogs_and_standing_values_match_the_oracle(seed, cuts, restarts, lane, lag):
    check(quiet(delayed(late_stream(seed), lag)), cuts, restarts, 60_000, lane)


@settings(_ALL, max_examples=150)
@given(
    st.one_of(streams(), st.integers(0, 10**6).map(long_stream), st.integers().map(late_stream)),
    _CUTS,
    st.booleans(),
    _LANE,
    _LAG,
)
def test_cuts_and_restarts_do_not_change_a_bit(records, cuts, restarts, lane, lag):
    records = delayed(records, lag)
    times = Times(predict_ms=5000, late_limit=lane[0], late_grace_ms=lane[1])

    def run(*how, **more):
        return Partition(times, Rules(RULES)).run(records, *how, **more).found()

    whole = run()
    assert run(cuts, restarts=restarts) == whole
    assert run(range(len(records))) == whole
