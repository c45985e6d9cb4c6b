"""Examples of the specification, worked out by hand, and properties of random streams."""

from math import inf
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from tests.dataflows.oracle import (
    DAY,
    LARGEST,
    NEVER,
    Band,
    Change,
    Oracle,
    Reading,
    expects_more,
    remember,
    resets,
)


def threshold(high=inf, level=1, *, low=-inf, raise_after=1, clear_after=3, number=0, **more):
    return {
        "kind": "threshold", "id": number, "sensor": 1, "level": level, "low": low, "high": high,
        "reset_low": None, "reset_high": None, "equal": False, "raise_after": raise_after,
        "clear_after": clear_after, "forecast_after": None, **more,
    }  # fmt: skip


def delta(**more):
    return {
        "kind": "delta", "sensor": 1, "level": 1, "abs_delta": inf, "rel_delta": inf,
        "abs_slope": inf, "rel_slope": inf, "min_readings": 1, "raise_after": 1,
        "clear_after": 3, **more,
    }  # fmt: skip


class Stream:
    """An oracle that is fed with records of device 1, sensor 1."""

    def __init__(self, *rules, **more):
        self.oracle, self.number = Oracle(1000, 3000, rules, **more), 0

    def send(self, arrival, *readings, device=1, packet=None):
        """Readings are (ts, value[, seq])."""
        self.number += 1
        packet = packet or str(self.number)
        self.oracle.record(arrival, device, packet, [(1, *reading) for reading in readings])
        return self

    def beat(self, arrival):
        self.oracle.record(arrival)
        return self

    def idle_at(self):
        return self.oracle.sensors[1].live.idle_at

    def panes(self):
        """{end: count} of the live panes."""
        return {w[2]: w[3] for w in self.oracle.windows if w[1] == "w1"}

    def late_panes(self, name="w1"):
        return {w[2]: w[3] for w in self.oracle.late_windows if w[1] == name}

    def levels(self):
        """(at, before, after, reason) of the live level changes."""
        return [
            (e[2], e[4], e[5], e[9]) for e in self.oracle.events if e[3] == "LEVEL" and not e[7]
        ]

    def silences(self):
        """(sensor, device, at in seconds, begin or end) of the times without data."""
        codes = "NO_DATA", "DATA_RESUMED"
        return [(*e[:2], e[2] / 1000, e[5]) for e in self.oracle.events if e[3] in codes]

    def deviations(self):
        """(at, after) of the deviations from predictions."""
        return [(e[2], e[5]) for e in self.oracle.events if e[3] == "PREDICTION_DEVIATION"]

    def late_levels(self):
        """(at, before, after, detected_at, reason) of the lane's level changes."""
        return [(e[2], e[4], e[5], *e[8:]) for e in self.oracle.events if e[7]]


def each(*panes, rules):
    """The live level changes of panes (end, value), each with one reading at its start. Each
    record is in time, and the last pane is closed by the idle rule without a horizon beyond it."""
    stream = Stream(*rules)
    for end, *values in panes:
        stream.send(end - 500, *((end - 1000 + n, v) for n, v in enumerate(values)))
    o = stream.oracle
    o.close(o.sensors[1], o.sensors[1].live.open, stream.idle_at())
    return stream.levels()


# A. The idle rule


def closes_at(stream, end):
    """The first heartbeat that closes the pane."""
    while end not in stream.panes():
        stream.beat(stream.oracle.now + 1)
    return stream.oracle.now


def test_a_first_single_reading_is_not_held():
    # n = 1 and no watermark before: complete, so 10_000 + 3000
    assert closes_at(Stream().send(10_000, (9000, 1)), 10_000) == 13_000


def test_an_incomplete_pane_of_an_unknown_device_is_held_a_minute():
    # n = 2: 10 ms apart, and 990 ms are left in the pane of 9010
    assert closes_at(Stream().send(10_000, (9000, 1), (9010, 1)), 10_000) == 70_000


def test_readings_as_far_apart_as_the_rest_of_the_pane_are_complete():
    # 500 < 500 is false; with 499 of 501 it is true
    assert closes_at(Stream().send(10_000, (9000, 1), (9500, 1)), 10_000) == 13_000
    assert closes_at(Stream().send(10_000, (9000, 1), (9499, 1)), 10_000) == 70_000
    # three: 600 < 400 * 2
    assert closes_at(Stream().send(10_000, (9000, 1), (9500, 1), (9600, 1)), 10_000) == 70_000


def test_readings_of_one_time_are_complete():
    assert closes_at(Stream().send(10_000, (9000, 1), (9000, 2)), 10_000) == 13_000


def test_an_incomplete_pane_is_held_for_twice_the_gap():
    def held(arrival):  # 10_000 continues 9500, and 100 < 900
        return closes_at(
            Stream().send(10_000, (9500, 1)).send(arrival, (10_000, 1), (10_100, 1)), 11_000
        )

    assert held(15_000) == 25_000  # the gap is 5 s
    assert held(11_000) == 14_000  # 2 s are less than IDLE
    assert held(210_000) == 510_000  # 400 s are more than 300 s


def test_readings_a_second_or_more_after_the_watermark_are_complete():
    def held(first):
        return closes_at(
            Stream().send(10_000, (10_000, 1)).send(15_000, (first, 1), (11_010, 1)), 12_000
        )

    assert held(11_000) == 18_000
    assert held(10_999) == 25_000


def test_a_single_reading_near_the_watermark_is_incomplete():
    stream = Stream().send(10_000, (10_000, 1)).send(15_000, (15_000, 1))
    assert stream.idle_at() == 18_000  # 5000 < 1000 is false
    stream.send(15_300, (15_200, 1))  # 200 < 800; the gap is 5 s: 15_300 + 10_000
    assert closes_at(stream, 16_000) == 25_300


def test_a_single_reading_as_far_from_the_watermark_as_the_rest_of_its_pane_is_complete():
    stream = Stream().send(10_000, (10_000, 1)).send(15_000, (15_000, 1))
    assert stream.send(15_600, (15_500, 1)).idle_at() == 18_600  # 500 < 500


def test_late_readings_count_and_future_ones_do_not():
    def idle_at(*readings):
        stream = Stream().send(10_000, (9900, 1)).beat(13_000)
        return stream.send(20_000, *readings).idle_at()

    assert idle_at((10_200, 1)) == 40_000  # 300 < 800; the gap is 10 s
    assert idle_at((9000, 2), (10_200, 1)) == 23_000  # 1200 < 800
    assert idle_at((10_200, 1), (400_000, 1)) == 40_000


def test_only_a_higher_watermark_changes_the_idle_time():
    stream = Stream().send(10_000, (10_500, 1), (400_000, 1))
    assert stream.idle_at() == 13_000
    stream.send(11_000, (10_400, 1)).send(12_000, (10_500, 2)).send(12_500, (400_001, 1))
    assert stream.idle_at() == 13_000
    stream.send(14_000, (10_900, 1))  # late
    assert stream.idle_at() == 13_000
    assert stream.panes() == {11_000: 3}
    assert stream.oracle.future == 2


def test_a_sensor_of_future_readings_only_is_never_idle():
    stream = Stream(threshold(0)).send(10_000, (400_000, 1)).beat(900_000)
    assert stream.idle_at() == inf
    assert stream.oracle.windows == []


def test_the_future_is_measured_from_the_records_own_arrival():
    stream = Stream().beat(20_000).send(10_000, (310_000, 1), (310_001, 1))
    assert stream.oracle.future == 1


def test_a_records_readings_are_taken_in_order_of_event_time():
    stream = Stream().send(5000, (5000, 2), (1000, 1))
    assert stream.panes() == {2000: 1}
    assert stream.oracle.late == []


def test_readings_that_differ_in_seq_or_microsecond_are_no_repeats():
    stream = Stream().send(5000, (1000, 1), (1000, 1, 1), (1000.001, 1), (1000, 1)).beat(70_000)
    assert stream.panes() == {2000: 3}
    assert stream.oracle.repeated == 1


def test_more_is_expected_by_microseconds():
    assert expects_more([Reading(0, 1), Reading(499_999, 1)], NEVER)
    assert not expects_more([Reading(0, 1), Reading(500_000, 1)], NEVER)


# B. The gap of a device


