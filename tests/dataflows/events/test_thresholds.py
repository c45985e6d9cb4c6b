"""Bounds and reset bounds of thresholds, judged by every reading of a pane."""

import json
from itertools import permutations

import pytest

from tests.dataflows.events.test_levels import changes, levels, make, threshold
from tests.dataflows.streams import HELD_MS, Partition, closed, each_second, heartbeat

N, W, C = "NORMAL", "WARN", "CRITICAL"


def raised_payload(rules, *values):
    """The payload of the last event that raised a level."""
    partition = Partition(rules=rules).run(closed(each_second(*values)))
    events = [event for event in partition.events if event.event_code == "ML_BEHAVIOR_STATE"]
    return json.loads(events[-1].payload)


def in_one_pane(*values, start=1_000, number=0):
    """A record with these readings, spread over a second."""
    step = 1_000 // len(values)
    return (start, 1, f"{start} {number}", [(1, start + step * n, v) for n, v in enumerate(values)])


# where the sensor usually is


@pytest.mark.parametrize(
    ("row", "usual", "beyond", "reset"),
    [
        # one bound: 5 % of the way to the usual value
        (threshold("greater_than", 80.0), 79.0, 81.0, 79.95),
        (threshold("greater_than", 80.0), 79.99, 80.5, 79.9995),
        (threshold("greater_than", 80.0), 20.0, 81.0, 77.0),
        (threshold("greater_than", 80.0), -120.0, 81.0, 70.0),
        (threshold("greater_than", 0.0), -2.0, 0.5, -0.1),
        (threshold("less_than", 10.0), 10.5, 9.0, 10.025),
        (threshold("less_than", 10.0), 110.0, 9.0, 15.0),
        (threshold("less_than", -10.0), -9.0, -11.0, -9.95),
        (threshold("out_of_range", None, 80.0), 79.0, 81.0, 79.95),
        (threshold("out_of_range", 10.0), 10.5, 9.0, 10.025),
        # two bounds: 5 % of their span
        (threshold("out_of_range", 10.0, 30.0), 20.0, 31.0, 29.0),
        (threshold("out_of_range", 10.0, 30.0), 28.9, 31.0, 29.0),
        (threshold("out_of_range", 10.0, 30.0), 11.1, 9.0, 11.0),
        # unless the sensor usually is between a bound and that
        (threshold("out_of_range", 10.0, 30.0), 29.5, 31.0, 29.975),
        (threshold("out_of_range", 10.0, 30.0), 10.2, 9.0, 10.01),
        (threshold("out_of_range", 10.0, 30.0), 29.5, 9.0, 11.0),
        # or unless the row says where
        (threshold("greater_than", 80.0, reset_value_min=60.0), 79.0, 81.0, 60.0),
        (threshold("out_of_range", 10, 30, reset_value_max=25.0), 29.5, 31.0, 25.0),
    ],
)
def test_a_level_clears_inside_a_reset_bound_that_depends_on_where_the_sensor_usually_is(
    row, usual, beyond, reset
):
    rules = make(row | {"clear_after": 1})
    before = [usual] * 20
    inside = 1e-4 if reset < beyond else -1e-4
    assert levels(rules, *before, beyond, reset + inside)[-2:] == [W, W]
    assert levels(rules, *before, beyond, reset - inside)[-2:] == [W, N]
    payload = raised_payload(rules, *before, beyond)
    stated = {payload.get("reset_value_min"), payload.get("reset_value_max")} - {None}
    assert any(value == pytest.approx(reset, abs=1e-9) for value in stated)


@pytest.mark.parametrize(
    ("row", "usual", "beyond"),
    [
        (threshold("greater_than", 80.0), 79.0, 81.0),
        (threshold("less_than", 10.0), 10.2, 9.0),
        (threshold("out_of_range", 10.0, 30.0), 29.8, 31.0),
        (threshold("out_of_range", 10.0, 30.0), 10.1, 9.0),
        (threshold("out_of_range", None, 80.0), 79.9, 81.0),
    ],
)
def test_a_sensor_that_usually_is_near_a_bound_recovers_where_it_usually_is(row, usual, beyond):
    assert levels(make(row), *[usual] * 20, beyond, *[usual] * 6)[-6:] == [W, W, W, W, N, N]


