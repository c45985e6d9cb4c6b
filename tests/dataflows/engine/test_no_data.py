import json

import pytest

from tests.dataflows.streams import Partition, closed, each_second, heartbeat


def heard(*seconds, device=1, sensors=(1,), tag=""):
    """Records at these seconds with one reading of each of the sensors."""
    return [
        (s * 1000, device, f"{device} {s} {sensors} {tag}", [(n, s * 1000, 1.0) for n in sensors])
        for s in seconds
    ]


def heartbeats(*seconds):
    return [heartbeat(s * 1000) for s in seconds]


def events(*groups, cuts=()):
    records = sorted((one for group in groups for one in group), key=lambda record: record[0])
    return Partition().run(records, cuts).events


def told(*groups, cuts=()):
    """(code, "device" or sensor, at in seconds) of each silence, and of each return."""
    return [
        (event.event_code, event.sensor_id or "device", event.at / 1000)
        for event in events(*groups, cuts=cuts)
    ]


def silent(who, at):
    return ("NO_DATA", who, at)


def back(who, at):
    return ("DATA_RESUMED", who, at)


def test_a_device_is_silent_thirty_seconds_after_it_was_last_heard_and_not_before():
    steady = heard(*range(1, 7), sensors=(1, 2))
    assert told(steady, [heartbeat(35_999)]) == []
    assert told(steady, [heartbeat(36_000)]) == [silent("device", 36)]
    assert told(steady, heartbeats(500)) == [silent("device", 36)]


def test_a_device_that_falls_silent_is_one_event_and_not_one_for_each_of_its_sensors():
    steady = heard(*range(1, 11), sensors=(1, 2, 3))
    found = told(steady, heartbeats(*range(11, 200)), heard(200, sensors=(1, 2, 3)))
    assert found == [silent("device", 40), back("device", 200)]


def test_other_devices_records_tell_the_time_too():
    found = told(heard(*range(1, 7)), heard(*range(1, 90, 7), device=2, sensors=(9,)))
    assert found == [silent("device", 36)]


def test_a_sensor_is_silent_when_its_device_is_heard_without_it_for_thirty_seconds():
    both = heard(*range(1, 11), sensors=(1, 2))
    assert told(both, heard(*range(11, 40))) == []
    assert told(both, heard(*range(11, 39)), heard(45)) == [silent(2, 40)]
    assert told(both, heard(*range(11, 100))) == [silent(2, 40)]
    # heartbeats alone say nothing of a sensor
    assert told(both, heard(*range(11, 40)), heartbeats(60)) == []


@pytest.mark.parametrize("cuts", [(), (9, 10, 11), (39, 40), range(130)])
def test_a_return_resolves_the_silence_and_tells_how_long_it_lasted(cuts):
    groups = (
        heard(*range(1, 11), sensors=(1, 2)), heard(*range(11, 60)),
        heard(60, sensors=(1, 2)), heartbeats(100), heard(101, sensors=(1, 2), tag="again"),
    )  # fmt: skip
    gone, again, off, on = events(*groups, cuts=cuts)
    assert [one.sensor_id for one in (gone, again, off, on)] == [2, 2, None, None]
    assert (gone.status, gone.resolves) == ("active", None)
    assert (again.status, again.resolves) == ("resolved", gone.event_key)
    assert (off.status, off.resolves) == ("active", None)
    assert (on.status, on.resolves) == ("resolved", off.event_key)
    assert [json.loads(one.payload)["duration_seconds"] for one in (gone, again, off, on)] == [
        30.0, 50.0, 30.0, 41.0
    ]  # fmt: skip
    assert [json.loads(one.payload)["last_seen_at"] for one in (gone, off)] == [10_000, 60_000]
    assert {one.event_type for one in (gone, again, off, on)} == {"notice"}
    assert {one.value for one in (gone, again, off, on)} == {None}


def test_a_sensor_may_be_silent_for_five_times_its_usual_interval():
    slow = heard(*range(10, 60, 10), sensors=(2,))
    steady = heard(*range(1, 200))
    assert told(slow, steady) == [silent(2, 100)]
    assert told(slow, heard(*range(1, 100))) == []


def test_a_device_may_be_silent_for_five_times_its_usual_interval():
    assert told(heard(10, 20, 30, 40, 50), [heartbeat(99_999)]) == []
    assert told(heard(10, 20, 30, 40, 50), [heartbeat(100_000)]) == [silent("device", 100)]