def test_the_gap_is_the_largest_of_the_last_four():
    stream = Stream()
    seen = []
    for at in (1000, 1900, 2100, 12_999, 13_000, 14_000, 15_000, 16_000):
        stream.send(at)
        seen.append(stream.oracle.hold(stream.oracle.devices[1], unknown=60_000))
    # gaps: -, - (the same second), 1, 10, 1, 1, 1, 1 (10 is now the fifth)
    assert seen == [60_000, 60_000, 3000, 20_000, 20_000, 20_000, 20_000, 3000]


def test_a_duplicate_packet_gives_no_gap():
    stream = Stream().send(1000, packet="a").send(9000, packet="a").send(11_000)
    assert stream.oracle.devices[1].pauses == [10_000]


def test_the_gap_is_that_of_the_device_that_sent_the_record():
    stream = Stream().send(10_000, (10_900, 1)).send(20_000, device=2)
    stream.send(25_000, (11_000, 1), (11_001, 1), device=2)
    assert stream.idle_at() == 35_000  # device 2 has a gap of 5 s


# C. The backlog lane


def live_first(*rules, **more):
    """A closed live pane that ends at 101_000; the device's gap becomes 4 s at 104_000."""
    return Stream(*rules, **more).send(100_000, (100_000, 1)).beat(103_000)


def test_a_session_ends_after_twice_the_gap():
    stream = live_first().send(104_000, (52_000, 3), (50_000, 1), (50_500, 2), (50_000, 1))
    assert stream.beat(111_999).late_panes() == {}
    assert stream.beat(112_000).late_panes() == {51_000: 2, 53_000: 1}
    assert stream.late_panes("w5") == {51_000: 2, 53_000: 3}
    assert stream.oracle.repeated == 1
    assert len(stream.oracle.late) == 4
    assert stream.panes() == {101_000: 1}


def test_a_later_session_knows_nothing_of_the_earlier():
    stream = live_first().send(104_000, (50_000, 1)).beat(112_000)
    stream.send(112_500, (51_000, 1), (50_000, 1)).beat(150_000)
    # 51_000 is closed a second time, and w10 has only the session's readings
    assert [w[1:4] for w in stream.oracle.late_windows if w[1] != "w5"] == [
        ("w1", 51_000, 1), ("w10", 51_000, 1),
        ("w1", 51_000, 1), ("w10", 51_000, 1), ("w1", 52_000, 1), ("w10", 52_000, 2),
    ]  # fmt: skip
    assert stream.oracle.too_late == 0


def test_a_session_ends_before_the_records_own_late_readings():
    stream = live_first().send(104_000, (50_000, 1)).send(112_000, (50_001, 1))
    assert stream.late_panes() == {51_000: 1}
    assert stream.oracle.sensors[1].session.taken == 1


def test_a_full_session_closes_all_panes_but_the_newest():
    stream = live_first(limit=2).send(104_000, (50_000, 1), (52_000, 1))
    assert stream.late_panes() == {}
    stream.send(105_000, (51_000, 1), (50_500, 1), (53_000, 1))
    # 52_000 is in the pane that starts there: the pane 51_000 closes, and up to 52_000 all is late
    assert stream.late_panes() == {51_000: 1}
    assert stream.oracle.too_late == 2
    # taken is 3 now, too late ones included; 53_000 is the newest
    stream.send(106_000, (52_500, 1))
    assert stream.late_panes() == {51_000: 1, 53_000: 1}
    assert stream.oracle.too_late == 3
    stream.send(107_000, (54_000, 1))  # taken is 2
    stream.beat(200_000)
    assert stream.late_panes() == {51_000: 1, 53_000: 1, 54_000: 1, 55_000: 1}
    assert stream.late_panes("w5")[55_000] == 4  # of one session
    assert len(stream.oracle.late) == 7


def test_the_count_of_taken_readings_starts_again_when_panes_close():
    stream = live_first(limit=2).send(104_000, (50_000, 1), (51_000, 1))
    stream.send(105_000, (52_000, 1))  # closes 51_000; taken is 1
    assert stream.send(106_000, (53_000, 1)).late_panes() == {51_000: 1}
    assert stream.send(107_000, (54_000, 1)).late_panes() == {51_000: 1, 52_000: 1, 53_000: 1}


def test_a_session_of_a_device_of_unknown_gap_ends_when_idle():
    stream = live_first().send(104_000, (50_000, 1), device=2)
    assert stream.beat(106_999).late_panes() == {}
    assert stream.beat(107_000).late_panes() == {51_000: 1}


def test_a_session_closes_panes_that_are_older_than_the_late_grace():
    stream = live_first(late_grace=10_000).send(104_000, (50_000, 1)).send(105_000, (69_999, 1))
    stream.send(106_000, (70_000, 1))  # 69_999 - 50_000 is less than 20_000
    assert stream.late_panes() == {}
    stream.send(107_000, (59_999, 1), (71_000, 1))  # 70_000 - 50_000 is not: up to 60_000
    assert stream.late_panes() == {51_000: 1}
    assert stream.oracle.too_late == 1
    stream.send(108_000, (60_000, 1), (80_500, 1))
    assert stream.late_panes() == {51_000: 1}
    stream.send(109_000, (70_500, 1))  # 80_500 - 60_000: up to 70_500, in whole seconds
    assert stream.late_panes() == {51_000: 1, 61_000: 1, 70_000: 1}
    stream.send(110_000, (72_000, 1))  # 80_500 - 70_500
    assert stream.oracle.sensors[1].session.base == 70_500
    stream.beat(200_000)
    assert list(stream.late_panes()) == [51_000, 61_000, 70_000, 71_000, 72_000, 73_000, 81_000]
    assert stream.late_panes("w10")[71_000] == 3  # 70_000 has one
    assert stream.oracle.too_late == 1


def test_the_readings_of_a_sessions_first_record_may_be_far_apart():
    stream = live_first(late_grace=10_000).send(104_000, (10_000, 1), (70_000, 1))
    stream.send(105_000, (20_000, 1), (80_000, 1)).send(106_000, (89_999, 1))
    assert stream.send(107_000, (15_000, 1)).late_panes() == {}  # 89_999 - 70_000
    assert stream.oracle.too_late == 0


def test_the_limit_wins_over_the_late_grace():
    stream = live_first(limit=2, late_grace=10_000)
    stream.send(104_000, (50_000, 1)).send(105_000, (65_000, 1), (70_000, 1))
    stream.send(106_000, (69_500, 1))  # 3 readings, and 70_000 - 50_000
    assert stream.late_panes() == {51_000: 1, 66_000: 1}
    assert stream.oracle.too_late == 1
    assert stream.oracle.sensors[1].session.base == 70_000


def test_the_late_grace_starts_the_count_of_taken_readings_again():
    stream = live_first(limit=3, late_grace=10_000)
    stream.send(104_000, (50_000, 1)).send(105_000, (70_000, 1)).send(106_000, (70_001, 1))
    assert stream.late_panes() == {51_000: 1}
    assert stream.oracle.sensors[1].session.taken == 1


def test_the_limit_is_checked_before_a_records_readings():
    stream = live_first(limit=2).send(104_000, *((50_000 + 1000 * n, 1) for n in range(5)))
    assert stream.late_panes() == {}
    assert stream.beat(112_000).late_panes() == {51_000 + 1000 * n: 1 for n in range(5)}


# D. Reset bounds, durations and timers


@pytest.mark.parametrize(
    ("low", "high", "usual", "expected"),
    [
        (-inf, 40, None, (-inf, 38)),  # towards 0
        (-inf, 40, 20, (-inf, 39)),
        (-inf, 40, 50, (-inf, 40)),  # it is usually beyond the bound
        (-inf, -40, None, (-inf, -40)),  # 0 is beyond the bound
        (-inf, -40, -60, (-inf, -41)),
        (10, inf, None, (10, inf)),
        (10, inf, 30, (11, inf)),
        (-10, inf, None, (-9.5, inf)),
        (20, 40, None, (21, 39)),  # 5 % of 20
        (20, 40, 30, (21, 39)),
        (20, 40, 39.5, (21, 39.975)),  # 40 - 0.05 * 0.5
        (20, 40, 20.5, (20.025, 39)),
        (20, 40, 45, (21, 39)),
        (-inf, inf, 3, (-inf, inf)),
    ],
)
def test_derived_reset_bounds(low, high, usual, expected):
    assert resets(threshold(high, low=low), usual) == pytest.approx(expected)


