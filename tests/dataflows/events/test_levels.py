import json

import numpy as np
import pytest

from contract.table import Table, single
from rules.columns import Rules
from rules.detector import Findings
from rules.tables import make_rules
from tests.dataflows.streams import NO_RULES, Partition, closed, each_second, heartbeat, laid_open

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
    """The level after each value, one a second, as the events tell it."""
    found = Partition(rules=rules, detector=detector)
    found.run(closed(each_second(*values)), cuts, restarts=restarts)
    level, sequence, told = N, [], {at: (a, b) for at, a, b in changes(found)}
    for end in (row[2] for row in found.windows if row[1] == "w1"):
        before, after = told.pop(end, (level, level))
        assert before == level
        level = after
        sequence.append(level)
    assert not told
    return sequence


def payloads(rules, *values, code, detector=None):
    found = Partition(rules=rules, detector=detector).run(closed(each_second(*values)))
    return [json.loads(event.payload) for event in found.events if event.event_code == code]


ABOVE_80_AND_90 = make(
    threshold("greater_than", 80.0), threshold("greater_than", 90.0, severity="critical")
)


def test_a_level_is_raised_by_the_first_pane_beyond_and_lowered_after_five_inside():
    assert levels(ABOVE_80_AND_90, 70, 81, *[70] * 6) == [N, *[W] * 5, N, N]


def test_a_value_between_reset_and_threshold_keeps_the_level():
    assert levels(ABOVE_80_AND_90, 81, *[77] * 9) == [W] * 10
    assert levels(ABOVE_80_AND_90, 81, *[75.9] * 5)[-1] == N


def test_quiet_panes_have_to_be_in_a_row():
    assert levels(ABOVE_80_AND_90, 81, 70, 70, 70, 70, 81, 70, 70, 70, 70) == [W] * 10
    assert levels(ABOVE_80_AND_90, 81, 70, 70, 70, 70, 77, 70, 70, 70, 70) == [W] * 10


def test_critical_may_fall_to_warn():
    assert levels(ABOVE_80_AND_90, 95, *[82] * 5, *[70] * 5) == [*[C] * 5, *[W] * 5, N]


def test_critical_falls_to_what_the_last_quiet_pane_asks_for():
    assert levels(ABOVE_80_AND_90, 95, 82, 82, 82, 82, 70) == [*[C] * 5, N]
    assert levels(ABOVE_80_AND_90, 95, 70, 70, 70, 70, 82) == [*[C] * 5, W]


def test_warn_holds_below_its_threshold_when_critical_asks_for_less_only_once_it_let_go():
    # 84 lets go of critical (reset 85.5); 77 does not let go of warning, but nothing asks for it
    assert levels(ABOVE_80_AND_90, 95, *[77] * 5) == [*[C] * 5, N]


def test_a_threshold_itself_is_still_normal():
    assert levels(ABOVE_80_AND_90, 80.0, 80.00001) == [N, W]


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("cut", range(1, 14))
def test_levels_do_not_depend_on_the_cut(cut, restarts):
    means = (95, 82, 82, 70, 82, 70, 70, 70, 70, 70, 81, 95)
    found = levels(ABOVE_80_AND_90, *means, cuts=[cut], restarts=restarts)
    assert found == levels(ABOVE_80_AND_90, *means)


@pytest.mark.parametrize(
    ("row", "normal", "beyond"),
    [
        (threshold("less_than", 10.0), [10.0, 11], [9.9]),
        (threshold("greater_than", 10.0), [10.0, 9], [10.1]),
        (threshold("equal_to", 10.0), [9.9, 10.1], [10.0]),
        (threshold("out_of_range", 10.0, 20.0), [10.0, 15, 20], [9.9, 20.1]),
    ],
)
def test_conditions_mean_what_the_old_system_meant(row, normal, beyond):
    rules = make(row)
    assert [levels(rules, value)[0] for value in normal] == [N] * len(normal)
    assert [levels(rules, value)[0] for value in beyond] == [W] * len(beyond)


