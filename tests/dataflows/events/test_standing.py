"""Sensors that report seldom, or only when their value changes: the last value stands."""

import json

import pytest

from tests.dataflows.events.test_levels import Above100, changes, delta, make, threshold
from tests.dataflows.streams import NO_RULES, Partition, each_second, heartbeat, laid_open

N, W, C = "NORMAL", "WARN", "CRITICAL"
HOUR = 3_600_000
FAR = 10**9


def reports(*readings, sensor=1):
    """One record for each reading (second, value), when it was measured."""
    return [
        (round(1000 * at), 1, f"{sensor} {at}", [(sensor, round(1000 * at), float(value))])
        for at, value in readings
    ]


def above(**row):
    return make(threshold("greater_than", 80.0, **row))


def outcome(rules, records, *beats, **how):
    """(at, from, to) in seconds of each change of level; `beats` are heartbeats in seconds."""
    beating = [heartbeat(round(1000 * beat)) for beat in beats]
    partition = Partition(rules=rules, detector=how.pop("detector", None))
    ordered = sorted([*records, *beating], key=lambda record: record[0])
    return [(at / 1000, a, b) for at, a, b in changes(partition.run(ordered, **how))]


# raising


def test_a_value_beyond_a_bound_raises_at_once():
    assert outcome(above(), reports((1, 20), (600, 85)), 603) == [(601, N, W)]


@pytest.mark.parametrize("needed", [2, 3, 5, 60])
def test_a_value_that_stands_beyond_a_bound_raises_after_as_many_seconds_as_panes(needed):
    """It is known to have stood when the sensor has been silent for that long and the idle time."""
    rules = above(consecutive_readings=needed)
    records = reports((1, 20), (600, 85))
    due = 600 + needed
    known = 603 + needed - 1
    assert outcome(rules, records, 603, known - 0.001) == []
    assert outcome(rules, records, 603, known) == [(due, N, W)]
    assert outcome(rules, records, FAR) == [(due, N, W)]


@pytest.mark.parametrize("needed", [1, 2, 3, 5])
@pytest.mark.parametrize("after", [1, 2, 3, 4, 5, 10, 3600])
def test_a_value_that_returns_before_its_time_does_not_raise(needed, after):
    """The next reading ends the time for which the one before stood."""
    rules = above(consecutive_readings=needed, clear_after=100_00)
    found = outcome(rules, reports((600, 85), (600 + after, 20)), FAR)
    assert found == (
        [(600 + needed, N, W), (600 + after + 10_000, W, N)] if needed <= after else []
    )


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_panes_and_the_time_between_them_count_together(every):
    rules = above(consecutive_readings=6)
    records = reports(*((600 + every * n, 85) for n in range(8)))
    assert outcome(rules, records, FAR) == [(606, N, W)]
    broken = reports((600, 85), (603, 20), *((604 + every * n, 85) for n in range(8)))
    assert outcome(rules, broken, FAR) == [(610, N, W)]


def test_a_standing_value_raises_each_level_after_its_own_time():
    rules = make(
        threshold("greater_than", 80.0, consecutive_readings=2),
        threshold("greater_than", 90.0, severity="critical", consecutive_readings=5),
    )
    assert outcome(rules, reports((600, 95)), FAR) == [(602, N, W), (605, W, C)]
    assert outcome(rules, reports((600, 95), (604, 85)), FAR) == [(602, N, W)]
    assert outcome(rules, reports((600, 95), (605, 20)), FAR) == [
        (602, N, W), (605, W, C), (610, C, N)
    ]  # fmt: skip


def test_of_two_levels_that_are_due_at_the_same_time_the_higher_one_is_raised():
    rules = make(
        threshold("greater_than", 80.0, consecutive_readings=3),
        threshold("greater_than", 90.0, severity="critical", consecutive_readings=3),
    )
    assert outcome(rules, reports((600, 95)), FAR) == [(603, N, C)]