@pytest.mark.parametrize("learned", range(7, 13))
def test_the_usual_value_is_known_after_ten_panes(learned):
    rules = make(threshold("greater_than", 80.0, clear_after=1))
    found = levels(rules, *[79.0] * learned, 81.0, 79.5)[-1]
    assert found == (N if learned >= 10 else W)
    assert raised_payload(rules, *[79.0] * learned, 81.0)["reset_value_min"] == pytest.approx(
        79.95 if learned >= 10 else 76.0
    )


def test_panes_beyond_a_bound_do_not_count_as_usual():
    rules = make(threshold("greater_than", 80.0), threshold("less_than", -80.0))
    values = [*[20.0] * 10, *[200.0] * 50, *[-500.0] * 50, *[20.0] * 10, 81.0]
    assert raised_payload(rules, *values)["reset_value_min"] == pytest.approx(77.0)


def test_the_usual_value_is_a_mean_of_the_panes_so_far():
    rules = make(threshold("greater_than", 80.0))
    values = [*[10.0] * 10, *[40.0] * 20]
    usual = 30.0
    assert raised_payload(rules, *values, 81.0)["reset_value_min"] == pytest.approx(
        80 - 0.05 * (80 - usual)
    )


def test_the_usual_value_follows_the_sensor_over_a_thousand_panes():
    rules = make(threshold("greater_than", 80.0))
    values = [*[10.0] * 1_500, *[40.0] * 1_000]
    usual = 40.0 - 30.0 * 0.999**1_000
    assert raised_payload(rules, *values, 81.0)["reset_value_min"] == pytest.approx(
        80 - 0.05 * (80 - usual)
    )


def test_each_sensor_has_its_own_usual_value():
    rules = make(threshold("greater_than", 80.0), threshold("greater_than", 80.0, sensor_id=2))
    records = [
        (1_000 * n, 1, str(n), [(1, 1_000 * n, 79.0), (2, 1_000 * n, 20.0)]) for n in range(1, 21)
    ]
    last = (21_000, 1, "last", [(1, 21_000, 81.0), (2, 21_000, 81.0)])
    events = Partition(rules=rules).run(closed([*records, last])).events
    assert [json.loads(event.payload)["reset_value_min"] for event in events] == [
        pytest.approx(79.95), pytest.approx(77.0)
    ]  # fmt: skip


@pytest.mark.parametrize("cut", [5, 10, 15, 21, 22])
@pytest.mark.parametrize("restarts", [False, True])
def test_the_usual_value_survives_cuts_and_restarts(cut, restarts):
    rules = make(threshold("greater_than", 80.0, clear_after=1))
    values = [*[79.0] * 20, 81.0, 79.5, 81.0, 79.5]
    found = levels(rules, *values, cuts=[cut], restarts=restarts)
    assert found == levels(rules, *values) == [*[N] * 20, W, N, W, N]


def test_late_readings_have_a_usual_value_of_their_own():
    """It is unknown until ten late panes, and is forgotten with them."""
    rules = make(threshold("greater_than", 80.0, clear_after=1))
    steady = each_second(*[20.0] * 120, start=1_000_000)

    def late(*values):
        readings = [(1, 900_000 + 1_000 * n, value) for n, value in enumerate(values)]
        record = (1_100_500, 1, "late", readings)
        records = sorted([*steady, record], key=lambda record: record[0])
        return changes(Partition(rules=rules).run(closed(records)))

    assert late(81.0, 79.5, 20.0, 20.0) == [(901_000, N, W), (903_000, W, N)]
    known = [79.0] * 10
    assert late(*known, 81.0, 79.5, 20.0) == [(911_000, N, W), (912_000, W, N)]


# a value to watch for


@pytest.mark.parametrize("values", list(permutations([3.0, 7.0, 11.0])))
def test_equal_to_is_met_if_any_reading_of_a_pane_is_equal(values):
    rules = make(threshold("equal_to", 7.0))
    assert changes(Partition(rules=rules).run(closed([in_one_pane(*values)], HELD_MS))) == [
        (2_000, N, W)
    ]


@pytest.mark.parametrize("values", [[6.0, 8.0], [7.00001, 6.99999], [14.0, 0.0], [7.1]])
def test_equal_to_is_not_met_if_only_the_mean_is_equal(values):
    rules = make(threshold("equal_to", 7.0))
    assert changes(Partition(rules=rules).run(closed([in_one_pane(*values)], HELD_MS))) == []