@pytest.mark.parametrize(
    ("row", "beyond", "holds", "lets_go"),
    [
        (threshold("greater_than", 80.0), 81, 76.001, 76.0),
        (threshold("less_than", 80.0), 79, 83.999, 84.0),
        (threshold("less_than", -80.0), -81, -76.001, -76.0),
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
def test_a_level_ends_only_inside_the_reset_bounds_which_are_five_percent_by_default(
    row, beyond, holds, lets_go
):
    rules = make(row | {"clear_after": 1})
    assert levels(rules, beyond, holds, holds) == [W, W, W]
    assert levels(rules, beyond, lets_go) == [W, N]


def test_kapacitors_published_sequence_of_levels():
    # influxdata/kapacitor, alert node: warn above 70, critical above 80, resets 60 and 70
    rules = make(
        threshold("greater_than", 70.0, reset_value_min=60.0, clear_after=1),
        threshold("greater_than", 80.0, severity="critical", reset_value_min=70.0, clear_after=1),
    )
    assert levels(rules, 61, 73, 64, 85, 62, 56, 47) == [N, W, W, C, N, N, N]


def test_with_raise_after_a_condition_has_to_hold_in_as_many_panes_as_with_for_in_prometheus():
    rules = make(threshold("greater_than", 80.0, consecutive_readings=3))
    assert levels(rules, 81, 81, 70, 81, 81, 70) == [N] * 6
    assert levels(rules, 81, 81, 81, 70) == [N, N, W, W]
    assert levels(rules, 81, 81, 77, 81, 81) == [N] * 5  # between reset and threshold is a break


def test_panes_are_in_a_row_however_long_nothing_came_between_them():
    rules = make(threshold("greater_than", 80.0, consecutive_readings=3))
    records = [*each_second(81, 81), *each_second(81, start=600_000)]
    found = Partition(rules=rules).run(closed(records))
    assert changes(found) == [(601_000, N, W)]


def test_a_level_keeps_firing_until_as_many_quiet_panes_in_a_row_as_clear_after():
    rules = make(threshold("greater_than", 80.0, clear_after=3))
    assert levels(rules, 81, 70, 70, 70) == [W, W, W, N]
    assert levels(rules, 81, 70, 70, 81, 70, 70, 70) == [W] * 6 + [N]


def test_quiet_panes_count_from_a_new_change_of_level():
    rules = make(
        threshold("greater_than", 80.0, clear_after=3),
        threshold("greater_than", 90.0, severity="critical", clear_after=2),
    )
    assert levels(rules, 81, 70, 70, 95, 70, 82, 70, 70, 70) == [W, W, W, C, C, W, W, W, N]


def test_the_rule_that_asked_first_by_id_is_named_and_says_how_many_quiet_panes_end_its_level():
    rules = make(
        threshold("greater_than", 80.0, id=8, clear_after=1),
        threshold("greater_than", 80.0, id=4, clear_after=3),
        deltas=[{"sensor_id": 1, "abs_delta": 5.0, "min_readings": 0, "clear_after": 2}],
    )
    assert levels(rules, 70, 85, 70, 70, 70, 70) == [N, W, W, W, W, N]  # 85 to 70 is a delta too
    (payload,) = payloads(rules, 70, 85, code="ML_BEHAVIOR_STATE")
    assert payload["threshold_id"] == 4


def test_profiles_ask_for_both_levels():
    rules = make(
        profiles=[
            {"sensor_id": 1, "warning_min": 10.0, "warning_max": 20.0, "alert_max": 30.0},
            {"sensor_id": 2, "alert_min": 5.0},
        ]
    )
    assert levels(rules, 15, 21, 31, 9) == [N, W, C, C]
    found = Partition(rules=rules).run(closed(each_second(6, 4, sensor=2)))
    assert changes(found, 2) == [(3_000, N, C)]


def test_sensors_do_not_touch_each_other():
    rules = make(*(threshold("greater_than", 80.0, sensor_id=n) for n in (1, 2, 3)))
    readings = [(9, 70.0), (1, 70.0), (2, 99.0), (3, 70.0)], [(3, 90.0), (2, 95.0), (9, 90.0)]
    records = [
        (at, 1, str(at), [(sensor, at, value) for sensor, value in some])
        for at, some in zip((1_000, 2_000), readings, strict=True)
    ]
    found = Partition(rules=rules).run(closed(records))
    assert [(event.sensor_id, event.at) for event in found.events] == [(2, 2_000), (3, 3_000)]
    ids = [json.loads(event.payload)["threshold_id"] for event in found.events]
    assert ids == [2, 3]


def test_the_mean_of_a_pane_is_what_counts():
    record = (1_000, 1, "a", [(1, 1_000, 200.0), (1, 1_100, -60.0), (1, 1_200, 91.0)])
    assert changes(Partition(rules=ABOVE_80_AND_90).run(closed([record]))) == []


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
def test_a_delta_asks_where_two_panes_in_a_row_differ_by_one_of_its_bounds(bound, reached, missed):
    rules = delta(min_readings=0, **bound)
    assert levels(rules, *reached)[-1] == W
    assert levels(rules, *missed)[-1] == N


def test_a_delta_waits_for_enough_readings_in_panes_before():
    rules = delta(abs_delta=5.0)
    assert levels(rules, 1, 9, 1, 9, 1) == [N] * 5
    assert levels(rules, 1, 9, 1, 9, 1, 9) == [*[N] * 5, W]
    several = (1_000, 1, "a", [(1, 1_000 + n, 1.0) for n in range(5)])
    found = Partition(rules=rules).run(closed([several, *each_second(9, start=2_000)]))
    assert changes(found) == [(3_000, N, W)]


def test_a_delta_needs_a_pane_before_whatever_its_least_number_of_readings():
    assert levels(delta(abs_delta=5.0, min_readings=0), 1_000.0) == [N]


@pytest.mark.parametrize("cut", range(1, 9))
def test_readings_before_a_delta_are_counted_over_cuts_and_restarts(cut):
    rules = delta(abs_delta=5.0)
    found = levels(rules, *[1] * 5, 9, 9, cuts=[cut], restarts=True)
    assert found == [*[N] * 5, W, W]


def test_a_delta_asks_for_its_own_level_and_ends_after_five_quiet_panes():
    rules = delta(abs_delta=5.0, min_readings=0, severity="critical")
    assert levels(rules, 1, 9, *[9] * 5) == [N, *[C] * 5, N]
    rules = delta(abs_delta=5.0, min_readings=0, raise_after=2, clear_after=1)
    assert levels(rules, 1, 9, 1, 1) == [N, N, W, N]


# forecasts

ABOVE_100 = make(threshold("greater_than", 100.0, severity="critical", forecast_after=None))


def test_a_ramp_that_leads_to_a_critical_bound_within_a_minute_is_told_at_the_third_pane():
    ramp = [36.5 + n for n in range(8)]  # a unit a second: 100 is near from 40 on
    assert levels(ABOVE_100, *ramp) == [*[N] * 6, W, W]
    (payload,) = payloads(ABOVE_100, *ramp, code="PRED_THRESHOLD_BREACH")
    assert payload["seconds_to_reach"] == 57.5
    assert payload["trend"] == pytest.approx(1.0)
    assert payload["predicted_value"] == 100.0
    assert payload["raise_after"] == 3


def test_a_ramp_away_from_the_bound_or_a_level_signal_near_it_is_no_forecast():
    assert levels(ABOVE_100, *range(99, 79, -1)) == [N] * 20
    assert levels(ABOVE_100, *[99.9] * 20) == [N] * 20


def test_a_fall_leads_to_a_lower_bound():
    rules = make(threshold("out_of_range", 0, 100, severity="critical", forecast_after=1))
    ramp = [64.5 - n for n in range(6)]
    assert levels(rules, *ramp) == [*[N] * 5, W]
    (payload,) = payloads(rules, *ramp, code="PRED_THRESHOLD_BREACH")
    assert (payload["predicted_value"], payload["seconds_to_reach"]) == (0.0, 59.5)


def test_a_forecast_becomes_what_it_foresaw():
    rules = make(threshold("greater_than", 100.0, severity="critical", forecast_after=1))
    found = Partition(rules=rules).run(closed(each_second(75, 80, 85, 90, 95, 101)))
    soon, there = found.events
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
def test_only_critical_bounds_are_foreseen_and_only_if_wanted(row):
    assert levels(make(row), *range(50, 99)) == [N] * 49


def test_a_forecast_ends_with_the_quiet_panes_of_its_threshold():
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
        [50.0] * 9 + [95.0] * 12,  # has stopped
        [95.0, 80.0, 99.0] * 8,  # noise
        [60, 70, 80, 90, 80, 70, 60, 50],  # has turned
    ],
)
def test_what_has_stopped_or_turned_and_noise_lead_to_no_forecast(values):
    assert levels(SOON, *values) == [N] * len(values)


