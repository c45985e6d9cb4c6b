import json
from math import isfinite

import numpy as np
import pytest

from dataflows.engine.engine import Times
from tests.dataflows.events.test_levels import make, threshold
from tests.dataflows.streams import NO_RULES, Partition, closed, each_second, heartbeat

HOUR, DAY = 3_600_000, 86_400_000
ALL_KINDS = make(
    threshold("greater_than", 1e9),
    threshold("out_of_range", -1e9, 1e9, severity="critical", forecast_after=1),
    deltas=[
        {"sensor_id": 1, "abs_delta": 5.0, "rel_delta": 0.5, "abs_slope": 1.0, "rel_slope": 0.1,
         "min_readings": 0},
    ],
)  # fmt: skip


def run(records, rules=ALL_KINDS, cuts=(), *, predict_ms=5_000):
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        return Partition(Times(predict_ms=predict_ms), rules).run(records, cuts)


def ends(found):
    return sorted(row[2] for row in found.windows if row[1] == "w1")


def codes(found):
    return [(event.event_code, event.sensor_id, event.at) for event in found.events]


def assert_finite(found):
    for row in (*found.windows, *found.rollups, *found.predictions):
        assert all(isfinite(cell) for cell in row if isinstance(cell, float)), row
    for event in found.events:
        assert "NaN" not in event.payload
        assert isfinite(event.value or 0.0)
        json.loads(event.payload)


@pytest.mark.parametrize("value", [0.0, 21.3, -7.7, 1e-300, 1e300])
def test_a_constant_signal_leads_to_predictions_and_no_event(value):
    partition = run(closed(each_second(*[value] * 700)), NO_RULES)
    assert partition.events == []
    assert {row[10] for row in partition.windows} == {0.0}
    assert {row[7] for row in partition.windows} == {0.0}
    assert {row[5] for row in partition.predictions} == {value}
    assert len(partition.predictions) == 140


def test_a_single_point_is_one_pane_and_a_rollup_of_each_period_and_no_event():
    partition = run([*each_second(21.0), heartbeat(2 * HOUR)])
    assert ends(partition) == [2_000]
    assert [row[:4] for row in partition.rollups] == [
        (60_000, 1, 0, 1), (300_000, 1, 0, 1), (3_600_000, 1, 0, 1)
    ]  # fmt: skip
    assert (partition.events, partition.predictions) == ([], [])


def test_two_points_of_the_same_time_are_one_pane_without_a_trend():
    partition = run([(1_000, 1, "a", [(1, 1_000, 1.0), (1, 1_000, 3.0)]), heartbeat(9_000)])
    assert partition.windows == [
        (1, name, 2_000, 2, 2.0, 1.0, 3.0, 1.0, 1.0, 3.0, 0.0) for name in ("w1", "w5", "w10")
    ]  # fmt: skip


def test_a_packet_without_readings_and_a_heartbeat_enter_no_pane():
    partition = run([(1_000, 1, "a", []), heartbeat(90_000)])
    assert (partition.windows, partition.rollups) == ([], [])


@pytest.mark.parametrize("cuts", [(), (60,), (60, 61), (61, 65)])
def test_48_hours_of_silence_are_two_events_and_leave_nothing_open(cuts):
    before = each_second(*[20.0] * 60)
    after = each_second(*[20.0] * 60, start=2 * DAY)
    partition = run([*before, *after, heartbeat(2 * DAY + 90_000)], cuts=cuts, predict_ms=60_000)
    assert codes(partition)[:2] == [("NO_DATA", None, 90_000), ("DATA_RESUMED", None, 2 * DAY)]
    assert json.loads(partition.events[1].payload)["duration_seconds"] == 172_740.0
    assert len(ends(partition)) == 120
    assert partition.engine.counts.late == 0
    first = min(row for row in partition.windows if row[1:3] == ("w10", 2 * DAY + 1_000))
    assert first[3] == 1  # no pane of two days ago
    assert sorted(row[:4] for row in partition.rollups if row[0] == 60_000) == [
        (60_000, 1, 0, 59), (60_000, 1, 60_000, 1), (60_000, 1, 2 * DAY, 60)
    ]  # fmt: skip


