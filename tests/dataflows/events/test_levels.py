import json
from dataclasses import replace

import numpy as np
import pytest

from contract.table import Table, single
from rules.columns import Rules
from rules.detector import Findings
from rules.tables import make_rules
from tests.dataflows.streams import (
    HELD_MS,
    NO_RULES,
    Partition,
    closed,
    each_second,
    heartbeat,
    laid_open,
)

N, W, C = "NORMAL", "WARN", "CRITICAL"
STEPS = {"DATA_RESUMED", "NO_DATA", "PATTERN_CHANGE", "PREDICTION_DEVIATION"}


def threshold(condition, low, high=None, severity="warning", **more):
    row = {"sensor_id": 1, "condition_type": condition, "threshold_value_min": low}
    return row | {"threshold_value_max": high, "severity": severity, "forecast_after": 0} | more


def make(*thresholds, deltas=(), profiles=()):
    rules, refused = make_rules(
        {
            "alert_thresholds": thresholds,
            "delta_thresholds": deltas,
            "sensor_threshold_profiles": profiles,
        }
    )
    assert not refused
    return Rules(rules)


def delta(**row):
    return make(deltas=[{"sensor_id": 1} | row])


def changes(found, sensor=1):
    """(end, from, to) of each change of level."""
    payloads = [
        (event.at, json.loads(event.payload))
        for event in found.events
        if event.event_code not in STEPS and event.sensor_id == sensor
    ]
    return [(at, payload["from"], payload["to"]) for at, payload in payloads]


def levels(rules, *values, cuts=(), restarts=False, detector=None):
    """The level after each value, one per second, according to the events."""
    partition = Partition(rules=rules, detector=detector)
    partition.run(closed(each_second(*values)), cuts, restarts=restarts)
    level, sequence, told = N, [], {at: (a, b) for at, a, b in changes(partition)}
    for end in (row[2] for row in partition.windows if row[1] == "w1"):
        before, after = told.pop(end, (level, level))
        assert before == level
        level = after
        sequence.append(level)
    assert not told
    return sequence


def payloads(rules, *values, code, detector=None):
    partition = Partition(rules=rules, detector=detector).run(closed(each_second(*values)))
    return [json.loads(event.payload) for event in partition.events if event.event_code == code]


ABOVE_80_AND_90 = make(
    threshold("greater_than", 80.0), threshold("greater_than", 90.0, severity="critical")
)


def test_the_first_pane_beyond_raises_a_level_and_five_inside_clear_it():
    assert levels(ABOVE_80_AND_90, 70, 81, *[70] * 6) == [N, *[W] * 5, N, N]


def test_a_value_between_reset_and_threshold_keeps_the_level():
    assert levels(ABOVE_80_AND_90, 81, *[77] * 9) == [W] * 10
    assert levels(ABOVE_80_AND_90, 81, *[75.9] * 5)[-1] == N


def test_quiet_panes_must_be_consecutive():
    assert levels(ABOVE_80_AND_90, 81, 70, 70, 70, 70, 81, 70, 70, 70, 70) == [W] * 10
    assert levels(ABOVE_80_AND_90, 81, 70, 70, 70, 70, 77, 70, 70, 70, 70) == [W] * 10


def test_critical_may_fall_to_warn():
    assert levels(ABOVE_80_AND_90, 95, *[82] * 5, *[70] * 5) == [*[C] * 5, *[W] * 5, N]


def test_critical_falls_to_the_level_of_the_last_quiet_pane():
    assert levels(ABOVE_80_AND_90, 95, 82, 82, 82, 82, 70) == [*[C] * 5, N]
    assert levels(ABOVE_80_AND_90, 95, 70, 70, 70, 70, 82) == [*[C] * 5, W]


def test_a_held_warn_does_not_raise_warn_when_critical_clears():
    # 77 is below the reset of critical (85.5): it holds warning but does not raise it
    assert levels(ABOVE_80_AND_90, 95, *[77] * 5) == [*[C] * 5, N]


def test_a_value_on_the_threshold_is_normal():
    assert levels(ABOVE_80_AND_90, 80.0, 80.00001) == [N, W]


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("cut", range(1, 14))
def test_levels_do_not_depend_on_the_cut(cut, restarts):
    means = (95, 82, 82, 70, 82, 70, 70, 70, 70, 70, 81, 95)
    sequence = levels(ABOVE_80_AND_90, *means, cuts=[cut], restarts=restarts)
    assert sequence == levels(ABOVE_80_AND_90, *means)