def test_of_several_rules_of_a_level_the_first_that_is_due_is_the_cause():
    rules = make(
        threshold("greater_than", 80.0, id=7, consecutive_readings=4, clear_after=2),
        threshold("greater_than", 70.0, id=8, consecutive_readings=3, clear_after=9),
    )
    partition = Partition(rules=rules).run([*reports((600, 85), (700, 20)), heartbeat(FAR)])
    raised, over = partition.events
    assert (raised.at, json.loads(raised.payload)["threshold_id"]) == (603_000, 8)
    assert over.at == 709_000


@pytest.mark.parametrize(
    "rules",
    [
        delta(abs_delta=5.0, min_readings=0, raise_after=3),
        make(threshold("greater_than", 200.0, severity="critical", forecast_after=20)),
    ],
)
def test_a_change_and_a_trend_do_not_stand(rules):
    ramp = [(600 + n, 60 + 10 * n) for n in range(8)]
    assert outcome(rules, reports((599, 0), ramp[0]), FAR) == []
    assert outcome(make(), reports(*ramp), FAR) == []
    assert outcome(rules, reports((595, 0), (596, 10), (700, 10)), FAR) == []


def test_a_finding_of_the_detector_does_not_stand():
    values = [(n, 1) for n in range(1, 10)]
    found = outcome(NO_RULES, reports(*values, (10, 150), (11, 150)), FAR, detector=Above100)
    assert found == []


# clearing


@pytest.mark.parametrize("clear_after", [1, 2, 5, 60])
def test_a_value_that_stands_inside_the_reset_bound_clears_after_that_time(clear_after):
    rules = above(clear_after=clear_after)
    records = reports((600, 85), (900, 20))
    due = 900 + clear_after
    known = 903 + clear_after - 1
    raised = (601, N, W)
    assert outcome(rules, records, 903, known - 0.001) == (
        [raised, (due, W, N)] if clear_after == 1 else [raised]
    )
    assert outcome(rules, records, 903, known) == [raised, (due, W, N)]
    assert outcome(rules, records, FAR) == [raised, (due, W, N)]


@pytest.mark.parametrize("stands", [80.0, 79.9, 76.001])
def test_a_value_that_stands_between_reset_and_threshold_keeps_the_level(stands):
    assert outcome(above(), reports((600, 85), (900, stands)), FAR) == [(601, N, W)]
    records = reports((600, 85), (900, stands), (9_000, 20))
    assert outcome(above(), records, FAR) == [(601, N, W), (9_005, W, N)]


def test_a_value_that_stands_beyond_the_bound_keeps_the_level_for_years():
    assert outcome(above(), reports((600, 85)), *range(1_000, 10**8, 10**7)) == [(601, N, W)]


@pytest.mark.parametrize("after", [1, 2, 4, 5, 6, 1000])
def test_a_reading_beyond_the_bound_restarts_the_time_that_clears(after):
    records = reports((600, 85), (900, 20), (900 + after, 85))
    found = outcome(above(), records, FAR)
    if after < 5:
        assert found == [(601, N, W)]
    else:
        assert found == [(601, N, W), (905, W, N), (901 + after, N, W)]


@pytest.mark.parametrize("every", [1, 2, 3, 4, 5, 100])
def test_quiet_panes_and_the_time_between_them_count_together(every):
    records = reports((600, 85), *((900 + every * n, 20) for n in range(9)))
    assert outcome(above(), records, FAR) == [(601, N, W), (905, W, N)]


def test_critical_falls_to_the_warning_that_stands_and_then_clears():
    rules = make(
        threshold("greater_than", 80.0), threshold("greater_than", 90.0, severity="critical")
    )
    assert outcome(rules, reports((600, 95), (700, 82), (800, 20)), FAR) == [
        (601, N, C), (705, C, W), (805, W, N)
    ]  # fmt: skip


def test_a_warning_that_is_due_first_is_what_critical_falls_to():
    rules = make(
        threshold("greater_than", 80.0, consecutive_readings=3),
        threshold("greater_than", 90.0, severity="critical"),
    )
    assert outcome(rules, reports((600, 95), (700, 82)), FAR) == [(601, N, C), (705, C, W)]
    slow = make(
        threshold("greater_than", 80.0, consecutive_readings=300),
        threshold("greater_than", 90.0, severity="critical"),
    )
    assert outcome(slow, reports((600, 95), (700, 82)), FAR) == [
        (601, N, C), (705, C, N), (900, N, W)
    ]  # fmt: skip


