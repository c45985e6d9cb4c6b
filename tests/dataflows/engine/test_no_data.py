import json
from random import Random

import pytest

from rules.columns import Rules
from rules.tables import decode_rules, make_rules
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


def test_the_usual_interval_is_the_longest_of_the_last_eight():
    hiccup = heard(*range(1, 9), 28, 29)
    assert changes_of(hiccup, heartbeats(128)) == []
    assert changes_of(hiccup, heartbeats(129)) == [silent("device", 129)]
    assert changes_of(hiccup, heard(*range(30, 38)), heartbeats(67)) == [silent("device", 67)]


@pytest.mark.parametrize("cuts", [(), range(9)])
def test_intervals_are_measured_between_seconds_with_data(cuts):
    times = (1_900, 8_100, 8_900, 15_999, 22_001)  # seconds 1, 8, 15, 22
    records = [(at, 1, str(at), [(1, at, 1.0)]) for at in times]
    assert changes_of(records, [heartbeat(57_000)], cuts=cuts) == []
    assert changes_of(records, [heartbeat(57_001)], cuts=cuts) == [silent("device", 57.001)]


def test_silence_needs_data_in_at_least_three_different_seconds():
    assert changes_of(heard(1, 2), heartbeats(1000)) == []
    crowded = [(1_000 + 300 * n, 1, str(n), [(1, 1_000, 1.0)]) for n in range(6)]  # up to 2.5 s
    assert changes_of(crowded, heartbeats(1000)) == []
    assert changes_of(heard(1, 2, 3), heartbeats(1000)) == [silent("device", 33)]
    # the same for a sensor
    assert changes_of(heard(*range(1, 100)), heard(1, 2, sensors=(2,))) == []
    assert changes_of(heard(*range(1, 100)), heard(1, 2, 3, sensors=(2,))) == [silent(2, 33)]


@pytest.mark.parametrize("interval", [7, 60, 600, 3600, 21_600])
@pytest.mark.parametrize("packets", [3, 4, 6, 9, 20])
def test_a_regular_sender_that_dies_early_is_noticed_within_five_intervals(interval, packets):
    random = Random(interval + packets)
    times = [1000 + n * interval + random.choice([0, 0, 0, 1]) for n in range(packets)]
    due = times[-1] + max(5 * interval + 5, 36)
    (change,) = changes_of(heard(*times), heartbeats(*range(times[-1], due + 1, interval), due))
    assert change[:2] == ("NO_DATA", "device")
    assert change[2] >= times[-1] + 5 * (interval - 1)


def bursts(seed):
    """Seconds at which a sender without a rhythm sends, and of heartbeats."""
    random = Random(seed)
    pause, burst, gap = random.choice([600, 3600, 20_000]), random.randint(2, 14), 100
    at, times = 1000, []
    for _ in range(12):
        for _ in range(random.randint(1, burst)):
            at += 1 + int(random.expovariate(1 / gap))
            times.append(at)
        at += int(random.uniform(0.8, 1.3) * pause)
    return times, range(1000, at, 60)


def test_a_sender_without_a_rhythm_is_hardly_ever_silent():
    """Two or three gaps may happen to be equal."""
    found = 0
    for seed in range(60):
        times, beats = bursts(seed)
        found += changes_of(heard(*times, sensors=(1, 2)), heartbeats(*beats)) != []
    assert found <= 1


@pytest.mark.parametrize("seed", range(10))
def test_a_sensor_that_reports_changes_is_not_silent_while_its_device_sends(seed):
    times, beats = bursts(seed)
    assert changes_of(heard(*times, sensors=(2,)), heard(*beats, tag="steady")) == []


@pytest.mark.parametrize("seed", range(10))
def test_a_regular_sender_that_loses_packets_has_a_rhythm(seed):
    random = Random(seed)
    times = [60 * n for n in range(1, 300) if n < 20 or random.random() > 0.1]
    changes = changes_of(heard(*times), heartbeats(*range(60, 25_000, 20)))
    assert changes[-1][0] == "NO_DATA"
    assert times[-1] + 300 <= changes[-1][2] <= times[-1] + 1000
    assert len(changes) == 1


def test_silences_that_have_ended_twice_are_part_of_the_rhythm():
    times, at = [], 0
    for _ in range(6):
        times += range(at + 10, at + 600, 10)
        at += 2000
    changes = changes_of(heard(*times), heartbeats(*range(10, 20_000, 10)))
    assert [change[0] for change in changes] == ["NO_DATA", "DATA_RESUMED"] * 2 + ["NO_DATA"]
    assert changes[-1] == silent("device", 10_590 + 2 * 1420)