@pytest.mark.parametrize(
    ("row", "normal", "beyond"),
    [
        (threshold("less_than", 10.0), [10.0, 11], [9.9]),
        (threshold("greater_than", 10.0), [10.0, 9], [10.1]),
        (threshold("equal_to", 10.0), [9.9, 10.1], [10.0]),
        (threshold("out_of_range", 10.0, 20.0), [10.0, 15, 20], [9.9, 20.1]),
    ],
)
def test_conditions_match_the_old_system(row, normal, beyond):
    rules = make(row)
    assert [levels(rules, value)[0] for value in normal] == [N] * len(normal)
    assert [levels(rules, value)[0] for value in beyond] == [W] * len(beyond)


@pytest.mark.parametrize(
    ("row", "beyond", "holds", "clears"),
    [
        (threshold("greater_than", 80.0), 81, 76.001, 76.0),
        (threshold("less_than", 80.0), 79, 79.999, 80.0),  # 0 is beyond it
        (threshold("less_than", -80.0), -81, -76.001, -76.0),
        (threshold("greater_than", -80.0), -79, -79.999, -80.0),  # 0 is beyond it
        (threshold("greater_than", 0.0), 1, 0.001, 0.0),
        (threshold("out_of_range", 10.0, 30.0), 31, 29.001, 29.0),
        (threshold("out_of_range", 10.0, 30.0), 9, 10.999, 11.0),
        (threshold("greater_than", 80.0, reset_value_min=50.0), 81, 50.001, 50.0),
        (threshold("less_than", 80.0, reset_value_min=90.0), 79, 89.999, 90.0),
        (threshold("out_of_range", 10, 30, reset_value_max=20.0), 31, 20.001, 20.0),
        (threshold("out_of_range", 10, 30, reset_value_min=20.0), 9, 19.999, 20.0),
        (threshold("equal_to", 10.0), 10.0, 10.0, 10.0001),
    ],
)
def test_a_level_clears_inside_the_reset_bounds_five_percent_towards_zero_or_the_other_bound(
    row, beyond, holds, clears
):
    """As long as the sensor's usual value is unknown."""
    rules = make(row | {"clear_after": 1})
    assert levels(rules, beyond, holds, holds) == [W, W, W]
    assert levels(rules, beyond, clears) == [W, N]


def test_kapacitors_published_sequence_of_levels():
    # influxdata/kapacitor, alert node: warn above 70, critical above 80, resets 60 and 70
    rules = make(
        threshold("greater_than", 70.0, reset_value_min=60.0, clear_after=1),
        threshold("greater_than", 80.0, severity="critical", reset_value_min=70.0, clear_after=1),
    )
    assert levels(rules, 61, 73, 64, 85, 62, 56, 47) == [N, W, W, C, N, N, N]


def test_raise_after_works_like_for_in_prometheus():
    rules = make(threshold("greater_than", 80.0, consecutive_readings=3))
    assert levels(rules, 81, 81, 70, 81, 81, 70) == [N] * 6
    assert levels(rules, 81, 81, 81, 70) == [N, N, W, W]
    assert (
        levels(rules, 81, 81, 77, 81, 81) == [N] * 5
    )  # 77, between reset and threshold, breaks the streak


def test_a_value_beyond_a_threshold_that_stands_counts_like_panes():
    rules = make(threshold("greater_than", 80.0, consecutive_readings=3))
    records = [*each_second(81, 81), *each_second(81, start=600_000)]
    partition = Partition(rules=rules).run(closed(records))
    assert changes(partition) == [(4_000, N, W)]


def test_panes_are_consecutive_regardless_of_the_gap_which_counts_in_seconds():
    rules = delta(abs_delta=5.0, min_readings=0, raise_after=3)
    records = [*each_second(0, 10), *each_second(20, start=600_000)]
    assert changes(Partition(rules=rules).run(closed(records))) == [(601_000, N, W)]
    for gap, levels_then in ((1, []), (2, [(5_000, N, W)])):
        records = [*each_second(0, 10), *each_second(20, start=2_000 + 1_000 * gap)]
        assert changes(Partition(rules=rules).run(closed(records))) == levels_then