def test_the_level_of_a_detector_and_of_a_delta_clear_by_the_standing_value_too():
    values = [(n, 1) for n in range(1, 10)]
    jump = [(10 + n, 150) for n in range(3)]
    found = outcome(NO_RULES, reports(*values, *jump, (13, 1)), FAR, detector=Above100)
    assert found == [(13, N, W), (18, W, N)]
    rules = delta(abs_delta=5.0, min_readings=0, clear_after=3)
    assert outcome(rules, reports((1, 0), (600, 10), (700, 10)), FAR) == [
        (601, N, W), (703, W, N)
    ]  # fmt: skip


# when it is known


@pytest.mark.parametrize("beats", [[], [605, 606, 607], [*range(601, 1_000)]])
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("cuts", [(), range(1_000), range(0, 1_000, 3)])
def test_neither_heartbeats_nor_cuts_change_what_a_standing_value_leads_to(beats, cuts, restarts):
    rules = make(
        threshold("greater_than", 80.0, consecutive_readings=3),
        threshold("greater_than", 90.0, severity="critical", consecutive_readings=8),
    )
    records = reports((1, 20), (600, 95), (700, 82), (703, 20), (704, 85), (950, 20))
    found = outcome(rules, records, *beats, FAR, cuts=cuts, restarts=restarts)
    assert found == [
        (603, N, W), (608, W, C), (705, C, N), (707, N, W), (955, W, N)
    ]  # fmt: skip


def test_the_records_of_other_devices_pass_the_time():
    others = [(1_000 * n, 2, str(n), [(9, 1_000 * n, 1.0)]) for n in range(600, 620)]
    assert outcome(above(consecutive_readings=3), [*reports((600, 85)), *others]) == [(603, N, W)]
    assert outcome(above(consecutive_readings=3), [*reports((600, 85)), *others[:5]]) == []


@pytest.mark.parametrize("span", [1, 5, 60])
def test_the_last_value_of_a_packet_may_be_followed_by_one_after_as_long_as_the_packet_spans(span):
    """So it is known to have stood only after that time too."""
    rules = above(consecutive_readings=3)
    readings = [(1, 600_000 - 1_000 * n, 20.0 if n else 85.0) for n in range(span + 1)]
    packet = (601_000, 1, "packet", readings)
    known = 601 + 3 + span + 2
    assert outcome(rules, [packet], known - 0.001) == []
    assert outcome(rules, [packet], known) == [(603, N, W)]


def test_a_value_of_a_clock_that_is_ahead_has_stood_only_when_its_time_has_come():
    rules = above(consecutive_readings=3)
    ahead = (600_000, 1, "ahead", [(1, 700_000, 85.0)])
    assert outcome(rules, [ahead], 605, 702.999) == []
    assert outcome(rules, [ahead], 605, 703) == [(703, N, W)]


def test_a_snapshot_holds_what_is_due():
    rules = above(consecutive_readings=3)
    partition = Partition(rules=rules).run([*reports((600, 85)), heartbeat(603_000)])
    before = laid_open(partition.engine.snapshot())
    partition.restart()
    assert laid_open(partition.engine.snapshot()) == before
    assert changes(partition.run([heartbeat(605_000)])) == [(603_000, N, W)]
    assert changes(partition.run([heartbeat(FAR)])) == [(603_000, N, W)]


def test_a_rule_that_is_deleted_is_no_longer_due():
    partition = Partition(rules=above(consecutive_readings=3))
    partition.run([*reports((600, 85)), heartbeat(603_000)])
    partition.rules = NO_RULES
    partition.run([heartbeat(700_000)])
    partition.rules = above(consecutive_readings=3)
    assert changes(partition.run([heartbeat(800_000)])) == []


def test_a_value_stands_while_its_sensor_sends_only_late_readings():
    late = [(1_000 * n, 1, f"late {n}", [(1, 100_000 + n, 20.0)]) for n in range(601, 620)]
    assert outcome(above(consecutive_readings=3), [*reports((600, 85)), *late]) == [(603, N, W)]


# the event