def test_stated_reset_bounds():
    # the derived bound is 39, and 21
    assert resets(threshold(40, low=20, reset_low=39.5), None) == (39.5, 39.5)
    assert resets(threshold(40, low=20, reset_low=30), None) == (30, 39)
    assert resets(threshold(40, low=20, reset_high=20.5), None) == (20.5, 20.5)
    assert resets(threshold(40, reset_high=45), 39) == (-inf, 45)


def test_hysteresis_towards_zero_until_usual_is_known():
    rules = [threshold(40, clear_after=1)]
    assert each((1000, 41), (2000, 38.5), (3000, 38), rules=rules) == [
        (1000, 0, 1, ""), (3000, 1, 0, ""),
    ]  # fmt: skip


def test_hysteresis_towards_the_usual_value_of_ten_panes():
    rules = [threshold(40, clear_after=1)]
    calm = [(1000 * n, 20) for n in range(1, 11)]
    assert each(*calm, (11_000, 41), (12_000, 39.5), (13_000, 38.5), rules=rules) == [
        (11_000, 0, 1, ""), (13_000, 1, 0, ""),
    ]  # fmt: skip
    # nine and the pane that is judged itself: not known; the reset bound is 38
    assert each(*calm[1:], (11_000, 41), (12_000, 38.5), (13_000, 38.5), rules=rules) == [
        (11_000, 0, 1, ""), (13_000, 1, 0, ""),
    ]  # fmt: skip


def test_the_usual_value_is_that_of_means():
    calm = [(1000 * n, 0, 20) for n in range(1, 11)]  # 10 on average: the reset bound is 38.5
    rules = [threshold(40, clear_after=1)]
    assert each(*calm, (11_000, 41), (12_000, 38.7), (13_000, 38.4), rules=rules) == [
        (11_000, 0, 1, ""), (13_000, 1, 0, ""),
    ]  # fmt: skip


def test_any_reading_meets_a_threshold_and_all_must_be_quiet():
    rules = [threshold(40, low=10, clear_after=1)]
    assert each((1000, 20, 41, 20), (2000, 20, 8.5), (3000, 20), rules=rules) == [
        (1000, 0, 1, ""), (3000, 1, 0, ""),
    ]  # fmt: skip


def test_equal_compares_rounded_readings():
    rules = [threshold(21.000004, low=21.000004, equal=True, clear_after=1)]
    assert each((1000, 20, 21), (2000, 20, 22), rules=rules) == [(1000, 0, 1, ""), (2000, 1, 0, "")]
    assert each((1000, 20, 21.00001), rules=rules) == []


def test_panes_or_seconds_raise():
    rules = [threshold(40, raise_after=3)]
    in_a_row = [(1000, 41), (2000, 41), (3000, 41)]
    assert each(*in_a_row, rules=rules) == [(3000, 0, 1, "")]
    # due at 3000; the value is known to have stood until 2000 only, and at 3000 the pane asks
    assert each((1000, 41), (3000, 41), rules=rules) == [(3000, 0, 1, "")]
    # known to have stood until 3000, whatever the next pane says
    assert each((1000, 41), (4000, 20), rules=rules) == [(3000, 0, 1, "timer")]
    assert each((1000, 41), (2000, 41), (3000, 20), (4000, 20), rules=rules) == []


def test_panes_or_seconds_clear():
    rules = [threshold(40, clear_after=3)]
    panes = [(1000, 41), (2000, 20), (3000, 20), (4000, 20)]
    assert each(*panes, rules=rules)[1:] == [(4000, 1, 0, "")]
    # quiet since 2000: 4000 - 2000 + 1000 are 3 s
    assert each((1000, 41), (2000, 20), (4000, 20), rules=rules)[1:] == [(4000, 1, 0, "")]
    assert each((1000, 41), (2000, 20), (9000, 41), rules=rules)[1:] == [
        (4000, 1, 0, "timer"), (9000, 0, 1, ""),
    ]  # fmt: skip


def test_a_clear_timer_lowers_to_what_is_asked_for_then():
    def warn(after):
        return threshold(30, raise_after=after, clear_after=9)

    critical = threshold(40, 2, clear_after=2, number=1)
    panes = (1000, 45), (2000, 35), (9000, 35)
    # critical: quiet since 2000, due at 3000; the warning is due at 4000, 3000, 2000
    assert each(*panes, rules=[warn(4), critical]) == [
        (1000, 0, 2, ""), (3000, 2, 0, "timer"), (4000, 0, 1, "timer"),
    ]  # fmt: skip
    assert each(*panes, rules=[warn(3), critical]) == [(1000, 0, 2, ""), (3000, 2, 1, "timer")]
    assert each(*panes, rules=[warn(2), critical]) == [(1000, 0, 2, ""), (3000, 2, 1, "timer")]


def test_of_timers_due_at_once_the_highest_level_wins():
    rules = [threshold(30, raise_after=3), threshold(40, 2, raise_after=3, number=1)]
    assert each((1000, 45), (9000, 45), rules=rules) == [(3000, 0, 2, "timer")]


def test_a_value_stands_while_the_sensor_is_idle():
    def stream():  # the pane ends at 11_000; due at 15_000; H = 11_000 + silence - 3000
        return Stream(threshold(40, raise_after=5)).send(10_500, (10_500, 41))

    assert stream().beat(17_499).levels() == []
    assert stream().beat(17_500).levels() == [(15_000, 0, 1, "timer")]
    # its pane's start would be too early, but it was idle until this record
    assert stream().send(17_500, (11_500, 20)).levels() == [(15_000, 0, 1, "timer")]
    # the next pane, 18_000, is quiet: due at 20_000, and H = 18_000 + silence - 3000
    cleared = (20_000, 1, 0, "timer")
    assert cleared not in stream().send(17_499, (17_499, 20)).beat(20_499).beat(22_498).levels()
    assert cleared in stream().send(17_499, (17_499, 20)).beat(20_499).beat(22_499).levels()


def test_a_value_stands_until_no_earlier_pane_can_come():
    stream = Stream(threshold(40, raise_after=5)).send(10_500, (10_500, 41))  # due at 15_000
    # closed until 14_000, and until 15_000; both panes are still open
    assert stream.send(11_000, (15_999, 20)).levels() == []
    assert stream.send(11_001, (16_000, 20)).levels() == [(15_000, 0, 1, "timer")]
    assert stream.panes() == {11_000: 1}


def test_a_value_ahead_of_time_stands_until_now():
    # due at 205_000; 201_000 + silence - 3000 is reached at 17_500
    stream = Stream(threshold(40, raise_after=5)).send(10_500, (200_000, 41))
    assert stream.beat(17_500).beat(204_999).levels() == []
    assert stream.beat(205_000).levels() == [(205_000, 0, 1, "timer")]


def test_a_held_pane_does_not_stand_before_it_is_closed():
    stream = Stream(threshold(40, raise_after=5)).send(10_500, (10_500, 41), (10_510, 41))
    assert stream.beat(70_499).levels() == []
    assert stream.beat(70_500).levels() == [(15_000, 0, 1, "timer")]


def test_the_last_value_of_a_long_packet_stands_later():
    # due at 20_000; H = 16_000 + silence - 3000 - 5000
    stream = Stream(threshold(40, raise_after=5)).send(20_000, (10_500, 20), (15_500, 41))
    assert stream.beat(31_999).levels() == []
    assert stream.beat(32_000).levels() == [(20_000, 0, 1, "timer")]


def test_late_readings_do_not_interrupt_what_stands():
    stream = Stream(threshold(40, raise_after=5)).send(10_500, (10_500, 41))
    stream.send(17_000, (5000, 20)).beat(17_500)
    assert stream.levels() == [(15_000, 0, 1, "timer")]


def test_deltas_raise_by_time_but_not_by_a_timer():
    rules = [delta(abs_delta=5, raise_after=3)]
    assert each((1000, 0), (2000, 9), (4000, 0), rules=rules) == [(4000, 0, 1, "")]
    assert each((1000, 0), (2000, 9), (9000, 9), rules=rules) == []


# E. Lane events


def episodes(stream):
    return sorted((e.level, e.begin, e.end) for e in stream.oracle.sensors[1].told)


WARN, CRITICAL = threshold(30, clear_after=2), threshold(60, 2, clear_after=2, number=1)