def test_panes_of_a_forecast_are_counted_however_long_they_take():
    rules = make(threshold("greater_than", 100.0, severity="critical", forecast_after=3))
    ramp = [value for number in range(7) for value in (60 + 4 * number, None)]
    partition = Partition(rules=rules).run(closed(each_second(*ramp)))
    assert changes(partition) == [(14_000, N, W)]  # the third pane of those from 10 s on


def test_a_level_continues_until_clear_after_consecutive_quiet_panes():
    rules = make(threshold("greater_than", 80.0, clear_after=3))
    assert levels(rules, 81, 70, 70, 70) == [W, W, W, N]
    assert levels(rules, 81, 70, 70, 81, 70, 70, 70) == [W] * 6 + [N]


def test_a_change_of_level_restarts_the_count_of_quiet_panes():
    rules = make(
        threshold("greater_than", 80.0, clear_after=3),
        threshold("greater_than", 90.0, severity="critical", clear_after=2),
    )
    assert levels(rules, 81, 70, 70, 95, 70, 82, 70, 70, 70) == [W, W, W, C, C, W, W, W, N]


def test_the_rule_with_the_lowest_id_is_the_cause_and_its_clear_after_applies():
    rules = make(
        threshold("greater_than", 80.0, id=8, clear_after=1),
        threshold("greater_than", 80.0, id=4, clear_after=3),
        deltas=[{"sensor_id": 1, "abs_delta": 5.0, "min_readings": 0, "clear_after": 2}],
    )
    assert levels(rules, 70, 85, 70, 70, 70, 70) == [N, W, W, W, W, N]  # 85 to 70 is a delta too
    (payload,) = payloads(rules, 70, 85, code="ML_BEHAVIOR_STATE")
    assert payload["threshold_id"] == 4


def test_profiles_raise_both_levels():
    rules = make(
        profiles=[
            {"sensor_id": 1, "warning_min": 10.0, "warning_max": 20.0, "alert_max": 30.0},
            {"sensor_id": 2, "alert_min": 5.0},
        ]
    )
    assert levels(rules, 15, 21, 31, 9) == [N, W, C, C]
    partition = Partition(rules=rules).run(closed(each_second(6, 4, sensor=2)))
    assert changes(partition, 2) == [(3_000, N, C)]


def test_sensors_do_not_affect_each_other():
    rules = make(*(threshold("greater_than", 80.0, sensor_id=n) for n in (1, 2, 3)))
    readings = [(9, 70.0), (1, 70.0), (2, 99.0), (3, 70.0)], [(3, 90.0), (2, 95.0), (9, 90.0)]
    records = [
        (at, 1, str(at), [(sensor, at, value) for sensor, value in some])
        for at, some in zip((1_000, 2_000), readings, strict=True)
    ]
    partition = Partition(rules=rules).run(closed(records))
    assert [(event.sensor_id, event.at) for event in partition.events] == [(2, 2_000), (3, 3_000)]
    ids = [json.loads(event.payload)["threshold_id"] for event in partition.events]
    assert ids == [2, 3]


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([200.0, -60.0, 91.0], [(2_000, N, C)]),  # their mean is 77
        ([-60.0, 81.0, -60.0], [(2_000, N, W)]),
        ([80.0, 70.0, 80.0], []),
    ],
)
def test_thresholds_judge_every_reading_of_a_pane_and_not_its_mean(readings, expected):
    record = (1_000, 1, "a", [(1, 1_000 + 100 * n, value) for n, value in enumerate(readings)])
    assert changes(Partition(rules=ABOVE_80_AND_90).run(closed([record], HELD_MS))) == expected


def test_a_pane_is_quiet_if_all_its_readings_are_inside_the_reset_bounds():
    rules = make(threshold("greater_than", 80.0, reset_value_min=60.0, clear_after=1))

    def story(*lows):
        second = [(1, 1_000, 81.0)], [(1, 2_000 + 100 * n, low) for n, low in enumerate(lows)]
        records = [(1_000 * n, 1, str(n), readings) for n, readings in enumerate(second, 1)]
        return changes(Partition(rules=rules).run([*records, heartbeat(9_000)]))

    assert story(20.0, 60.0, 20.0) == [(2_000, N, W), (3_000, W, N)]
    assert story(20.0, 61.0, 20.0) == [(2_000, N, W)]


# deltas