def test_the_event_of_a_standing_value_tells_the_reading_and_for_how_long_it_stood():
    rules = above(consecutive_readings=60, name="hot")
    partition = Partition(rules=rules).run(
        [*reports((1, 20), (600.3, 85), (900, 20)), heartbeat(FAR)]
    )
    raised, over = partition.events
    assert (raised.at, raised.value, raised.event_type, raised.status) == (
        660_000, 85.0, "warning", "active"
    )  # fmt: skip
    assert "85" in raised.message
    assert "hot" in raised.message
    details = json.loads(raised.payload)
    assert (details["from"], details["to"], details["stood_seconds"]) == (N, W, 59.0)
    assert (details["count"], details["min"], details["max"]) == (1, 85.0, 85.0)
    assert details["panes"] == [[601_000, 1, 85.0]]
    assert (details["threshold_value_min"], details["raise_after"]) == (80.0, 60)
    assert (over.at, over.value, over.resolves) == (905_000, 20.0, raised.event_key)
    details = json.loads(over.payload)
    assert (details["stood_seconds"], details["duration_seconds"]) == (4.0, 245.0)


def test_a_pane_that_closes_when_the_time_is_over_is_the_one_that_the_event_tells():
    rules = above(consecutive_readings=6, clear_after=5)
    records = reports((600, 85), (605, 86), (900, 20), (904, 21))
    raised, over = Partition(rules=rules).run([*records, heartbeat(FAR)]).events
    assert (raised.at, raised.value) == (606_000, 86.0)
    assert (over.at, over.value) == (905_000, 21.0)
    for event in (raised, over):
        details = json.loads(event.payload)
        assert "stood_seconds" not in details
        assert details["panes"][-1] == [event.at, 1, event.value]


# sensors that report every hour


def hourly(*values):
    return reports(*((3_600 * n, value) for n, value in enumerate(values, 1)))


@pytest.mark.parametrize("needed", [1, 3, 60])
@pytest.mark.parametrize("cuts", [(), range(40)])
def test_one_breach_of_an_hourly_sensor_raises_in_seconds_and_clears_with_the_next_reading(
    needed, cuts
):
    rules = above(consecutive_readings=needed)
    beats = range(0, 20 * 3_600, 600)
    found = outcome(rules, hourly(20, 20, 85, 20, 20), *beats, cuts=cuts)
    assert found == [(3 * 3_600 + needed, N, W), (4 * 3_600 + 5, W, N)]


def test_an_hourly_sensor_that_stays_beyond_the_bound_has_one_event():
    assert outcome(above(), hourly(20, *[85] * 24, 20), FAR) == [
        (2 * 3_600 + 1, N, W), (26 * 3_600 + 5, W, N)
    ]  # fmt: skip


def test_the_readings_of_an_hourly_sensor_close_their_panes_after_the_idle_time():
    partition = Partition(rules=above())
    for hour, value in enumerate([20, 20, 85, 20, 85], 1):
        at = HOUR * hour
        partition.run([(at, 1, str(hour), [(1, at, float(value))]), heartbeat(at + 2_999)])
        before = len(partition.windows)
        partition.run([heartbeat(at + 3_000)])
        assert len(partition.windows) == before + 3
    assert [at for at, _, _ in changes(partition)] == [
        3 * HOUR + 1_000, 4 * HOUR + 5_000, 5 * HOUR + 1_000
    ]  # fmt: skip


@pytest.mark.parametrize("seconds", [2, 5, 13, 60])
def test_slow_and_fast_sensors_take_the_same_time(seconds):
    """The value changes every minute, and is reported every few seconds."""
    rules = make(
        threshold("greater_than", 80.0, consecutive_readings=4),
        threshold("greater_than", 90.0, severity="critical", consecutive_readings=20),
    )
    value = {0: 20, 1: 85, 2: 95, 3: 20, 4: 20, 5: 95, 6: 20}
    fast = each_second(*(value[n // 60] for n in range(420)), start=60_000)
    slow = [record for n, record in enumerate(fast) if n % 60 % seconds == 0]
    assert outcome(rules, slow, FAR) == outcome(rules, fast, FAR) == [
        (124, N, W), (200, W, C), (245, C, N), (364, N, W), (380, W, C), (425, C, N)
    ]  # fmt: skip