def test_the_usual_interval_is_the_longest_of_the_last_four():
    assert told(heard(1, 2, 3, 4, 24, 25, 26, 27), heartbeats(126)) == []
    found = told(heard(1, 2, 3, 4, 24, 25, 26, 27), heartbeats(127))
    assert found == [silent("device", 127)]
    assert told(heard(1, 2, 3, 4, 24, 25, 26, 27, 28), heartbeats(58)) == [silent("device", 58)]


@pytest.mark.parametrize("cuts", [(), range(9)])
def test_intervals_are_between_the_seconds_in_which_something_was_heard(cuts):
    times = (1_900, 2_100, 2_900, 8_999, 16_000, 23_001)  # seconds 1, 2, 8, 16, 23
    records = [(at, 1, str(at), [(1, at, 1.0)]) for at in times]
    assert told(records, [heartbeat(63_000)], cuts=cuts) == []
    assert told(records, [heartbeat(63_001)], cuts=cuts) == [silent("device", 63.001)]


def test_nobody_is_silent_before_it_was_heard_in_five_seconds():
    assert told(heard(1, 2, 3, 4), heartbeats(1000)) == []
    crowded = [(1_000 + 300 * n, 1, str(n), [(1, 1_000, 1.0)]) for n in range(13)]  # up to 4.6 s
    assert told(crowded, heartbeats(1000)) == []
    assert told(heard(1, 2, 3, 4, 5), heartbeats(1000)) == [silent("device", 35)]
    # likewise a sensor
    assert told(heard(*range(1, 100)), heard(1, 2, 3, 4, sensors=(2,))) == []
    assert told(heard(*range(1, 100)), heard(1, 2, 3, 4, 5, sensors=(2,))) == [silent(2, 35)]


def test_a_silence_is_no_usual_interval():
    found = told(heard(1, 2, 3, 4, 5, 205, 206), heartbeats(1000))
    assert found == [silent("device", 35), back("device", 205), silent("device", 236)]
    found = told(heard(1, 2, 3, 4, 5, 105, 106, sensors=(2,)), heard(*range(1, 200)))
    assert found == [silent(2, 35), back(2, 105), silent(2, 136)]


@pytest.mark.parametrize("cuts", [(), (4, 5, 6, 7, 8), range(100)])
def test_the_return_of_a_device_does_not_make_its_slow_sensors_silent(cuts):
    slow = heard(1, 21, 41, 61, 81, sensors=(2,))  # may be silent for 100 s
    fast = heard(*range(1, 90))
    gone, fallen = heartbeats(500), silent("device", 119)
    later = heard(*range(501, 601))
    assert told(slow, fast, gone, later, cuts=cuts) == [fallen, back("device", 501)]
    assert told(slow, fast, gone, later, heard(601), cuts=cuts) == [
        fallen, back("device", 501), silent(2, 601)
    ]  # fmt: skip


def test_a_time_in_which_the_device_was_silent_is_no_usual_interval_of_its_sensors():
    slow = heard(*range(1, 6), 205, 206, sensors=(1, 2))
    found = told(slow, heard(*range(6, 10)), heard(*range(207, 300)))
    assert found == [silent("device", 39), back("device", 205), silent(2, 236)]
    # nor of one that comes back after its device
    slow = heard(*range(1, 6), 207, 208, sensors=(1, 2))
    found = told(slow, heard(*range(6, 10)), heard(205, 206, *range(209, 300)))
    assert found == [silent("device", 39), back("device", 205), silent(2, 238)]


def test_a_sensor_that_was_silent_with_its_device_stays_so_until_it_is_heard_itself():
    both = heard(*range(1, 6), sensors=(1, 2))
    found = told(both, heard(*range(6, 50)), heartbeats(100), heard(101), heard(102, sensors=(2,)))
    assert found == [
        silent(2, 35), silent("device", 79), back("device", 101), back(2, 102)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("record", "at"),
    [
        # heard: a gap of 14 s, and so silent after 70 s
        ((20_000, 1, "late", [(1, 0, 1.0)]), 90),
        ((20_000, 1, "future", [(1, 10**9, 1.0)]), 90),
        ((20_000, 1, "without readings", []), 90),
        # not heard
        ((20_000, 1, "1 6 (1,) ", [(1, 20_000, 1.0)]), 36),  # a repetition
        ((20_000, 2, "another's", [(9, 20_000, 1.0)]), 36),
        (heartbeat(20_000), 36),
    ],
)
def test_late_and_future_readings_and_empty_packets_are_heard_and_repetitions_are_not(record, at):
    steady = heard(*range(1, 7))
    assert told(steady, [record], [heartbeat(at * 1000 - 1)]) == []
    assert told(steady, [record], heartbeats(at)) == [silent("device", at)]


