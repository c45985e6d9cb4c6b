import json

import pytest

from tests.dataflows.streams import Partition, closed, each_second, heartbeat


def heard(*seconds, device=1, sensors=(1,), tag=""):
    """Records at these seconds, with one reading of each sensor."""
    return [
        (s * 1000, device, f"{device} {s} {sensors} {tag}", [(n, s * 1000, 1.0) for n in sensors])
        for s in seconds
    ]


def heartbeats(*seconds):
    return [heartbeat(s * 1000) for s in seconds]


def events(*groups, cuts=()):
    records = sorted((record for group in groups for record in group), key=lambda record: record[0])
    return Partition().run(records, cuts).events


def changes_of(*groups, cuts=()):
    """(code, "device" or sensor, at in seconds) of each silence and each return."""
    return [
        (event.event_code, event.sensor_id or "device", event.at / 1000)
        for event in events(*groups, cuts=cuts)
    ]


def silent(who, at):
    return ("NO_DATA", who, at)


def back(who, at):
    return ("DATA_RESUMED", who, at)


def test_a_device_is_silent_after_thirty_seconds_without_data_and_not_before():
    steady = heard(*range(1, 7), sensors=(1, 2))
    assert changes_of(steady, [heartbeat(35_999)]) == []
    assert changes_of(steady, [heartbeat(36_000)]) == [silent("device", 36)]
    assert changes_of(steady, heartbeats(500)) == [silent("device", 36)]


def test_a_silent_device_is_one_event_and_not_one_per_sensor():
    steady = heard(*range(1, 11), sensors=(1, 2, 3))
    changes = changes_of(steady, heartbeats(*range(11, 200)), heard(200, sensors=(1, 2, 3)))
    assert changes == [silent("device", 40), back("device", 200)]


def test_records_of_other_devices_advance_the_time_too():
    changes = changes_of(heard(*range(1, 7)), heard(*range(1, 90, 7), device=2, sensors=(9,)))
    assert changes == [silent("device", 36)]


def test_a_sensor_is_silent_when_its_device_sends_data_without_it_for_thirty_seconds():
    both = heard(*range(1, 11), sensors=(1, 2))
    assert changes_of(both, heard(*range(11, 40))) == []
    assert changes_of(both, heard(*range(11, 39)), heard(45)) == [silent(2, 40)]
    assert changes_of(both, heard(*range(11, 100))) == [silent(2, 40)]
    # heartbeats alone do not make a sensor silent
    assert changes_of(both, heard(*range(11, 40)), heartbeats(60)) == []


@pytest.mark.parametrize("cuts", [(), (9, 10, 11), (39, 40), range(130)])
def test_a_return_resolves_the_silence_and_has_its_duration(cuts):
    groups = (
        heard(*range(1, 11), sensors=(1, 2)), heard(*range(11, 60)),
        heard(60, sensors=(1, 2)), heartbeats(100), heard(101, sensors=(1, 2), tag="again"),
    )  # fmt: skip
    gone, again, off, on = events(*groups, cuts=cuts)
    assert [event.sensor_id for event in (gone, again, off, on)] == [2, 2, None, None]
    assert (gone.status, gone.resolves) == ("active", None)
    assert (again.status, again.resolves) == ("resolved", gone.event_key)
    assert (off.status, off.resolves) == ("active", None)
    assert (on.status, on.resolves) == ("resolved", off.event_key)
    assert [json.loads(event.payload)["duration_seconds"] for event in (gone, again, off, on)] == [
        30.0, 50.0, 30.0, 41.0
    ]  # fmt: skip
    assert [json.loads(event.payload)["last_seen_at"] for event in (gone, off)] == [10_000, 60_000]
    assert {event.event_type for event in (gone, again, off, on)} == {"notice"}
    assert {event.value for event in (gone, again, off, on)} == {None}


def test_a_sensor_may_be_silent_for_five_times_its_usual_interval():
    slow = heard(*range(10, 60, 10), sensors=(2,))
    steady = heard(*range(1, 200))
    assert changes_of(slow, steady) == [silent(2, 100)]
    assert changes_of(slow, heard(*range(1, 100))) == []


def test_a_device_may_be_silent_for_five_times_its_usual_interval():
    assert changes_of(heard(10, 20, 30, 40, 50), [heartbeat(99_999)]) == []
    assert changes_of(heard(10, 20, 30, 40, 50), [heartbeat(100_000)]) == [silent("device", 100)]