# a detector


class Above100(Table):
    """Finds values above 100 unlike the rest, once it has seen three of the sensor's."""

    seen = single({})

    def __init__(self):
        super().__init__()
        self.tables = {"above_100": self}

    def use(self, deep, bounds):
        pass

    def step(self, sensor_id, end, mean):
        found = np.zeros(len(mean), np.int8)
        for index, (sensor, value) in enumerate(zip(sensor_id.tolist(), mean, strict=True)):
            if self.seen.get(sensor, 0) >= 3:
                found[index] = int(value > 100) + int(value > 200)
            self.seen = self.seen | {sensor: self.seen.get(sensor, 0) + 1}
        count = len(mean)
        return Findings(
            level=found,
            usual=np.full(count, 50.0),
            score=np.full(count, 6.5),
            bound=np.array([[4.0], [5.0]]).repeat(count, axis=1),
            view=np.ones(count, np.int8),
        )


def test_a_detector_is_believed_at_the_third_pane_in_a_row():
    found = levels(NO_RULES, 1, 150, 1, 150, 150, 150, 150, detector=Above100)
    assert found == [N, N, N, N, N, W, W]
    assert levels(NO_RULES, 1, 1, 1, 150, 150, 1, 150, 150, detector=Above100) == [N] * 8
    found = levels(NO_RULES, 1, 1, 1, 150, 250, 250, 250, detector=Above100)
    assert found == [N, N, N, N, N, W, C]