def told_live(*rules, limit=10_000):
    """A live warning at 101_000 that lasts; up to 105_000 all is late; the gap is 5 s, later 3."""
    stream = Stream(*(rules or (WARN, CRITICAL)), limit=limit)
    stream.send(100_000, (100_000, 50)).send(105_000, (105_000, 50))
    assert stream.levels() == [(101_000, 0, 1, "")]
    assert stream.oracle.sensors[1].live.closed == 104_000
    return stream.beat(108_000)  # closes 106_000


def test_an_earlier_episode_is_told_late():
    stream = told_live().send(109_000, (50_000, 50), (51_000, 50)).beat(119_000)
    # that it is cut off at 52_000 is no event of its own
    assert stream.late_levels() == [(51_000, 0, 1, 119_000, "")]
    assert episodes(stream) == [(1, 50_000, 52_000), (1, 100_000, inf)]
    assert stream.oracle.events[-1] == (
        1, None, 51_000, "LEVEL", 0, 1, False, True, 119_000, ""
    )  # fmt: skip


def test_an_episode_that_overlaps_a_told_one_is_not_told():
    stream = told_live().send(109_000, (102_000, 50)).beat(119_000)
    assert stream.late_panes() == {103_000: 1}
    assert stream.late_levels() == []


def again(first, ts):
    """The raises of a later session with a warning at `ts`, after one at `first` was told."""
    stream = told_live().send(109_000, (first, 50)).beat(119_000)
    assert [row[:3] for row in stream.late_levels()] == [(first + 1000, 0, 1)]
    stream.send(120_000, (ts, 50)).beat(200_000)
    return [row[:3] for row in stream.late_levels()[1:]]


def test_an_episode_ends_where_its_session_ends():
    assert again(20_000, 20_500) == []  # the told episode is [20_000, 21_000)
    assert again(20_000, 21_000) == [(22_000, 0, 1)]
    assert again(20_000, 19_000) == []  # [19_000, 20_000 + 1000)
    assert again(20_000, 18_000) == [(19_000, 0, 1)]


def test_a_short_gap_between_told_episodes_is_covered():
    # the live warning begins at 100_000
    assert again(39_000, 60_000) == [(61_000, 0, 1)]  # [39_000, 40_000): 60 s before it
    assert again(40_000, 60_000) == []
    assert again(40_000, 38_000) == [(39_000, 0, 1)]  # [38_000, 40_000)


def test_a_gap_counts_only_between_episodes_of_the_level():
    # a told critical [40_000, 41_000), 59 s before the live warning: no critical follows it
    stream = told_live().send(109_000, (40_000, 70)).beat(119_000)
    stream.send(120_000, (60_000, 70)).beat(200_000).send(201_000, (50_000, 50)).beat(300_000)
    assert [row[:3] for row in stream.late_levels()] == [(41_000, 0, 2), (61_000, 0, 2)]


def test_an_episode_of_a_day_ago_is_forgotten():
    def twice(ts):  # closed until 100_001_000, a day before which is 13_601_000
        stream = Stream(WARN).send(100_000_000, (100_000_000, 20)).beat(100_003_000)
        stream.send(100_004_000, (ts, 50)).beat(100_100_000)
        stream.send(100_101_000, (ts, 50)).beat(100_500_000)
        return [row[:3] for row in stream.late_levels()]

    assert twice(13_600_000) == [(13_601_000, 0, 1)] * 2
    assert twice(13_601_000) == [(13_602_000, 0, 1)]


def test_what_begins_after_the_last_reading_was_late_does_not_count():
    def late(*last):
        stream = Stream(WARN).send(100_000, (100_000, 20)).beat(103_000)
        # [60_000, 101_000 + 40_000); closed until 101_000
        stream.send(104_000, (60_000, 50), (100_500, 50)).send(105_000, (101_000, 50)).beat(108_000)
        assert stream.levels() == [(102_000, 0, 1, "")]
        for arrival, ts in last:
            stream.send(arrival, (ts, 50))
        return [row[:3] for row in stream.beat(200_000).late_levels()]

    assert late() == [(61_000, 0, 1)]
    # known until 102_000 now, and the live episode begins at 101_000
    assert late((109_000, 70_000)) == []
    # a full session closes panes before the readings of the record are taken
    stream = Stream(WARN, limit=2).send(100_000, (100_000, 20)).beat(103_000)
    stream.send(104_000, (99_000, 50), (100_500, 50)).send(105_000, (101_000, 50)).beat(108_000)
    stream.send(109_000, (101_500, 50))
    assert stream.late_levels() == [(100_000, 0, 1, 109_000, "")]


def test_a_higher_level_is_told_in_spite_of_a_told_lower_one():
    stream = told_live().send(109_000, (102_000, 70), (103_000, 50)).beat(119_000)
    # one quiet pane does not lower it; [102_000, 104_000 + 1000)
    assert stream.late_levels() == [(103_000, 0, 2, 119_000, "")]
    assert episodes(stream) == [(1, 100_000, inf), (2, 102_000, 104_000)]


def test_a_lower_level_is_not_told_beneath_a_told_higher_one():
    stream = Stream(WARN, CRITICAL).send(100_000, (100_000, 70)).send(105_000, (105_000, 70))
    stream.beat(108_000).send(109_000, (102_000, 50)).beat(119_000)
    assert stream.late_levels() == []


def test_a_late_end_reaches_as_far_as_the_last_panes_were_apart():
    def late(*starts):
        stream = told_live().send(109_000, *((ts, 50) for ts in starts)).beat(119_000)
        return [row[:3] for row in stream.late_levels()]

    assert late(99_000) == []  # [99_000, 100_000 + 1000)
    assert late(98_000) == [(99_000, 0, 1)]  # [98_000, 99_000 + 1000)
    assert late(96_000, 98_000) == []  # [96_000, 99_000 + 2000)


def test_the_changes_of_an_incident_are_told_or_none_is():
    # critical at 51_000, quiet at 52_000 and 53_000: a warning; quiet at 54_000, 55_000: normal
    stream = told_live().send(
        109_000, (50_000, 70), (51_000, 50), (52_000, 50), (53_000, 20), (54_000, 20)
    )
    assert [row[:3] + row[4:] for row in stream.beat(119_000).late_levels()] == [
        (51_000, 0, 2, ""), (53_000, 2, 1, ""), (55_000, 1, 0, ""),
    ]  # fmt: skip
    assert episodes(stream) == [(1, 53_000, 55_000), (1, 100_000, inf), (2, 50_000, 53_000)]
    # the same beneath a live critical that lasts: nothing
    live = Stream(WARN, CRITICAL).send(40_000, (40_000, 70)).send(110_000, (110_000, 70))
    live.beat(113_000).send(
        114_000, (50_000, 70), (51_000, 50), (52_000, 50), (53_000, 20), (54_000, 20)
    )
    assert live.beat(500_000).late_levels() == []
    assert len(live.late_panes()) == 5


def test_between_lane_panes_the_value_stands_too():
    slow = threshold(30, raise_after=3, clear_after=2)
    stream = Stream(slow).send(100_000, (100_000, 20)).beat(103_000)
    stream.send(104_000, (50_000, 50), (60_000, 20), (70_000, 20)).beat(112_000)
    # raised at 53_000; quiet since 61_000: due at 62_000
    assert stream.late_levels() == [
        (53_000, 0, 1, 112_000, "timer"), (62_000, 1, 0, 112_000, "timer"),
    ]  # fmt: skip


def test_the_lane_has_no_timers_by_arrival():
    slow = threshold(30, raise_after=3)
    stream = Stream(slow).send(100_000, (100_000, 20)).beat(103_000).send(104_000, (50_000, 50))
    assert stream.beat(500_000).late_levels() == []


def test_an_episode_that_goes_on_after_a_full_session_closed_panes():
    stream = Stream(WARN, CRITICAL, limit=2)
    stream.send(100_000, (100_000, 20)).beat(103_000)
    stream.send(104_000, (50_000, 50), (51_000, 50), (52_000, 50))
    stream.send(105_000, (53_000, 50))  # closes 51_000 and 52_000
    assert stream.late_levels() == [(51_000, 0, 1, 105_000, "")]
    assert episodes(stream) == [(1, 50_000, inf)]
    stream.beat(200_000)  # 105_000 + 2 * 4000 have long passed
    assert stream.late_levels()[1:] == [(54_000, 1, 0, 200_000, "late_end")]
    assert episodes(stream) == [(1, 50_000, 54_000)]