def test_the_usual_interval_is_the_longest_of_the_last_four():
    assert changes_of(heard(1, 2, 3, 4, 24, 25, 26, 27), heartbeats(126)) == []
    changes = changes_of(heard(1, 2, 3, 4, 24, 25, 26, 27), heartbeats(127))
    assert changes == [silent("device", 127)]
    assert changes_of(heard(1, 2, 3, 4, 24, 25, 26, 27, 28), heartbeats(58)) == [
        silent("device", 58)
    ]


@pytest.mark.parametrize("cuts", [(), range(9)])
def test_intervals_are_measured_between_seconds_with_data(cuts):
    times = (1_900, 2_100, 2_900, 8_999, 16_000, 23_001)  # seconds 1, 2, 8, 16, 23
    records = [(at, 1, str(at), [(1, at, 1.0)]) for at in times]
    assert changes_of(records, [heartbeat(63_000)], cuts=cuts) == []
    assert changes_of(records, [heartbeat(63_001)], cuts=cuts) == [silent("device", 63.001)]


def test_silence_needs_data_in_at_least_five_different_seconds():
    assert changes_of(heard(1, 2, 3, 4), heartbeats(1000)) == []
    crowded = [(1_000 + 300 * n, 1, str(n), [(1, 1_000, 1.0)]) for n in range(13)]  # up to 4.6 s
    assert changes_of(crowded, heartbeats(1000)) == []
    assert changes_of(heard(1, 2, 3, 4, 5), heartbeats(1000)) == [silent("device", 35)]
    # the same for a sensor
    assert changes_of(heard(*range(1, 100)), heard(1, 2, 3, 4, sensors=(2,))) == []
    assert changes_of(heard(*range(1, 100)), heard(1, 2, 3, 4, 5, sensors=(2,))) == [silent(2, 35)]


def test_a_silence_does_not_count_as_a_usual_interval():
    changes = changes_of(heard(1, 2, 3, 4, 5, 205, 206), heartbeats(1000))
    assert changes == [silent("device", 35), back("device", 205), silent("device", 236)]
    changes = changes_of(heard(1, 2, 3, 4, 5, 105, 106, sensors=(2,)), heard(*range(1, 200)))
    assert changes == [silent(2, 35), back(2, 105), silent(2, 136)]


@pytest.mark.parametrize("cuts", [(), (4, 5, 6, 7, 8), range(100)])
def test_the_return_of_a_device_does_not_make_its_slow_sensors_silent(cuts):
    slow = heard(1, 21, 41, 61, 81, sensors=(2,))  # may be silent for 100 s
    fast = heard(*range(1, 90))
    gone, fallen = heartbeats(500), silent("device", 119)
    later = heard(*range(501, 601))
    assert changes_of(slow, fast, gone, later, cuts=cuts) == [fallen, back("device", 501)]
    assert changes_of(slow, fast, gone, later, heard(601), cuts=cuts) == [
        fallen, back("device", 501), silent(2, 601)
    ]  # fmt: skip


def test_a_silence_of_the_device_does_not_count_as_a_usual_interval_of_its_sensors():
    slow = heard(*range(1, 6), 205, 206, sensors=(1, 2))
    changes = changes_of(slow, heard(*range(6, 10)), heard(*range(207, 300)))
    assert changes == [silent("device", 39), back("device", 205), silent(2, 236)]
    # nor for a sensor that returns after its device
    slow = heard(*range(1, 6), 207, 208, sensors=(1, 2))
    changes = changes_of(slow, heard(*range(6, 10)), heard(205, 206, *range(209, 300)))
    assert changes == [silent("device", 39), back("device", 205), silent(2, 238)]


def test_a_silent_sensor_stays_silent_when_its_device_returns_without_it():
    both = heard(*range(1, 6), sensors=(1, 2))
    changes = changes_of(
        both, heard(*range(6, 50)), heartbeats(100), heard(101), heard(102, sensors=(2,))
    )
    assert changes == [
        silent(2, 35), silent("device", 79), back("device", 101), back(2, 102)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("record", "at"),
    [
        # counts as data: a gap of 14 s, so silent after 70 s
        ((20_000, 1, "late", [(1, 0, 1.0)]), 90),
        ((20_000, 1, "future", [(1, 10**9, 1.0)]), 90),
        ((20_000, 1, "without readings", []), 90),
        # does not count as data
        ((20_000, 1, "1 6 (1,) ", [(1, 20_000, 1.0)]), 36),  # a duplicate
        ((20_000, 2, "another's", [(9, 20_000, 1.0)]), 36),
        (heartbeat(20_000), 36),
    ],
)
def test_late_and_future_readings_and_empty_packets_count_as_data_but_duplicates_do_not(record, at):
    steady = heard(*range(1, 7))
    assert changes_of(steady, [record], [heartbeat(at * 1000 - 1)]) == []
    assert changes_of(steady, [record], heartbeats(at)) == [silent("device", at)]