@pytest.mark.parametrize(
    ("bound", "reached", "missed"),
    [
        ({"abs_delta": 5.0}, (10, 15), (10, 14.9)),
        ({"abs_delta": 5.0}, (10, 5), (10, 5.1)),
        ({"rel_delta": 0.5}, (10, 5), (10, 5.1)),
        ({"rel_delta": 0.5}, (-10, -15), (-10, -14.9)),
        ({"abs_slope": 5.0}, (10, 15), (10, None, 15)),
        ({"abs_slope": 5.0}, (10, None, 20), (10, None, 19.9)),
        ({"rel_slope": 0.5}, (10, 15), (10, None, 15)),
        ({"rel_slope": 0.5}, (10, None, 20), (10, None, 19.9)),
        ({"abs_delta": 9.0, "rel_delta": 0.5}, (10, 15), (20, 28.9)),
        ({"rel_delta": 0.5}, (2e-6, 3.1e-6), (1e-6, 9.0)),
        ({"rel_slope": 0.5}, (2e-6, 3.1e-6), (0.0, 9.0)),
    ],
)
def test_a_delta_raises_when_two_consecutive_panes_differ_by_one_of_its_bounds(
    bound, reached, missed
):
    rules = delta(min_readings=0, **bound)
    assert levels(rules, *reached)[-1] == W
    assert levels(rules, *missed)[-1] == N


def test_a_delta_needs_min_readings_in_earlier_panes():
    rules = delta(abs_delta=5.0)
    assert levels(rules, 1, 9, 1, 9, 1) == [N] * 5
    assert levels(rules, 1, 9, 1, 9, 1, 9) == [*[N] * 5, W]
    several = (1_000, 1, "a", [(1, 1_000 + n, 1.0) for n in range(5)])
    partition = Partition(rules=rules).run(closed([several, *each_second(9, start=2_000)]))
    assert changes(partition) == [(3_000, N, W)]


def test_a_delta_needs_an_earlier_pane_even_if_min_readings_is_zero():
    assert levels(delta(abs_delta=5.0, min_readings=0), 1_000.0) == [N]


@pytest.mark.parametrize("cut", range(1, 9))
def test_readings_before_a_delta_are_counted_across_cuts_and_restarts(cut):
    rules = delta(abs_delta=5.0)
    sequence = levels(rules, *[1] * 5, 9, 9, cuts=[cut], restarts=True)
    assert sequence == [*[N] * 5, W, W]


def test_a_delta_raises_its_level_and_clears_after_five_quiet_panes():
    rules = delta(abs_delta=5.0, min_readings=0, severity="critical")
    assert levels(rules, 1, 9, *[9] * 5) == [N, *[C] * 5, N]
    rules = delta(abs_delta=5.0, min_readings=0, raise_after=2, clear_after=1)
    assert levels(rules, 1, 9, 1, 1) == [N, N, W, N]


# forecasts

ABOVE_100 = make(threshold("greater_than", 100.0, severity="critical", forecast_after=None))


def test_a_ramp_to_a_critical_bound_within_a_minute_raises_at_the_third_pane():
    ramp = [36.5 + n for n in range(8)]  # one unit per second: 100 is within a minute from 40 on
    assert levels(ABOVE_100, *ramp) == [*[N] * 6, W, W]
    (payload,) = payloads(ABOVE_100, *ramp, code="PRED_THRESHOLD_BREACH")
    assert payload["seconds_to_reach"] == 57.5
    assert payload["trend"] == pytest.approx(1.0)
    assert payload["predicted_value"] == 100.0
    assert payload["raise_after"] == 3


def test_a_ramp_away_from_the_bound_or_a_flat_signal_near_it_raises_no_forecast():
    assert levels(ABOVE_100, *range(99, 79, -1)) == [N] * 20
    assert levels(ABOVE_100, *[99.9] * 20) == [N] * 20


def test_a_falling_signal_leads_to_the_lower_bound():
    rules = make(threshold("out_of_range", 0, 100, severity="critical", forecast_after=1))
    ramp = [64.5 - n for n in range(6)]
    assert levels(rules, *ramp) == [*[N] * 5, W]
    (payload,) = payloads(rules, *ramp, code="PRED_THRESHOLD_BREACH")
    assert (payload["predicted_value"], payload["seconds_to_reach"]) == (0.0, 59.5)