def limits(sensors=(), devices=()):
    """Rules with `no_data_after_seconds` of sensors and devices, by id."""
    tables = {
        name: [{"id": n, "name": str(n), "no_data_after_seconds": s} for n, s in rows]
        for name, rows in (("sensors", sensors), ("devices", devices))
    }
    rules, refused = make_rules(tables)
    assert not refused
    return Rules(decode_rules(rules.encode()))


@pytest.mark.parametrize("cuts", [(), (5, 6, 40), range(0, 400, 7), range(400)])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_setting_takes_precedence_over_the_rhythm(cuts, restarts):
    def with_limits(*groups, **settings):
        records = sorted((r for group in groups for r in group), key=lambda record: record[0])
        partition = Partition(rules=limits(**settings)).run(records, cuts, restarts=restarts)
        return [(e.event_code, e.sensor_id or "device", e.at / 1000) for e in partition.events]

    fast, beats = heard(*range(1, 11)), heartbeats(*range(11, 300, 10))
    assert with_limits(fast, beats, devices=[(1, 100)]) == [silent("device", 110)]
    assert with_limits(fast, beats, devices=[(1, 5)]) == [silent("device", 15)]
    assert with_limits(fast, beats, devices=[(1, 0)]) == []
    once = heard(1)
    assert with_limits(once, beats, devices=[(1, 60)]) == [silent("device", 61)]
    # a sensor's setting does not depend on its device
    assert with_limits(once, beats, sensors=[(1, 60)]) == [silent(1, 61)]
    both, alone = heard(*range(1, 11), sensors=(1, 2)), heard(*range(11, 100))
    assert with_limits(both, alone, sensors=[(2, 0)]) == []
    assert with_limits(both, alone, sensors=[(2, 7)]) == [silent(2, 17)]
    assert with_limits(both, alone, heard(50, sensors=(2,)), sensors=[(2, 7)]) == [
        silent(2, 17), back(2, 50), silent(2, 57)
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [-1, 2.5, "1", True])
def test_an_invalid_setting_is_refused(wrong):
    _, refused = make_rules({"sensors": [{"id": 7, "no_data_after_seconds": wrong}]})
    assert [(row.table, row.id) for row in refused] == [("sensors", 7)]


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
        # counts as data: a gap of 11 s, so silent after 55 s
        ((20_000, 1, "late", [(1, 0, 1.0)]), 75),
        ((20_000, 1, "future", [(1, 10**9, 1.0)]), 75),
        ((20_000, 1, "without readings", []), 75),
        # does not count as data
        ((20_000, 1, "1 9 (1,) ", [(1, 20_000, 1.0)]), 39),  # a duplicate
        ((20_000, 2, "another's", [(9, 20_000, 1.0)]), 39),
        (heartbeat(20_000), 39),
    ],
)
def test_late_and_future_readings_and_empty_packets_count_as_data_but_duplicates_do_not(record, at):
    steady = heard(*range(1, 10))
    assert changes_of(steady, [record], [heartbeat(at * 1000 - 1)]) == []
    assert changes_of(steady, [record], heartbeats(at)) == [silent("device", at)]


def test_late_and_future_readings_of_a_sensor_count_as_data():
    steady, others = heard(*range(1, 10), sensors=(2,)), heard(*range(1, 200))
    for ts in (0, 10**9):
        odd = [(20_000, 1, "odd", [(2, ts, 1.0)])]
        assert changes_of(steady, odd, others) == [silent(2, 75)]
    assert changes_of(steady, others) == [silent(2, 39)]


def test_many_readings_in_one_record_count_once():
    many = [(s * 1000, 1, f"many {s}", [(2, s * 1000, 1.0)] * 5) for s in range(1, 3)]
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
    steady = heard(*range(1, 10))
    events = Partition().run([*steady, *heartbeats(39, 1)]).events
    assert [event.at for event in events] == [39_000]
    # data at the partition's 30 s: the longest interval is 21 s, and the limit 105 s
    records = [*steady, *heartbeats(30), *heard(10)]
    assert Partition().run([*records, heartbeat(134_999)]).events == []
    events = Partition().run([*records, heartbeat(135_000)]).events
    assert [event.at for event in events] == [135_000]


@pytest.mark.parametrize("cut", [1, 3, 6, 7, 20, 35, 36, *range(40, 47)])
def test_silence_survives_restarts(cut):
    records = [*heard(1, 2, 3, 4, 5, 6, sensors=(1, 2)), *heard(*range(7, 41)), *heartbeats(150)]
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