def test_late_and_future_readings_of_a_sensor_count_as_data():
    steady, others = heard(*range(1, 7), sensors=(2,)), heard(*range(1, 200))
    for ts in (0, 10**9):
        odd = [(20_000, 1, "odd", [(2, ts, 1.0)])]
        assert changes_of(steady, odd, others) == [silent(2, 90)]
    assert changes_of(steady, others) == [silent(2, 36)]


def test_many_readings_in_one_record_count_once():
    many = [(s * 1000, 1, f"many {s}", [(2, s * 1000, 1.0)] * 5) for s in range(1, 5)]
    assert changes_of(many, heard(*range(1, 100))) == []


@pytest.mark.parametrize("cuts", [(), range(200)])
def test_a_moved_sensor_is_silent_when_its_new_device_sends_data_without_it(cuts):
    before = heard(*range(1, 7), sensors=(1, 3))
    moved = heard(7, device=2, sensors=(3,))
    old = heard(*range(8, 100), sensors=(1,))
    # its new device sends nothing more, and its usual interval is unknown
    assert changes_of(before, moved, old, cuts=cuts) == []
    new = heard(*range(8, 50), device=2, sensors=(4,))
    assert changes_of(before, moved, new, heard(*range(8, 60)), cuts=cuts) == [silent(3, 37)]


@pytest.mark.parametrize("cuts", [(), (6,), (30, 40), range(60)])
def test_a_silent_sensor_that_moves_resumes_with_its_new_device(cuts):
    before = heard(*range(1, 7), sensors=(1, 3))
    old = heard(*range(7, 41))
    moved = heard(41, 42, device=2, sensors=(3,))
    assert changes_of(before, old, moved, cuts=cuts) == [silent(3, 36), back(3, 41)]


def test_the_return_of_the_old_device_does_not_restart_a_moved_sensors_time():
    before = heard(*range(1, 7), sensors=(1, 3))
    moved = heard(7, device=2, sensors=(3,))
    returned = heard(50, sensors=(1,))
    new = heard(8, *range(30, 60), device=2, sensors=(4,))
    changes = changes_of(before, moved, heartbeats(45), returned, new)
    assert changes == [silent("device", 36), silent(3, 37), back("device", 50)]


def test_a_decreasing_arrival_time_is_replaced_by_that_of_the_partition():
    steady = heard(*range(1, 7))
    events = Partition().run([*steady, *heartbeats(36, 1)]).events
    assert [event.at for event in events] == [36_000]
    # data at the partition's 30 s: the usual interval is 24 s, and the limit 120 s
    records = [*steady, *heartbeats(30), *heard(7)]
    assert Partition().run([*records, heartbeat(149_999)]).events == []
    events = Partition().run([*records, heartbeat(150_000)]).events
    assert [event.at for event in events] == [150_000]


@pytest.mark.parametrize("cut", range(1, 14))
def test_silence_survives_restarts(cut):
    records = [*heard(1, 2, 3, 4, 5, 6, sensors=(1, 2)), *heard(20, 36, 40), *heartbeats(150)]
    records += [*heard(151, sensors=(2,)), *heard(152), *heartbeats(300), *heard(301)]
    whole = Partition().run(records).events
    assert [event.event_code for event in whole] == [
        "NO_DATA", "NO_DATA", "DATA_RESUMED", "DATA_RESUMED", "NO_DATA", "DATA_RESUMED"
    ]  # fmt: skip
    assert Partition().run(records, [cut], restarts=True).events == whole


def test_the_end_of_the_input_makes_no_sensor_silent():
    assert Partition().run(closed(each_second(*[1.0] * 100))).events == []


@pytest.mark.parametrize("device", range(8))
def test_a_silence_that_ends_with_the_same_record_is_reported_before_its_end(device):
    records = [(1000 * n, device, str(n), []) for n in (1, 2, 3, 4, 5, 35)]
    events = Partition().run(records).events
    assert [event.event_code for event in events] == ["NO_DATA", "DATA_RESUMED"]