@pytest.mark.parametrize(
    ("watched", "value", "met"),
    [
        (0.1, 0.1, True),
        (0.1, 0.100004, True),
        (0.1, 0.099996, True),
        (0.1, 0.10001, False),
        (0.0, -0.0, True),
        (0.0, 4e-6, True),
        (0.0, -1e-5, False),
        (1e15, 1e15, True),
        (-3.0, 3.0, False),
    ],
)
@pytest.mark.parametrize("others", [(), (500.0,), (-500.0, 500.0)])
def test_values_are_equal_if_they_are_stored_alike(watched, value, met, others):
    rules = make(threshold("equal_to", watched))
    records = closed([in_one_pane(*others, value)], HELD_MS)
    assert bool(changes(Partition(rules=rules).run(records))) == met


def test_equal_to_clears_when_no_reading_is_equal():
    rules = make(threshold("equal_to", 7.0, clear_after=2))
    seconds = [(7.0,), (1.0, 7.0), (7.0, 1.0), (1.0, 2.0), (1.0, 7.0, 2.0), (1.0,), (2.0, 3.0)]
    records = [in_one_pane(*values, start=1_000 * n) for n, values in enumerate(seconds, 1)]
    partition = Partition(rules=rules).run([*records, heartbeat(90_000)])
    assert changes(partition) == [(2_000, N, W), (8_000, W, N)]


def test_equal_to_finds_the_panes_of_each_sensor():
    rules = make(*(threshold("equal_to", float(n), sensor_id=n) for n in (1, 2, 3)))
    records = [
        (1_000 * n, 1, str(n), [(s, 1_000 * n + 10 * i, float((s + n + i) % 4)) for s in (3, 1, 2)
                                for i in range(1 + (s + n) % 3)])
        for n in range(1, 9)
    ]  # fmt: skip
    partition = Partition(rules=rules).run(closed(records, HELD_MS))
    for sensor in (1, 2, 3):
        met = [n for n, (*_, readings) in enumerate(records, 1)
               if any(s == sensor and v == sensor for s, _, v in readings)]  # fmt: skip
        assert changes(partition, sensor)[0] == (1_000 * met[0] + 1_000, N, W)


# breaches that are shorter than a second


@pytest.mark.parametrize("phase", range(0, 1_000, 100))
@pytest.mark.parametrize(
    ("hertz", "lasts"), [(5, 200), (5, 800), (10, 100), (10, 300), (10, 900), (50, 40)]
)
@pytest.mark.parametrize("condition", ["greater_than", "equal_to"])
def test_a_breach_shorter_than_a_second_is_one_event(hertz, lasts, phase, condition):
    """Whether it lies in one pane or in two."""
    rules = make(threshold(condition, 0.5 if condition == "greater_than" else 1.0))
    begin = 20_000 + phase
    step = 1_000 // hertz
    times = range(1_000, 40_000, step)
    beyond = [ts for ts in times if begin <= ts < begin + lasts]
    assert beyond
    records = [(ts, 1, str(ts), [(1, ts, 1.0 if ts in beyond else 0.0)]) for ts in times]
    first, last = (ts // 1_000 * 1_000 + 1_000 for ts in (beyond[0], beyond[-1]))
    partition = Partition(rules=rules).run(closed(records, HELD_MS))
    assert changes(partition) == [(first, N, W), (last + 5_000, W, N)]


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_spike_that_its_mean_hides_is_told_with_its_own_value(side):
    rules = make(threshold("out_of_range", -50.0, 50.0, severity="critical", forecast_after=0))
    record = in_one_pane(0.0, 0.0, side * 70.0, side * -40.0, 0.0)
    (event,) = Partition(rules=rules).run(closed([record], HELD_MS)).events
    assert (event.event_type, event.value) == ("critical", side * 70.0)
    details = json.loads(event.payload)
    assert (details["mean"], details["count"]) == (side * 6.0, 5)
    assert {details["min"], details["max"]} == {side * 70.0, side * -40.0}
    assert ("above" if side > 0 else "below") in event.message


def test_a_pane_beyond_both_bounds_is_one_event():
    rules = make(threshold("out_of_range", 10.0, 30.0))
    record = in_one_pane(5.0, 20.0, 35.0)
    assert changes(Partition(rules=rules).run(closed([record], HELD_MS))) == [(2_000, N, W)]