def test_a_forecast_is_followed_by_its_threshold():
    rules = make(threshold("greater_than", 100.0, severity="critical", forecast_after=1))
    partition = Partition(rules=rules).run(closed(each_second(75, 80, 85, 90, 95, 101)))
    soon, there = partition.events
    assert (soon.event_code, there.event_code) == ("PRED_THRESHOLD_BREACH", "ML_BEHAVIOR_STATE")
    assert (soon.event_type, there.event_type) == ("warning", "critical")
    assert there.resolves == soon.event_key


@pytest.mark.parametrize(
    "row",
    [
        threshold("greater_than", 100.0, severity="critical", forecast_after=0),
        threshold("greater_than", 100.0, severity="warning", forecast_after=1),
        threshold("equal_to", 100.0, severity="critical", forecast_after=1),
    ],
)
def test_only_critical_bounds_are_forecast_and_only_if_enabled(row):
    assert levels(make(row), *range(50, 99)) == [N] * 49


def test_a_forecast_clears_after_the_quiet_panes_of_its_threshold():
    rules = make(
        threshold("greater_than", 100.0, severity="critical", forecast_after=1, clear_after=2)
    )
    assert levels(rules, 75, 80, 85, 90, 95, 90, 80, 70) == [*[N] * 4, W, W, N, N]


SOON = make(threshold("greater_than", 100.0, severity="critical", forecast_after=1))


def test_a_forecast_needs_five_readings():
    assert levels(SOON, 75, 80, 85, 90) == [N] * 4
    assert levels(SOON, 75, 80, 85, 90, 95) == [*[N] * 4, W]


@pytest.mark.parametrize(
    "values",
    [
        [50.0] * 9 + [95.0] * 12,  # stopped
        [95.0, 80.0, 99.0] * 8,  # noise
        [60, 70, 80, 90, 80, 70, 60, 50],  # turned
    ],
)
def test_stopped_and_turned_signals_and_noise_raise_no_forecast(values):
    assert levels(SOON, *values) == [N] * len(values)


# a detector


class Above100(Table):
    """Finds values above 100 unusual after three values of the sensor."""

    seen = single({})
    streaks = single({})

    def __init__(self):
        super().__init__()
        self.tables = {"above_100": self}

    def use(self, deep, bounds, since=None):
        pass

    def step(self, sensor_id, end, mean, breached):
        found, told = np.zeros(len(mean), np.int8), np.zeros(len(mean), np.int8)
        for index, (sensor, value) in enumerate(zip(sensor_id.tolist(), mean, strict=True)):
            if self.seen.get(sensor, 0) >= 3:
                found[index] = int(value > 100) + int(value > 200)
            self.seen = self.seen | {sensor: self.seen.get(sensor, 0) + 1}
            streaks = self.streaks.get(sensor, (0, 0))
            streaks = tuple(
                n + 1 if found[index] >= level else 0 for level, n in enumerate(streaks, 1)
            )
            self.streaks = self.streaks | {sensor: streaks}
            told[index] = sum(n >= 3 for n in streaks)
        count = len(mean)
        return replace(
            Findings.nothing(count),
            level=found,
            told=told,
            usual=np.full(count, 50.0),
            score=np.full(count, 6.5),
            bound=np.array([[4.0], [5.0]]).repeat(count, axis=1),
            view=np.ones(count, np.int8),
        )


def test_a_detector_raises_at_the_third_consecutive_pane():
    sequence = levels(NO_RULES, 1, 150, 1, 150, 150, 150, 150, detector=Above100)
    assert sequence == [N, N, N, N, N, W, W]
    assert levels(NO_RULES, 1, 1, 1, 150, 150, 1, 150, 150, detector=Above100) == [N] * 8
    sequence = levels(NO_RULES, 1, 1, 1, 150, 250, 250, 250, detector=Above100)
    assert sequence == [N, N, N, N, N, W, C]


def test_a_finding_holds_a_level_which_clears_after_five_quiet_panes():
    rules = make(threshold("greater_than", 300.0, clear_after=1))
    sequence = levels(rules, 1, 1, 301, 150, 150, 1, detector=Above100)
    assert sequence == [N, N, W, W, W, N]
    sequence = levels(NO_RULES, 1, 1, 1, *[150] * 3, *[1] * 5, detector=Above100)
    assert sequence == [*[N] * 5, *[W] * 5, N]