def test_the_lane_has_its_own_usual_and_streaks():
    rule = threshold(40, raise_after=2, clear_after=1)
    stream = Stream(rule).send(100_000, (100_000, 41)).beat(103_000)
    # one pane in each lane; the live value stands: 101_000 + (104_000 - 100_000) - 3000
    stream.send(104_000, (50_000, 41)).beat(112_000)
    assert stream.levels() == [(102_000, 0, 1, "timer")]
    assert stream.late_levels() == []
    # ten calm live panes at 35: reset at 39.75; in the lane at 38
    calm = Stream(threshold(40, clear_after=1))
    for at in range(90_000, 100_000, 1000):
        calm.send(at, (at, 35))
    calm.send(100_000, (100_000, 41)).send(101_000, (101_000, 39)).beat(104_000)
    assert calm.levels() == [(101_000, 0, 1, ""), (102_000, 1, 0, "")]
    calm.send(105_000, (50_000, 41), (51_000, 39), (52_000, 37)).beat(200_000)
    assert [row[:3] for row in calm.late_levels()] == [(51_000, 0, 1), (53_000, 1, 0)]


def test_an_incident_is_told_by_its_highest_level():
    # a warning is told already, but no critical level
    stream = told_live().send(109_000, (102_000, 50), (103_000, 70)).beat(119_000)
    assert [row[:3] for row in stream.late_levels()] == [(103_000, 0, 1), (104_000, 1, 2)]
    # the warning that lasts, and the two of the lane
    assert episodes(stream) == [(1, 100_000, inf), (1, 102_000, 104_000), (2, 103_000, 104_000)]


def test_of_two_incidents_of_one_closing_each_is_decided():
    # 51_000 to 53_000 is told; 103_000 overlaps the live warning
    stream = told_live().send(109_000, (50_000, 50), (51_000, 20), (52_000, 20), (102_000, 50))
    assert [row[:3] for row in stream.beat(119_000).late_levels()] == [
        (51_000, 0, 1), (53_000, 1, 0),
    ]  # fmt: skip


def test_a_told_incident_that_goes_on_is_told_on():
    # the first closing has the pane 98_000 only: [97_000, 98_000)
    stream = told_live(limit=2).send(109_000, (97_000, 50), (98_000, 50))
    stream.send(110_000, (99_000, 50))
    assert stream.late_levels() == [(98_000, 0, 1, 110_000, "")]
    # it is told to its end, though it reaches the live warning now
    assert stream.beat(200_000).late_levels()[1:] == [(100_000, 1, 0, 200_000, "late_end")]
    assert episodes(stream) == [(1, 97_000, 100_000), (1, 100_000, inf)]
    # in one closing: [97_000, 100_000 + 1000)
    stream = told_live().send(109_000, (97_000, 50), (98_000, 50), (99_000, 50))
    assert stream.beat(200_000).late_levels() == []


def test_a_cut_after_a_change_of_the_same_closing_is_no_event():
    stream = told_live(limit=2).send(109_000, (50_000, 50), (51_000, 50))
    stream.send(110_000, (52_000, 70)).beat(200_000)
    assert stream.late_levels() == [(51_000, 0, 1, 110_000, ""), (53_000, 1, 2, 200_000, "")]
    assert episodes(stream)[:1] == [(1, 50_000, 53_000)]
    assert episodes(stream)[-1] == (2, 52_000, 53_000)


def test_an_incident_that_was_not_told_is_not_told_later():
    stream = (
        Stream(WARN, limit=2)
        .send(100_000, (99_000, 50), (100_000, 20))
        .send(101_000, (101_000, 20))
    )  # a live warning [99_000, 102_000)
    stream.send(110_000, (110_000, 20)).send(111_000, (100_000, 50), (100_500, 50))
    stream.send(112_000, (104_000, 50), (106_000, 50)).send(113_000, (107_000, 50)).beat(300_000)
    assert stream.levels() == [(100_000, 0, 1, ""), (102_000, 1, 0, "")]
    assert stream.late_levels() == []
    assert list(stream.late_panes()) == [101_000, 105_000, 107_000, 108_000]


def test_an_incident_is_decided_again_when_it_is_raised_above_its_peak():
    # the first closing has the pane 102_000, beneath the live warning
    stream = told_live(limit=2).send(109_000, (101_000, 50), (102_000, 50))
    stream.send(110_000, (103_000, 70)).beat(200_000)
    assert stream.late_levels() == [(104_000, 1, 2, 200_000, "")]
    assert episodes(stream) == [(1, 100_000, inf), (2, 103_000, 104_000)]


def test_what_follows_the_raise_that_is_told_is_told():
    stream = told_live(limit=2).send(109_000, (101_000, 50), (102_000, 50))
    stream.send(110_000, (103_000, 70), (104_000, 50))  # closes 102_000
    assert stream.late_levels() == []
    stream.send(111_000, (105_000, 50))  # closes 103_000 and 104_000
    assert stream.late_levels() == [(104_000, 1, 2, 111_000, "")]
    stream.beat(200_000)  # two quiet panes: a warning, and cut off there
    assert stream.late_levels()[1:] == [(106_000, 2, 1, 200_000, "")]
    assert episodes(stream)[1:] == [(1, 106_000, 106_000), (2, 103_000, 106_000)]


def test_a_raise_is_not_told_beneath_a_told_one_of_its_level():
    def late(ts):
        stream = Stream(WARN, CRITICAL, limit=2).send(100_000, (100_000, 50))
        stream.send(103_000, (103_000, 70)).send(105_000, (105_000, 70)).beat(108_000)
        assert stream.levels() == [(101_000, 0, 1, ""), (104_000, 1, 2, "")]
        # the session's warning begins at 101_000, and is not told; its critical at `ts`
        stream.send(109_000, (101_000, 50), (101_500, 50)).send(110_000, (101_999, 50))
        return stream.send(111_000, (ts, 70), (104_000, 20)).beat(200_000).late_levels()

    assert late(103_000) == []
    assert late(102_000) == []  # it lasts to 105_000 + 1000


def test_an_episode_begins_with_the_pane_that_raised_it():
    stream = Stream(threshold(30, raise_after=3))
    for at in range(100_000, 105_000, 1000):
        stream.send(at, (at, 50))
    assert stream.levels() == [(103_000, 0, 1, "")]
    assert episodes(stream) == [(1, 102_000, inf)]


def test_episodes_overlap_without_their_streaks():
    def late(*starts):  # the live warning is raised at 113_000 and begins at 112_000
        stream = Stream(threshold(30, raise_after=3)).send(100_000, (99_999, 20))
        for at in range(110_000, 113_000, 1000):
            stream.send(at, (at, 50))
        stream.beat(115_000).send(116_000, *((at, 50) for at in starts)).beat(200_000)
        return [row[:3] for row in stream.late_levels()]

    assert late(108_000, 109_000, 110_000) == [(111_000, 0, 1)]  # [110_000, 111_000 + 1000)
    assert late(109_000, 110_000, 111_000) == []  # [111_000, 112_000 + 1000)


def test_the_episode_of_a_timer_begins_a_second_before_it():
    stream = Stream(threshold(40, raise_after=5)).send(10_500, (10_500, 41)).beat(17_500)
    assert stream.levels() == [(15_000, 0, 1, "timer")]
    assert episodes(stream) == [(1, 14_000, inf)]


def test_told_episodes():
    told, lasting = [], {}

    def found():
        return [(e.level, e.begin, e.end) for e in told]

    remember(told, lasting, Change(5000, 0, 1))
    remember(told, lasting, Change(8000, 1, 2))
    assert found() == [(1, 4000, inf), (2, 7000, inf)]
    remember(told, lasting, Change(9000, 2, 1))
    assert found() == [(1, 4000, inf), (2, 7000, 9000)]
    remember(told, lasting, Change(12_000, 1, 0))
    assert found() == [(1, 4000, 12_000), (2, 7000, 9000)]
    remember(told, lasting, Change(20_000, 0, 2))
    remember(told, lasting, Change(22_000, 2, 1))
    assert found()[2:] == [(2, 19_000, 22_000), (1, 22_000, inf)]


# No data


