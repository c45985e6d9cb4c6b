import pytest

from ml.predict.assessment import anomaly_type, assess
from rules.threshold import worst
from tests.ml.conftest import threshold


def rule(condition, low, high=None, severity="warning", number=1):
    return threshold(1, number, f"rule {number}", condition, low, high, severity)


@pytest.mark.parametrize(
    ("condition", "low", "high", "outside", "inside"),
    [
        ("greater_than", 30.0, None, [30.1], [30.0, -5]),
        ("less_than", 10.0, None, [9.9], [10.0, 99]),
        ("equal_to", 0.0, None, [0.0], [0.1, -0.1]),
        ("out_of_range", 10.0, 30.0, [9.9, 30.1], [10.0, 30.0]),
        ("out_of_range", None, 30.0, [30.1], [30.0, -99]),
        ("out_of_range", 10.0, None, [9.9], [10.0, 99]),
    ],
)
def test_bounds_are_strict(condition, low, high, outside, inside):
    threshold = rule(condition, low, high)
    assert [threshold.breached(value) for value in outside] == [True] * len(outside)
    assert [threshold.breached(value) for value in inside] == [False] * len(inside)


def test_the_highest_severity_counts_and_among_equals_the_first():
    rules = [
        rule("greater_than", 5.0, severity="warning", number=2),
        rule("greater_than", 4.0, severity="warning", number=3),
        rule("greater_than", 50.0, severity="critical", number=4),
    ]
    assert [worst(rules, value) and worst(rules, value).id for value in (0, 4.5, 6, 60)] == [
        None, 3, 2, 4,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "severity", "risk"),
    [(20, "info", "LOW"), (35, "warning", "MEDIUM"), (50, "critical", "HIGH"), (11, "info", "LOW")],
)
def test_a_users_thresholds_decide_and_outrank_statistics(value, severity, risk):
    rules = [
        rule("out_of_range", 10.0, 30.0),
        rule("greater_than", 40.0, severity="critical", number=2),
    ]
    for anomalous in (False, True):
        assessment = assess("temperature", value, rules, anomalous=anomalous)
        assert (assessment.severity, assessment.risk_level) == (severity, risk)
        assert assessment.recommended is None


@pytest.mark.parametrize(
    ("kind", "value", "anomalous", "severity", "risk"),
    [
        ("temperature", 20, False, "info", "LOW"),
        ("temperature", 36, False, "info", "MEDIUM"),
        ("temperature", 37.1, False, "warning", "HIGH"),
        ("temperature", 12.9, True, "critical", "HIGH"),
        ("temperature", 20, True, "warning", "LOW"),
        ("other", 1e6, False, "info", "NONE"),
        ("other", 1e6, True, "warning", "NONE"),
    ],
)
def test_without_thresholds_the_types_range_decides(kind, value, anomalous, severity, risk):
    assessment = assess(kind, value, [], anomalous=anomalous)
    assert (assessment.severity, assessment.risk_level, assessment.breach) == (severity, risk, None)


def test_an_anomalous_reading_within_the_users_bounds_is_a_notice():
    rules = [rule("out_of_range", 10.0, 30.0)]
    assert anomaly_type(rules, 29) == "notice"
    assert anomaly_type(rules, 31) == "warning"
    assert anomaly_type([], 29) == "warning"