def test_what_a_detector_finds_holds_a_level_and_lets_go_after_five_panes():
    rules = make(threshold("greater_than", 300.0, clear_after=1))
    found = levels(rules, 1, 1, 301, 150, 150, 1, detector=Above100)
    assert found == [N, N, W, W, W, N]
    found = levels(NO_RULES, 1, 1, 1, *[150] * 3, *[1] * 5, detector=Above100)
    assert found == [*[N] * 5, *[W] * 5, N]


def test_what_a_detector_asked_for_is_a_transient_anomaly():
    (payload,) = payloads(
        NO_RULES, *[1] * 3, *[150] * 4, code="TRANSIENT_ANOMALY", detector=Above100
    )
    assert (payload["from"], payload["to"], payload["mean"]) == (N, W, 150.0)


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_detector_and_its_streaks_live_through_restarts(cut):
    found = levels(
        NO_RULES, *[1] * 3, *[150] * 4, cuts=[cut], restarts=True, detector=Above100
    )  # fmt: skip
    assert found == [N, N, N, N, N, W, W]


# flapping

TWO_SIDED = make(threshold("greater_than", 80.0, clear_after=1))
HIGH, LOW = 90, 50


def flappings(rules, *values, **how):
    """(index of the value, whether it begins) of each event of flapping, and the found."""
    found = Partition(rules=rules).run(closed(each_second(*values)), **how)
    events = [event for event in found.events if event.event_code == "PATTERN_CHANGE"]
    turns = [(event.at // 1000 - 2, event.status == "active") for event in events]
    return turns, found


@pytest.mark.parametrize("cuts", [(), (5, 10, 11, 25), range(40)])
def test_a_sensor_flaps_from_the_tenth_change_in_a_row_until_fifteen_panes_without(cuts):
    # weights 118, 116, .. of the newest ten steps are 1090 of 2000; nine are 990
    turns, _ = flappings(TWO_SIDED, *[HIGH, LOW] * 5, *[LOW] * 20, cuts=cuts, restarts=True)
    assert turns == [(9, True), (24, False)]
    turns, _ = flappings(TWO_SIDED, *[HIGH, LOW] * 4, *[HIGH] * 20)
    assert turns == []


def test_flapping_begins_above_a_half_and_not_at_it():
    # nine changes, five panes without and a change: 118 + 106 + .. + 90 = 1000 of 2000
    values = [*[HIGH, LOW] * 4, HIGH, *[HIGH] * 5, LOW]
    assert flappings(TWO_SIDED, *values)[0] == []
    assert flappings(TWO_SIDED, *values, HIGH)[0] == [(15, True)]


def test_flapping_ends_below_a_quarter_and_not_at_it():
    # after ten changes, changes 14, 15 and 17 panes later: 116 + 112 + 110 + 82 + 80 = 500 of
    # 2000 one pane on, and 472 - 60 with the next
    values = [*[HIGH, LOW] * 5, *[LOW] * 13, HIGH, LOW, LOW, HIGH, HIGH, HIGH]
    turns, _ = flappings(TWO_SIDED, *values)
    assert turns == [(9, True), (28, False)]


def test_while_a_sensor_flaps_its_changes_are_silent_and_its_flapping_is_not():
    _, found = flappings(TWO_SIDED, *[HIGH, LOW] * 6)
    begins = 11_000
    for event in found.events:
        flapping = event.event_code == "PATTERN_CHANGE"
        assert event.silent == (event.at >= begins and not flapping)
    assert len(found.events) == 13


def test_a_change_in_the_pane_with_which_flapping_ends_is_told_aloud():
    rules = make(threshold("greater_than", 80.0, clear_after=16))
    turns, found = flappings(rules, *[HIGH, LOW] * 5, *[LOW] * 20)
    assert turns == [(9, True), (24, False)]
    assert changes(found) == [(2_000, N, W), (26_000, W, N)]
    assert not any(event.silent for event in found.events)


def test_the_end_of_flapping_tells_the_level_that_the_sensor_is_left_at():
    """Which may be one of which nobody was notified meanwhile."""
    _, found = flappings(TWO_SIDED, *[HIGH, LOW] * 5, *[HIGH] * 20)
    (_, end) = (one for one in found.events if one.event_code == "PATTERN_CHANGE")
    assert (end.status, end.event_type, end.silent) == ("resolved", "warning", False)


def test_the_end_of_flapping_resolves_its_beginning():
    _, found = flappings(TWO_SIDED, *[HIGH, LOW] * 5, *[LOW] * 20)
    begins, ends = (event for event in found.events if event.event_code == "PATTERN_CHANGE")
    assert (begins.resolves, begins.status) == (None, "active")
    assert (ends.resolves, ends.status) == (begins.event_key, "resolved")
    assert json.loads(ends.payload)["duration_seconds"] == 15.0


def test_a_value_that_swings_between_reset_and_threshold_does_not_flap():
    assert flappings(TWO_SIDED, *[81, 77] * 20)[0] == []


def test_a_level_that_a_long_clear_after_keeps_flaps_all_the_same():
    rules = make(threshold("greater_than", 80.0, clear_after=1000))
    turns, found = flappings(rules, *[HIGH, LOW] * 10)
    assert turns == [(9, True)]
    assert changes(found) == [(2_000, N, W)]


# rules that change


def test_streaks_and_levels_go_on_when_rules_change():
    before = make(threshold("greater_than", 80.0, consecutive_readings=3))
    after = make(
        threshold("greater_than", 80.0, consecutive_readings=3),
        threshold("less_than", 10.0, sensor_id=0),
        deltas=[{"sensor_id": 0, "abs_delta": 1.0}],
    )
    values = each_second(85, 85, 85, 85, 70, 70, 70, 70, 70)
    for change in range(1, 9):
        for restarts in (False, True):
            found = Partition(rules=before).run(values[:change])
            if restarts:
                found.restart()
            found.rules = after
            found.run(closed(values[change:]))
            assert changes(found) == [(4_000, N, W), (10_000, W, N)]


def test_a_rule_that_was_made_stricter_counts_the_panes_before():
    found = Partition(rules=make(threshold("greater_than", 80.0, consecutive_readings=5)))
    found.run(each_second(85, 85, 85))
    found.rules = make(threshold("greater_than", 80.0, consecutive_readings=2))
    found.run(closed(each_second(85, start=4_000)))
    assert changes(found) == [(3_000, N, W)]  # the next pane that closes


def test_a_sensor_whose_rules_were_taken_away_recovers_after_as_many_panes_as_they_said():
    found = Partition(rules=make(threshold("greater_than", 80.0, clear_after=3)))
    found.run([*each_second(85), heartbeat(4_000)])
    found.rules = NO_RULES
    found.run(closed(each_second(85, 85, 85, start=5_000)))
    assert changes(found) == [(2_000, N, W), (8_000, W, N)]
    assert found.events[-1].event_code == "RECOVERED_ANOMALY"


def test_a_streak_is_a_rules_own_and_dies_with_it():
    rules = make(threshold("greater_than", 80.0, consecutive_readings=3))
    found = Partition(rules=rules).run([*each_second(85, 85), heartbeat(5_000)])
    found.rules = NO_RULES
    found.run(closed(each_second(85, start=6_000)))
    found.rules = rules
    found.run(closed(each_second(85, 85, start=10_000)))
    assert changes(found) == []
    found.run(closed(each_second(85, start=20_000)))
    assert changes(found) == [(21_000, N, W)]


def test_flapping_lives_through_a_restart():
    found = Partition(rules=TWO_SIDED).run(each_second(*[HIGH, LOW] * 6))
    state = laid_open(found.engine.snapshot())
    found.restart()
    assert laid_open(found.engine.snapshot()) == state
    found.run(closed(each_second(HIGH, start=13_000)))
    assert found.events[-1].silent