def test_a_level_of_the_detector_is_a_transient_anomaly():
    (payload,) = payloads(
        NO_RULES, *[1] * 3, *[150] * 4, code="TRANSIENT_ANOMALY", detector=Above100
    )
    assert (payload["from"], payload["to"], payload["mean"]) == (N, W, 150.0)


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_detector_and_its_streaks_survive_restarts(cut):
    sequence = levels(
        NO_RULES, *[1] * 3, *[150] * 4, cuts=[cut], restarts=True, detector=Above100
    )  # fmt: skip
    assert sequence == [N, N, N, N, N, W, W]


# flapping

TWO_SIDED = make(threshold("greater_than", 80.0, clear_after=1))
HIGH, LOW = 90, 50


def flappings(rules, *values, **how):
    """(index of the value, whether it begins) of each event of flapping, and the partition."""
    partition = Partition(rules=rules).run(closed(each_second(*values)), **how)
    events = [event for event in partition.events if event.event_code == "PATTERN_CHANGE"]
    turns = [(event.at // 1000 - 2, event.status == "active") for event in events]
    return turns, partition


@pytest.mark.parametrize("cuts", [(), (5, 10, 11, 25), range(40)])
def test_flapping_begins_at_the_tenth_consecutive_change_and_ends_after_fifteen_panes_without(cuts):
    # weights 118, 116, .. of the newest ten steps are 1090 of 2000; nine are 990
    turns, _ = flappings(TWO_SIDED, *[HIGH, LOW] * 5, *[LOW] * 20, cuts=cuts, restarts=True)
    assert turns == [(9, True), (24, False)]
    turns, _ = flappings(TWO_SIDED, *[HIGH, LOW] * 4, *[HIGH] * 20)
    assert turns == []


def test_flapping_begins_above_a_share_of_one_half():
    # nine changes, five panes without and a change: 118 + 106 + .. + 90 = 1000 of 2000
    values = [*[HIGH, LOW] * 4, HIGH, *[HIGH] * 5, LOW]
    assert flappings(TWO_SIDED, *values)[0] == []
    assert flappings(TWO_SIDED, *values, HIGH)[0] == [(15, True)]


def test_flapping_ends_below_a_share_of_one_quarter():
    # after ten changes, changes 14, 15 and 17 panes later: 116 + 112 + 110 + 82 + 80 = 500 of
    # 2000 one pane on, and 472 - 60 with the next
    values = [*[HIGH, LOW] * 5, *[LOW] * 13, HIGH, LOW, LOW, HIGH, HIGH, HIGH]
    turns, _ = flappings(TWO_SIDED, *values)
    assert turns == [(9, True), (28, False)]


def test_a_sensor_rings_with_each_incident_until_it_flaps():
    _, partition = flappings(TWO_SIDED, *[HIGH, LOW] * 6)
    rings = [event.at for event in partition.events if not event.silent]
    assert rings == [2_000, 4_000, 6_000, 8_000, 10_000]
    assert {event.event_type for event in partition.events if not event.silent} == {"warning"}
    assert len(partition.events) == 13


def test_flapping_belongs_to_the_incident_in_which_it_begins_which_rings_once():
    rules = make(threshold("greater_than", 80.0, clear_after=16))
    turns, partition = flappings(rules, *[HIGH, LOW] * 5, *[LOW] * 20)
    assert turns == [(9, True), (24, False)]
    assert changes(partition) == [(2_000, N, W), (26_000, W, N)]
    assert [(event.at, event.silent) for event in partition.events] == [
        (2_000, False), (11_000, True), (26_000, True), (26_000, True)
    ]  # fmt: skip
    (incident,) = {event.incident_key for event in partition.events}
    assert incident == partition.events[0].event_key


def test_the_end_of_flapping_reports_the_present_level_and_rings_if_nothing_rang_for_it():
    """Its change to that level was silent."""
    _, partition = flappings(TWO_SIDED, *[HIGH, LOW] * 5, *[HIGH] * 20)
    (_, end) = (event for event in partition.events if event.event_code == "PATTERN_CHANGE")
    assert (end.status, end.event_type, end.silent) == ("resolved", "warning", True)
    critical = make(
        threshold("greater_than", 80.0, clear_after=1),
        threshold("greater_than", 95.0, clear_after=1, severity="critical"),
    )
    _, partition = flappings(critical, *[HIGH, LOW] * 5, *[99] * 20)
    (worse,) = (event for event in partition.events if event.event_code == "ML_BEHAVIOR_STATE"
                and event.event_type == "critical")  # fmt: skip
    (_, end) = (event for event in partition.events if event.event_code == "PATTERN_CHANGE")
    assert worse.silent
    assert (end.status, end.event_type, end.silent) == ("resolved", "critical", False)


def test_the_end_of_flapping_resolves_its_beginning():
    _, partition = flappings(TWO_SIDED, *[HIGH, LOW] * 5, *[LOW] * 20)
    begins, ends = (event for event in partition.events if event.event_code == "PATTERN_CHANGE")
    assert (begins.resolves, begins.status) == (None, "active")
    assert (ends.resolves, ends.status) == (begins.event_key, "resolved")
    assert json.loads(ends.payload)["duration_seconds"] == 15.0


def test_a_value_that_swings_between_reset_and_threshold_does_not_flap():
    stated = make(threshold("greater_than", 80.0, clear_after=1, reset_value_min=76.0))
    assert flappings(stated, *[81, 77] * 20)[0] == []
    # the mean of the values inside is 50 at first, and 54.8 in the end
    usual = [50.0] * 100
    assert flappings(TWO_SIDED, *usual, *[81, 79] * 20)[0] == []
    assert flappings(TWO_SIDED, *usual, *[81, 78] * 20)[0] == [(109, True)]


def test_a_long_clear_after_does_not_hide_flapping():
    rules = make(threshold("greater_than", 80.0, clear_after=1000))
    turns, partition = flappings(rules, *[HIGH, LOW] * 10)
    assert turns == [(9, True)]
    assert changes(partition) == [(2_000, N, W)]


# rules that change


def test_streaks_and_levels_continue_when_rules_change():
    before = make(threshold("greater_than", 80.0, consecutive_readings=3))
    after = make(
        threshold("greater_than", 80.0, consecutive_readings=3),
        threshold("less_than", 10.0, sensor_id=0),
        deltas=[{"sensor_id": 0, "abs_delta": 1.0}],
    )
    values = each_second(85, 85, 85, 85, 70, 70, 70, 70, 70)
    for change in range(1, 9):
        for restarts in (False, True):
            partition = Partition(rules=before).run(values[:change])
            if restarts:
                partition.restart()
            partition.rules = after
            partition.run(closed(values[change:]))
            assert changes(partition) == [(4_000, N, W), (10_000, W, N)]


def test_a_stricter_rule_counts_earlier_panes():
    partition = Partition(rules=make(threshold("greater_than", 80.0, consecutive_readings=5)))
    partition.run(each_second(85, 85, 85))
    partition.rules = make(threshold("greater_than", 80.0, consecutive_readings=2))
    partition.run(closed(each_second(85, start=4_000)))
    assert changes(partition) == [(3_000, N, W)]  # the next pane that closes


def test_a_sensor_whose_rules_were_deleted_recovers_after_their_clear_after():
    partition = Partition(rules=make(threshold("greater_than", 80.0, clear_after=3)))
    partition.run([*each_second(85), heartbeat(4_000)])
    partition.rules = NO_RULES
    partition.run(closed(each_second(85, 85, 85, start=5_000)))
    assert changes(partition) == [(2_000, N, W), (8_000, W, N)]
    assert partition.events[-1].event_code == "RECOVERED_ANOMALY"


def test_deleting_a_rule_deletes_its_streak():
    rules = make(threshold("greater_than", 80.0, consecutive_readings=3))
    partition = Partition(rules=rules).run([*each_second(85, 85), heartbeat(5_000)])
    partition.rules = NO_RULES
    partition.run(closed(each_second(85, start=6_000)))
    partition.rules = rules
    partition.run(closed(each_second(85, 85, start=10_000)))
    assert changes(partition) == []
    partition.run(closed(each_second(85, start=20_000)))
    assert changes(partition) == [(13_000, N, W)]  # the second of its two panes stood for a second


def test_flapping_survives_a_restart():
    partition = Partition(rules=TWO_SIDED).run(each_second(*[HIGH, LOW] * 6))
    state = laid_open(partition.engine.snapshot())
    partition.restart()
    assert laid_open(partition.engine.snapshot()) == state
    partition.run(closed(each_second(HIGH, start=13_000)))
    assert partition.events[-1].silent