def packets(*gaps, sensor=False, **more):
    """Records of device 1, the first at 0; the gaps are seconds."""
    stream = Stream(**more)
    for n in range(len(gaps) + 1):
        at = 1000 * sum(gaps[:n])
        stream.send(at, *[(at, 1)] * sensor)
    return stream


def silent_after(*gaps, **more):
    """After how many seconds of silence the device is silent, or None."""
    found = packets(*gaps, **more).beat(10**12).silences()
    assert [row[:2] + row[3:] for row in found] == [(None, 1, "begin")] * len(found)
    return found[0][2] - sum(gaps) if found else None


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ((), None),
        ((20,), None),
        ((100, 105), 525),  # 5 % of 100
        ((106, 100), None),
        ((1, 2), 30),  # 1 s apart; 5 * 2 are less than 30
        ((1, 3), None),
        ((100, 125, 110), 625),  # 25 % of 100
        ((100, 126, 110), None),
        ((1, 3, 2), 30),  # 2 s apart
        ((1, 4, 2), None),
        ((8, 8, 9, 8, 10, 8, 8), 50),
        ((8, 8, 9, 8, 11, 8, 8), None),
        ((20, 20, 20, 99, 20, 20, 20), None),
        ((20, 20, 20, 99, 20, 20, 20, 20), 495),  # one of eight may differ
        ((20, 20, 20, 99, 20, 20, 20, 98), None),
        ((14, 14, 28, 20, 20, 20, 20, 20), 140),  # 20 / 1.35 - 1 is 13.8; 20 * 1.35 + 1 is 28
        ((28, 28, 14, 20, 20, 20, 20, 20), 140),
        ((14, 29, 20, 20, 20, 20, 20, 20), 145),
        ((13, 29, 20, 20, 20, 20, 20, 20), None),
        ((20, 20, 37, 43, 57, 63, 20, 20), 315),  # two and three times 20, give or take 3
        ((20, 20, 36, 43, 57, 63, 20, 20), 315),
        ((20, 20, 36, 44, 57, 63, 20, 20), None),
        ((20, 20, 37, 43, 56, 64, 20, 20), None),
        ((10, 25, 10, 25, 10, 25, 25, 25), None),  # the fourth is 25: 10 is too short
        ((10, 10, 10, 10, 30, 30, 30, 30), 150),  # the fourth is 10: 30 is three times that
        ((5, 300, 7, 20, 20, 20, 20, 20, 20, 20, 20), 100),  # the last eight
        ((20, 99, 20, 20, 20, 20, 20, 20), 495),
        ((20, 99, 20, 20, 20, 20, 20, 20, 99), None),
        ((5, 60, 300, 7, 31, 900, 2, 90, 400, 15), None),
    ],
)
def test_only_a_sender_with_a_rhythm_falls_silent(gaps, expected):
    assert silent_after(*gaps) == expected


def test_a_device_falls_silent_at_a_heartbeat():
    stream = packets(20, 20, sensor=True).beat(139_999)
    assert stream.silences() == []
    assert stream.beat(140_000).silences() == [(None, 1, 140, "begin")]  # 40 + 5 * 20
    # its sensor does not: it is the device that sends nothing
    assert stream.beat(900_000).send(900_000, (900_000, 1)).silences()[1:] == [
        (None, 1, 900, "end")
    ]
    assert stream.oracle.devices[1].gaps == [20, 20]
    assert stream.oracle.sensors[1].gaps == [20, 20]


def test_a_sensor_falls_silent_when_its_device_sends_without_it():
    stream = packets(20, 20, sensor=True)
    for at in range(60_000, 139_000, 20_000):
        stream.send(at)
    assert stream.silences() == []
    assert stream.beat(140_000).silences() == []
    assert stream.send(145_000).silences() == [(1, None, 140, "begin")]
    assert stream.send(150_000, (150_000, 1)).silences()[1:] == [(1, None, 150, "end")]


def test_a_sensor_is_waited_for_from_the_return_of_its_device():
    def back(*after):
        stream = packets(20, 20, sensor=True)
        for at in (900, 920, 940, 960, 980, *after):
            stream.send(1000 * at)
        return stream.silences()[2:]  # the device: 140 to 900

    assert back() == []
    assert back(1000) == [(1, None, 1000, "begin")]  # 900 + 5 * 20


def test_a_gap_that_the_devices_silence_is_part_of_does_not_count():
    stream = packets(20, 20, sensor=True).send(900_000).send(920_000, (920_000, 1))
    assert stream.oracle.sensors[1].gaps == [20, 20]
    assert stream.send(930_000, (930_000, 1)).oracle.sensors[1].gaps == [20, 20, 10]
    # it counts for a sensor that states when it is silent
    stream = packets(20, 20, sensor=True, sensor_silence={1: 10_000})
    stream.send(900_000).send(920_000, (920_000, 1))
    assert stream.oracle.sensors[1].gaps == [20, 20, 880]


def test_two_silences_become_part_of_the_rhythm():
    # silent from 160 s to 1060 s and from 1180 s to 3080 s: 1000 s and 2000 s without data
    stream = packets(20, 20, 20).send(1_060_000).send(1_080_000).send(3_080_000)
    ends = [(None, 1, at, what) for at, what in
            ((160, "begin"), (1060, "end"), (1180, "begin"), (3080, "end"))]  # fmt: skip
    assert stream.silences() == ends
    assert stream.oracle.devices[1].silences == (1000, 2000)
    assert stream.oracle.devices[1].gaps == [20, 20, 20, 20]
    # twice the shorter one
    assert stream.beat(5_079_999).silences() == ends
    assert stream.beat(5_080_000).silences() == [*ends, (None, 1, 5080, "begin")]
    # the next one is 3000 s: twice 2000 s
    stream.send(6_080_000).beat(10_000_000)
    assert stream.silences()[5:] == [(None, 1, 6080, "end")]
    assert stream.beat(10_080_000).silences()[6:] == [(None, 1, 10_080, "begin")]


def test_silences_count_up_to_half_a_day():
    stream = packets(20, 20).send(100_000_000).send(100_020_500).send(200_000_000)
    assert stream.oracle.devices[1].silences == (99_960, 99_979)  # in whole seconds
    assert stream.beat(286_399_999).silences()[4:] == []
    assert stream.beat(286_400_000).silences()[4:] == [(None, 1, 286_400, "begin")]


def test_a_device_that_states_when_it_is_silent():
    assert silent_after(device_silence={1: 5}) == 5
    assert silent_after(device_silence={2: 5}) is None
    assert silent_after(20, 20, device_silence={1: 5000}) == 5000
    assert silent_after(20, 20, device_silence={1: 0}) is None
    assert silent_after(20, 20, sensor_silence={1: 5}) == 100  # it is of a sensor
    stream = Stream(device_silence={1: 5}).send(10_500).send(15_500)  # before it is heard
    assert stream.silences() == [(None, 1, 15.5, "begin"), (None, 1, 15.5, "end")]
    # past silences play no part
    stream.send(30_000).send(40_000)
    assert stream.silences()[2:] == [
        (None, 1, 20.5, "begin"), (None, 1, 30, "end"),
        (None, 1, 35, "begin"), (None, 1, 40, "end"),
    ]  # fmt: skip


def test_a_sensor_that_states_when_it_is_silent():
    def stream(seconds):
        return packets(20, 20, sensor=True, sensor_silence={1: seconds})

    found = Stream(sensor_silence={1: 7}).send(1000, (1000, 1)).beat(7999)
    assert found.silences() == []
    assert found.beat(8000).silences() == [(1, None, 8, "begin")]  # it was heard once
    assert found.send(9000).send(9500, (9500, 1)).silences()[1:] == [(1, None, 9.5, "end")]
    assert stream(0).send(60_000).send(100_000).send(190_000).silences() == []
    # whatever its device does: that is silent from 140 s to 900 s
    found = stream(870).send(900_000).beat(909_999)
    assert found.silences()[2:] == []
    assert found.beat(910_000).silences()[2:] == [(1, None, 910, "begin")]


def test_the_present_setting_counts():
    stream = packets(20, 20, sensor=True)
    stream.oracle.sensor_silence[1] = 7
    assert stream.beat(50_000).silences() == [(1, None, 47, "begin")]


# Deviations from predictions