def test_late_and_future_readings_of_a_sensor_are_heard():
    steady, others = heard(*range(1, 7), sensors=(2,)), heard(*range(1, 200))
    for ts in (0, 10**9):
        odd = [(20_000, 1, "odd", [(2, ts, 1.0)])]
        assert told(steady, odd, others) == [silent(2, 90)]
    assert told(steady, others) == [silent(2, 36)]


def test_a_sensor_with_many_readings_in_a_record_was_heard_once():
    many = [(s * 1000, 1, f"many {s}", [(2, s * 1000, 1.0)] * 5) for s in range(1, 5)]
    assert told(many, heard(*range(1, 100))) == []


@pytest.mark.parametrize("cuts", [(), range(200)])
def test_a_sensor_that_moved_is_silent_when_its_new_device_is_heard_without_it(cuts):
    before = heard(*range(1, 7), sensors=(1, 3))
    moved = heard(7, device=2, sensors=(3,))
    old = heard(*range(8, 100), sensors=(1,))
    # its new device is heard no more, and of it alone nothing is usual yet
    assert told(before, moved, old, cuts=cuts) == []
    new = heard(*range(8, 50), device=2, sensors=(4,))
    assert told(before, moved, new, heard(*range(8, 60)), cuts=cuts) == [silent(3, 37)]


@pytest.mark.parametrize("cuts", [(), (6,), (30, 40), range(60)])
def test_a_sensor_that_was_silent_when_it_moved_is_heard_again_with_its_new_device(cuts):
    before = heard(*range(1, 7), sensors=(1, 3))
    old = heard(*range(7, 41))
    moved = heard(41, 42, device=2, sensors=(3,))
    assert told(before, old, moved, cuts=cuts) == [silent(3, 36), back(3, 41)]


def test_a_moved_sensors_time_does_not_start_anew_with_its_old_devices_return():
    before = heard(*range(1, 7), sensors=(1, 3))
    moved = heard(7, device=2, sensors=(3,))
    returned = heard(50, sensors=(1,))
    new = heard(8, *range(30, 60), device=2, sensors=(4,))
    found = told(before, moved, heartbeats(45), returned, new)
    assert found == [silent("device", 36), silent(3, 37), back("device", 50)]


def test_an_arrival_time_that_goes_back_is_taken_as_the_partitions():
    steady = heard(*range(1, 7))
    found = Partition().run([*steady, *heartbeats(36, 1)]).events
    assert [event.at for event in found] == [36_000]
    # heard at the partition's 30 s, which makes 24 s usual, and 120 s a silence
    records = [*steady, *heartbeats(30), *heard(7)]
    assert Partition().run([*records, heartbeat(149_999)]).events == []
    found = Partition().run([*records, heartbeat(150_000)]).events
    assert [event.at for event in found] == [150_000]


@pytest.mark.parametrize("cut", range(1, 14))
def test_silence_lives_through_restarts(cut):
    records = [*heard(1, 2, 3, 4, 5, 6, sensors=(1, 2)), *heard(20, 36, 40), *heartbeats(150)]
    records += [*heard(151, sensors=(2,)), *heard(152), *heartbeats(300), *heard(301)]
    whole = Partition().run(records).events
    assert [event.event_code for event in whole] == [
        "NO_DATA", "NO_DATA", "DATA_RESUMED", "DATA_RESUMED", "NO_DATA", "DATA_RESUMED"
    ]  # fmt: skip
    assert Partition().run(records, [cut], restarts=True).events == whole


def test_the_end_of_the_input_makes_nobody_silent():
    assert Partition().run(closed(each_second(*[1.0] * 100))).events == []


@pytest.mark.parametrize("device", range(8))
def test_a_silence_that_ends_when_it_is_noticed_is_told_before_its_end(device):
    records = [(1000 * n, device, str(n), []) for n in (1, 2, 3, 4, 5, 35)]
    found = Partition().run(records).events
    assert [event.event_code for event in found] == ["NO_DATA", "DATA_RESUMED"]