def test_48_hours_of_heartbeats_alone_are_one_event():
    beats = [heartbeat(70_000 + 60_000 * n) for n in range(2 * DAY // 60_000)]
    partition = run([*each_second(*[20.0] * 60), *beats], cuts=range(0, 2880, 100))
    assert codes(partition) == [("NO_DATA", None, 90_000)]


def test_a_clock_that_jumps_back_a_day_makes_readings_late_until_it_has_caught_up():
    steady = each_second(*[20.0] * 100, start=2 * DAY)
    behind = [
        (2 * DAY + 100_000 + 1_000 * n, 1, f"behind {n}", [(1, DAY + 1_000 * n, 20.0)])
        for n in range(100)
    ]
    partition = run(closed([*steady, *behind]))
    assert partition.engine.counts.late == 100
    assert ends(partition) == [2 * DAY + 1_000 * n for n in range(1, 101)]
    assert partition.events == []  # late readings count as data
    caught_up = each_second(*[20.0] * 3, start=2 * DAY + 200_000)
    partition = run(closed([*steady, *behind, *caught_up]))
    assert partition.engine.counts.late == 100
    assert len(ends(partition)) == 103


def test_readings_of_a_clock_a_day_ahead_enter_no_pane_and_change_nothing():
    ahead = [
        (100_000 + 1_000 * n, 1, f"ahead {n}", [(1, DAY + 1_000 * n, 99e9)]) for n in range(100)
    ]
    honest = each_second(*[20.0] * 10, start=200_000)
    partition = run(closed([*ahead, *honest]))
    assert (partition.engine.counts.future, partition.engine.counts.late) == (100, 0)
    assert ends(partition) == [200_000 + 1_000 * n for n in range(1, 11)]


def test_a_sensor_that_changes_its_device_within_a_partition_keeps_its_windows_and_level():
    rules = make(threshold("greater_than", 80.0, consecutive_readings=4))
    first, second = each_second(85, 85), each_second(85, 85, device=2, start=3_000)
    (event,) = run(closed([*first, *second]), rules).events
    assert (event.at, event.device_id) == (5_000, 2)


def test_a_sensor_that_moves_to_another_partition_starts_over_there():
    rules = make(threshold("greater_than", 80.0))
    old = run([*each_second(85, *[70] * 3), heartbeat(HOUR)], rules)
    # in the old partition, its last value stands, and its device falls silent
    assert [(event.at, event.event_type) for event in old.events] == [
        (2_000, "warning"), (7_000, "notice"), (34_000, "notice")
    ]  # fmt: skip
    old = run([*each_second(70, 85), heartbeat(HOUR)], rules)
    assert [(event.at, event.event_type) for event in old.events] == [(3_000, "warning")]
    new = run(closed(each_second(85, 70, 70, 70, device=2, start=5_000)), rules)
    assert [(event.at, event.device_id) for event in new.events] == [(6_000, 2)]
    assert new.windows[0][3] == 1


@pytest.mark.parametrize(
    "values",
    [
        [1.7e308] * 20,
        [-1.7e308] * 20,
        [5e-324, 0.0, 5e-324, -5e-324] * 5,
        [1e308, 1.0, -7e307, 5e-324, 1e154] * 4,
        [20.0, 20.0, 1.7e308, 20.0, 20.0] * 4,
        [1e-7 * n for n in range(20)],
    ],
)
@pytest.mark.parametrize("cuts", [(), range(30)])
def test_values_at_the_limits_of_the_float_range_pass_through_everything(values, cuts):
    records = each_second(*values)
    later = each_second(*values, start=605_000)  # when the first predictions are compared
    partition = run([*records, *later, heartbeat(900_000)], cuts=cuts)
    assert_finite(partition)
    assert len(ends(partition)) == 40


def test_ids_and_times_at_the_limits_of_their_range_pass_through_everything():
    last = 253_370_764_799_999
    top = 2**63 - 1
    records = [
        (1_000, top, "a", [(top, 0, 1.0), (0, 999, 2.0)]),
        (1_001, 0, "b", [(7, last, 1.0)]),
        (last, top, "c", [(top, last, 3.0), (top, 0, 4.0)]),
        heartbeat(last + 20_000),
    ]
    for cuts in ((), range(5)):
        partition = run(records, cuts=cuts)
        assert sorted((row[0], row[2]) for row in partition.windows if row[1] == "w1") == [
            (0, 1_000), (top, 1_000), (top, last + 1)
        ]  # fmt: skip
        assert partition.engine.counts.future == 1
        assert_finite(partition)