def known_band(count=200, until=DAY, **more):
    """A band after errors of 1.0, the next of which is due at `until`."""
    band = Band(**more)
    for n in range(count):
        assert band.compare(until * n // count, 1.0) is None
    assert (band.usual, band.largest, band.off) == (1, 1, False)
    return band


def test_a_band_is_known_after_200_errors_and_a_day():
    assert known_band().compare(DAY, 1.0) == 3  # 1.5 * 2 * 1
    assert known_band().compare(DAY - 1, 1.0) is None
    assert known_band(199).compare(DAY, 1.0) is None


def test_an_error_beyond_the_band_is_a_deviation():
    def off(*errors, **more):
        band = known_band()
        for n, e in enumerate(errors):
            band.compare(DAY + 60_000 * n, e, **more)
        return band.off

    assert not off(3.0)
    assert off(3.01)
    assert off(3.01, 3.1)  # 0.0475 % * 2.01 more: the band is 3.028 wide
    assert not off(3.01, 3.02)
    assert not off(3.01, watched=False)
    early = known_band(199)
    early.compare(DAY, 1000)
    assert not early.off


def test_the_usual_error_is_near_the_highest_ones():
    band = Band()
    usual = []
    for e in (1, 5, 2):
        band.compare(0, e)
        usual.append(band.usual)
    # 1 + 0.95 * (5 - 1) / 2; 2.9 - 0.05 * (2.9 - 2) / 3
    assert usual == pytest.approx([1, 2.9, 2.885])
    band.count = 9999
    band.compare(0, 3.885)  # never less than 0.002
    assert band.usual == pytest.approx(2.885 + 0.002 * 0.95)
    assert band.count == 10_000


def test_a_large_error_counts_ten_times_the_usual_one():
    band = known_band()
    band.compare(DAY, 1000)
    assert band.usual == pytest.approx(1 + 0.95 * 9 / 201)
    # a band that is not known takes all of it
    band = known_band(199)
    band.compare(DAY, 1000)
    assert band.usual == pytest.approx(1 + 0.95 * 999 / 200)


def test_the_largest_error_fades_in_twenty_days():
    def band(days):
        found = known_band(99)
        found.compare(DAY, 21.0)
        found.count = 200
        assert found.usual == pytest.approx(1.19)  # 1 + 0.95 * 20 / 100
        return found.compare(DAY * (1 + days), 0)

    assert band(0) == 31.5
    assert band(1) == pytest.approx(1.5 * 19.95)
    assert band(10) == pytest.approx(1.5 * 10.5)
    assert band(20) == pytest.approx(3 * 1.19)
    assert band(40) == pytest.approx(3 * 1.19)


def test_an_error_as_large_as_the_faded_largest_one_takes_its_place():
    band = known_band(99)
    band.compare(0, 20.0)
    band.compare(10 * DAY, 9.99)
    assert (band.largest, band.largest_at) == (20, 0)
    band.compare(10 * DAY, 10.0)
    assert (band.largest, band.largest_at) == (10, 10 * DAY)


def test_a_deviation_widens_the_band_when_it_is_over():
    band = known_band()
    for n, e in enumerate((3.1, 3.6, 3.5)):
        band.compare(DAY + n, e)
        assert (band.off, band.largest, band.worst) == (True, 1, max(3.1, e, band.worst))
    band.compare(DAY + 3, 1.0)
    assert (band.off, band.largest, band.largest_at) == (False, 3.6, DAY + 3)
    assert band.worst == 0


def test_the_largest_error_grows_at_most_fourfold():
    band = known_band()
    band.compare(DAY, 50.0)  # usual is 1.0425 now
    assert band.off
    usual = band.usual
    band.compare(DAY + 1, 1.0)
    assert band.largest == pytest.approx(4 * usual)
    # within two days of the first none follows, and the band still grows
    assert band.compare(DAY + 1, 100.0) == pytest.approx(6 * usual)
    assert not band.off
    assert band.largest == pytest.approx(16 * usual)
    # without a band it takes all of it
    band = known_band(199)
    band.compare(DAY, 50.0)
    assert band.largest == 50
    zero = Band(errors=1, span=0)
    zero.compare(0, 0.0)
    zero.compare(1, 50.0)  # beyond a band of 0: a deviation
    assert (zero.off, zero.largest) == (True, 0)
    zero.compare(2, 0.0)  # the usual error is 50 * 0.95 / 2 now: 23.75
    assert zero.largest == 50
    zero = Band(errors=1, span=0)
    zero.compare(0, 0.0)
    zero.compare(1, 50.0, watched=False)
    assert zero.largest == 50


def test_deviations_begin_two_days_apart():
    def off(at):
        band = known_band()
        band.compare(DAY, 3.5)
        band.compare(DAY + 1, 1.0)
        assert not band.off
        band.compare(DAY + at, 20.0)
        return band.off

    assert not off(2 * DAY - 1)
    assert off(2 * DAY)
    band = known_band()
    for n in range(100):  # one that lasts is not cut
        band.compare(DAY + n * DAY // 20, 1000.0)
        assert band.off
    assert band.told_at == DAY


def predicted(values, *rules, until=800_000, **more):
    """A reading every 10 s, of 10 but for {ts: value}: each pane is compared alone. With the
    period of a minute the panes 661_000, 721_000 and 781_000 are due; the first sets the band."""
    stream = Stream(*rules, errors=1, span=0, **more)
    for at in range(0, until, 10_000):
        stream.send(at + 500, (at, values.get(at, 10)))
    return stream


def errors(stream):
    band = stream.oracle.sensors[1].band
    return band.count, band.usual


def test_a_deviation_from_the_predictions():
    # the error 1 makes a band of 3
    assert predicted({660_000: 11, 720_000: 13}).deviations() == []
    stream = predicted({660_000: 11, 720_000: 13.1})
    assert stream.deviations() == [(721_000, 1), (781_000, 0)]
    assert stream.oracle.sensors[1].band.count == 3
    assert predicted({660_000: 11, 730_000: 99}).deviations() == []  # that pane is not due
    assert predicted({660_000: 11, 720_000: 99}, deviations=False).deviations() == []


def test_a_deviation_also_ends_when_they_are_switched_off():
    stream = predicted({660_000: 11, 720_000: 99}, until=740_000)
    stream.oracle.deviations = False
    for at in range(740_000, 800_000, 10_000):
        stream.send(at + 500, (at, 99))
    assert stream.deviations() == [(721_000, 1), (781_000, 0)]


def test_an_error_has_a_limit():
    assert errors(predicted({660_000: 1e12}, until=700_000)) == (1, LARGEST)


def test_an_abnormal_pane_is_not_compared():
    assert errors(predicted({660_000: 11}, until=700_000)) == (1, 1)
    for rule in (
        threshold(10.5, raise_after=99),  # its condition is met
        threshold(11, low=11, equal=True, raise_after=99),
        delta(abs_delta=1),  # it calls for a level
    ):
        stream = predicted({660_000: 11}, rule, until=700_000)
        # nor are the panes that follow it, which are not due
        assert errors(stream) == (0, 0)
        assert errors(predicted({660_000: 10}, rule, until=700_000)) == (1, 0)
    # a delta that does not call for a level yet
    assert errors(predicted({660_000: 11}, delta(abs_delta=1, raise_after=99), until=700_000))[0]


def test_a_pane_before_the_level_is_normal_again_is_abnormal():
    rule = threshold(40, clear_after=30)  # quiet from 621_000 on: normal at the pane 651_000
    assert errors(predicted({610_000: 41}, rule, until=700_000)) == (1, 0)
    # quiet from 641_000 on: normal at the pane 671_000
    assert errors(predicted({630_000: 41}, rule, until=700_000)) == (0, 0)
    # quiet from 631_000 on: normal at 660_000, before the next pane
    stream = predicted({620_000: 41}, rule, until=700_000)
    assert stream.levels()[1:] == [(660_000, 1, 0, "timer")]
    assert errors(stream) == (1, 0)
    # a pane at which it becomes normal is compared
    rule = threshold(40, clear_after=31)
    stream = predicted({620_000: 41}, rule, until=700_000)
    assert stream.levels()[1:] == [(661_000, 1, 0, "")]
    assert errors(stream) == (1, 0)


def test_a_prediction_of_a_minute_with_an_abnormal_pane_is_not_compared():
    def compared(at):
        stream = predicted({at: 41}, threshold(40, clear_after=1), until=800_000)
        assert [p[1] for p in stream.oracle.predictions][:3] == [60_000, 120_000, 180_000]
        return errors(stream)[0]

    assert compared(-1) == 3
    assert compared(60_000) == 2  # 60_000 to 120_000: it ends at 61_000
    assert compared(110_000) == 2  # it is normal from 112_000 on
    assert compared(240_000) == 3  # not due yet
    # up to the pane that ends with the minute
    stream = Stream(threshold(40, clear_after=1), errors=1, span=0)
    for at in range(59_000, 800_000, 60_000):
        stream.send(at + 500, (at, 41 if at in (59_000, 600_000) else 10))
    assert 60_000 not in stream.oracle.sensors[1].made
    assert 120_000 in stream.oracle.sensors[1].made


def test_late_panes_are_not_abnormal():
    stream = predicted({660_000: 11}, threshold(40), until=650_000)
    stream.send(650_000, (85_000, 41), (650_000, 10)).beat(670_000)
    for at in range(660_000, 800_000, 10_000):
        stream.send(at + 20_000, (at, 10))
    assert stream.late_levels() != []
    assert errors(stream)[0] == 3


# F. Rollups in the end


def test_final_rollups_have_every_distinct_stored_reading():
    stream = Stream(limit=1).send(100_000, (100_000, 10), (90_000, 20, 1), packet="a")
    stream.send(101_000, (100_500, 30), packet="a").beat(104_000)  # a duplicate
    stream.send(105_000, (70_000, 1), (75_000, 2.000001), (500_000, 7)).send(106_000, (70_000, 5))
    stream.send(107_000, (75_000, 2.000002), (75_000, 2.1)).beat(900_000)
    o = stream.oracle
    assert (o.duplicates, o.future, o.too_late, len(o.late)) == (1, 1, 1, 5)
    final = o.final_rollups()
    # 70_000: 1 and 5; 75_000: 2 (once) and 2.1; 90_000: 20; 100_000: 10; 100_500: 30
    count, mean, low, high, last = final[60_000, 1, 60_000]
    assert (count, low, high, last) == (7, 1, 30, 30)
    assert mean == pytest.approx(70.1 / 7)
    assert final[60_000, 1, 480_000] == (1, 7, 7, 7, 7)
    assert set(final) == {
        (60_000, 1, 60_000), (60_000, 1, 480_000), (300_000, 1, 0), (300_000, 1, 300_000),
        (3_600_000, 1, 0),
    }  # fmt: skip
    assert final[3_600_000, 1, 0][0] == 8
    assert o.stale_needed() == set(final)


def test_a_live_bucket_needs_no_correction():
    o = Stream().send(100_000, (100_000, 10)).send(130_000, (130_000, 10)).beat(9_000_000).oracle
    assert len(o.rollups) == 4
    assert o.stale_needed() == set()


# Random streams

RULES = [
    threshold(36, low=10, clear_after=3, sensor=1),
    threshold(42, 2, low=5, raise_after=2, clear_after=2, number=1, forecast_after=2, sensor=1),
    threshold(38, raise_after=4, clear_after=2, number=2, sensor=2),
    threshold(21, low=21, equal=True, number=3, sensor=2),
    delta(abs_delta=20, sensor=1, min_readings=2, clear_after=2),
    threshold(44, 2, raise_after=2, clear_after=1, number=4, sensor=2, reset_high=40),
]


def random_stream(seed):
    """Records whose readings of one sensor all differ in time."""
    random = Random(seed)
    now = 1_000_000
    records: list[Any] = []
    backlog = random.random() < 0.6
    for number in range(random.randint(1, 150)):
        now += random.choice([1000] * 12 + [0, 1, 300, 2999, 3000, 9000, 31_000])
        arrival = now - random.choice([0, 0, 0, 500])
        if random.random() < 0.1:
            records.append((arrival,))
            continue
        times, readings = set(), []
        for _ in range(random.choice([0, 1, 1, 2, 3, 8])):
            skews = [0, 0, 0, -1, -400, -1000, -2500, 700, 300_001]
            skew = random.choice([*skews, *[-7000, -9000, -20_000, -60_500] * (4 * backlog)])
            at = arrival + skew + random.choice([0, 0, 10, 0.5, 400])
            sensor, value = random.randint(1, 2), random.choice([20, 21, 35, 37, 41, 45, 8, 0, 50])
            if (sensor, at) not in times:
                times.add((sensor, at))
                readings.append((sensor, at, float(value), random.choice([0, 0, 1])))
        packet_id = str(random.choice([number, number, number, number, number - 1]))
        records.append((arrival, random.choice([1, 1, 1, 2]), packet_id, readings))
    return records


def found(records, beats=False):
    silence = {"sensor_silence": {2: 4}, "device_silence": {2: 20}}
    o = Oracle(1000, 3000, RULES, predict_ms=5000, limit=7, **silence)
    for record in records:
        o.record(*record)
        if beats:
            o.record(record[0])
            o.record(record[0])
    return SimpleNamespace(
        windows=sorted(o.windows), late_windows=sorted(o.late_windows), late=sorted(o.late),
        rollups=sorted(o.rollups), predictions=sorted(o.predictions),
        forecasts=sorted(o.forecasts), events=sorted(o.events, key=str), final=o.final_rollups(),
        stale=o.stale_needed(),
        counts=(o.future, o.duplicates, o.repeated, o.too_late),
    )  # fmt: skip


def ended(records):
    return [*records, (max(record[0] for record in records) + 700_000,)]


@pytest.mark.parametrize("seed", range(60))
def test_the_order_inside_a_record_means_nothing(seed):
    records, random = ended(random_stream(seed)), Random(seed)
    mixed = [(*r[:3], random.sample(r[3], len(r[3]))) if len(r) > 1 else r for r in records]
    assert found(mixed) == found(records)


@pytest.mark.parametrize("seed", range(60))
def test_heartbeats_at_the_arrival_of_the_record_before_mean_nothing(seed):
    records = random_stream(seed)
    assert found(records, beats=True) == found(records)


def test_the_random_streams_reach_every_case():
    seen = set()
    for seed in range(60):
        o = found(ended(random_stream(seed)))
        seen |= {(e[3], e[5], e[7], e[9]) for e in o.events}
        seen |= {name for name, n in zip("fdrt", o.counts, strict=True) if n}
        for lane in (o.windows, o.late_windows):
            assert all(w[3] > 0 for w in lane)
        assert len({w[:3] for w in o.windows}) == len(o.windows)
    for late in (False, True):
        for after in (0, 1, 2):
            assert ("LEVEL", after, late, "") in seen
            assert ("LEVEL", after, late, "timer") in seen
    assert ("LEVEL", 0, True, "late_end") in seen
    assert seen >= set("fdrt")
    others = {("PATTERN_CHANGE", "begin"), ("NO_DATA", "begin"), ("DATA_RESUMED", "end")}
    assert {(*event, False, "") for event in others} <= seen


# G. Predictions that are ahead


def forecasts(stream):
    """(made for the time after, target) of the predictions that were made before their target."""
    return [(at, at + 600_000) for _, at, *_ in stream.oracle.forecasts]


def test_a_prediction_of_an_idle_sensor_is_made_when_it_becomes_idle():
    for beat in (660_000, 900_000):  # idle at 659_999, whenever that is seen
        assert forecasts(Stream().send(656_999, (59_000, 1)).beat(beat)) == [(60_000, 660_000)]
    assert forecasts(Stream().send(657_000, (59_000, 1)).beat(660_000)) == []
    again = Stream().send(656_999, (59_000, 1)).send(900_000, (890_000, 1))
    assert forecasts(again) == [(60_000, 660_000)]


def test_a_prediction_of_a_pane_that_is_held_is_made_when_it_closes():
    many = (59_000, 1), (59_010, 1)  # held for a minute
    assert forecasts(Stream().send(599_999, *many).beat(900_000)) == [(60_000, 660_000)]
    assert forecasts(Stream().send(600_000, *many).beat(900_000)) == []


def test_a_prediction_is_made_when_a_reading_closes_the_pane():
    for arrival, made in ((659_999, [(60_000, 660_000)]), (660_000, [])):
        stream = Stream().send(657_500, (59_000, 1)).send(arrival, (61_000, 1))
        assert forecasts(stream) == made
