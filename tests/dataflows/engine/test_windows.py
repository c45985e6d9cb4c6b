from math import isclose, isfinite

import numpy as np
import pytest

from tests.dataflows.streams import HELD_MS, Partition, closed, each_second

COLUMNS = ("count", "mean", "min", "max", "std", "first", "last", "trend")
LARGEST = 1.7976931348623157e308


def windows(*records, cuts=()):
    """{(name, end): {column: value}} of one sensor."""
    partition = Partition().run(closed(records, HELD_MS), cuts)
    return {row[1:3]: dict(zip(COLUMNS, row[3:], strict=True)) for row in partition.windows}


def packet(*readings):
    """One record with all readings (ts, value) of sensor 1."""
    return (20_000, 1, "a", [(1, ts, value) for ts, value in readings])


def column(found, name, column):
    return [found[key][column] for key in sorted(found) if key[0] == name]


def test_w5_and_w10_contain_the_panes_of_the_last_five_and_ten_seconds():
    by_key = windows(*each_second(*range(1, 13)))  # panes end at 2, 3, .., 13 s
    assert column(by_key, "w1", "count") == [1] * 12
    assert column(by_key, "w5", "count") == [1, 2, 3, 4] + [5] * 8
    assert column(by_key, "w10", "count") == [*range(1, 10)] + [10] * 3
    assert by_key["w5", 13_000] == {
        "count": 5, "mean": 10.0, "min": 8.0, "max": 12.0, "std": pytest.approx(2**0.5),
        "first": 8.0, "last": 12.0, "trend": pytest.approx(1.0),
    }  # fmt: skip
    assert by_key["w10", 13_000] == {
        "count": 10, "mean": 7.5, "min": 3.0, "max": 12.0, "std": pytest.approx(8.25**0.5),
        "first": 3.0, "last": 12.0, "trend": pytest.approx(1.0),
    }  # fmt: skip


@pytest.mark.parametrize("cut", range(1, 13))
def test_windows_extend_across_cuts(cut):
    records = each_second(*range(1, 13))
    assert windows(*records, cuts=[cut]) == windows(*records)


def test_a_window_after_a_gap_contains_only_recent_panes():
    by_key = windows(packet((1_000, 1.0), (5_999, 3.0), (6_000, 5.0), (10_999, 7.0), (15_000, 9.0)))
    assert sorted(end for name, end in by_key if name == "w1") == [
        2_000, 6_000, 7_000, 11_000, 16_000
    ]  # fmt: skip
    assert column(by_key, "w5", "count") == [1, 2, 2, 2, 1]
    assert column(by_key, "w10", "count") == [1, 2, 3, 4, 3]
    assert column(by_key, "w5", "mean") == [1.0, 2.0, 4.0, 6.0, 9.0]
    assert column(by_key, "w10", "mean") == [1.0, 2.0, 3.0, 4.0, 7.0]
    assert column(by_key, "w10", "first") == [1.0, 1.0, 1.0, 1.0, 5.0]


def test_the_deviation_is_over_readings_however_they_are_split_into_panes():
    values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]  # mean 5, population deviation 2
    in_one = windows(packet(*((1_000 + n, value) for n, value in enumerate(values))))
    in_many = windows(packet(*((1_000 + 600 * n, value) for n, value in enumerate(values))))
    for found, end in ((in_one, 2_000), (in_many, 6_000)):
        assert (found["w5", end]["mean"], found["w5", end]["std"]) == (5.0, pytest.approx(2.0))
        assert (found["w5", end]["min"], found["w5", end]["max"]) == (2.0, 9.0)
    assert in_one["w1", 2_000] == in_one["w10", 2_000]


def test_the_trend_is_the_least_squares_slope_over_the_readings_own_times():
    # times 0, 1, 2, 3 s and values 1, 2, 2, 5: slope 6 / 5; in the pane alone 0.5 / 0.5
    by_key = windows(packet((1_000, 1.0), (2_000, 2.0), (3_000, 2.0), (4_000, 5.0)))
    assert column(by_key, "w10", "trend") == pytest.approx([0.0, 1.0, 0.5, 1.2])
    # different from the slope between the first and the last, 0.5: times 0, 0.2, 0.4 s
    by_key = windows(packet((1_000, 1.0), (1_200, 4.0), (1_400, 1.2)))
    assert by_key["w1", 2_000]["trend"] == pytest.approx(0.5)
    by_key = windows(packet((1_000, 0.0), (1_100, 0.0), (1_900, 9.0)))
    assert by_key["w1", 2_000]["trend"] == pytest.approx(765 / 73)


def test_a_falling_signal_has_a_negative_trend():
    by_key = windows(*each_second(10, 8, 6, 4))
    assert column(by_key, "w5", "trend") == pytest.approx([0.0, -2.0, -2.0, -2.0])


@pytest.mark.parametrize("count", [1, 2, 7])
def test_readings_of_the_same_time_have_no_trend(count):
    by_key = windows(packet(*((1_234, value * 1.1) for value in range(count))))
    assert [window["trend"] for window in by_key.values()] == [0.0] * 3
    assert [window["count"] for window in by_key.values()] == [count] * 3


def test_a_millisecond_is_enough_for_a_trend():
    by_key = windows(packet((1_999, 1.0), (2_000, 1.5)))
    assert by_key["w5", 3_000]["trend"] == pytest.approx(500.0)
    assert by_key["w1", 3_000]["trend"] == 0.0


@pytest.mark.parametrize("value", [0.1, 21.3, -7.7, 1e-300, 5e-324, 1e16, LARGEST, -LARGEST, 0.0])
def test_a_constant_signal_has_exactly_zero_deviation_and_trend(value):
    readings = [(1_000 + 130 * n + n % 3, value) for n in range(100)]
    by_key = windows(packet(*readings))
    for window in by_key.values():
        assert (window["std"], window["trend"]) == (0.0, 0.0)
        assert window["mean"] == window["min"] == window["max"] == value


def test_a_single_point_is_a_window():
    by_key = windows(packet((1_500, -3.25)))
    lone = dict(zip(COLUMNS, (1, -3.25, -3.25, -3.25, 0.0, -3.25, -3.25, 0.0), strict=True))
    assert by_key == {(name, 2_000): lone for name in ("w1", "w5", "w10")}


def test_first_and_last_are_by_event_time_and_then_by_arrival():
    record = packet((2_500, 5.0), (1_400, 1.0), (2_500, 6.0), (1_400, 2.0), (2_100, 7.0))
    again = (20_001, 1, "b", [(1, 2_500, 8.0), (1, 1_400, 3.0)])
    by_key = windows(record, again)
    assert {key: (window["first"], window["last"]) for key, window in by_key.items()} == {
        ("w1", 2_000): (1.0, 3.0), ("w5", 2_000): (1.0, 3.0), ("w10", 2_000): (1.0, 3.0),
        ("w1", 3_000): (7.0, 8.0), ("w5", 3_000): (1.0, 8.0), ("w10", 3_000): (1.0, 8.0),
    }  # fmt: skip


@pytest.mark.parametrize("shift", [1, 999, 60_000, 1_700_000_000_000 - 1_000])
def test_deviation_and_trend_do_not_depend_on_the_date(shift):
    values = [1.5, 2.5, 2.0, 9.0, 3.5]
    for start, step in ((1_000 + shift, 1_000), (1_000 + shift // 1_000 * 1_000, 130)):
        records = [
            (start + 9_000, 1, "a", [(1, start + step * n, v) for n, v in enumerate(values)])
        ]
        by_key = windows(*records)
        last = by_key[max(key for key in by_key if key[0] == "w5")]
        assert isclose(last["trend"], 1_050 / step, rel_tol=1e-12)
        assert isclose(last["std"], 7.46**0.5, rel_tol=1e-12)


@pytest.mark.parametrize("offset", [1e9, -1e9])
def test_deviation_and_trend_are_exact_despite_a_large_offset(offset):
    by_key = windows(*each_second(*(offset + value for value in (1.5, 2.5, 2.0, 9.0, 3.5))))
    assert by_key["w5", 6_000]["trend"] == pytest.approx(1.05)
    assert by_key["w5", 6_000]["std"] == pytest.approx(7.46**0.5)


@pytest.mark.parametrize(
    "values",
    [
        (1.7e308, 1.7e308, 1.7e308),
        (-1.7e308, -1.7e308),
        (1.7e308, 5e-324, 1.7e308, 1.0),
        (-1.7e308, -1e150, -1e151, 5e-324),
        (1e308, -1e307),
        (5e-324, -5e-324, 5e-324),
        (1e-200, 2e-200, 1e200),
        (1e154, 1.5e154, 2e154),
    ],
)
@pytest.mark.parametrize("step", [0, 1_000, 2_500])
def test_windows_at_the_edge_of_the_float_range_are_finite(values, step):
    readings = [(1_000 + step * n, value) for n, value in enumerate(values)]
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        by_key = windows(packet(*readings))
    for window in by_key.values():
        assert all(map(isfinite, window.values())), window
        assert window["min"] <= window["mean"] <= window["max"]
        # two values are at most half their distance from their mean
        assert 0.0 <= window["std"] <= (window["max"] / 2 - window["min"] / 2) * (1 + 1e-9)


def test_large_values_are_as_exact_as_small_ones():
    readings = [(1_000, 1.0), (1_500, 2.0), (2_000, 4.0), (2_250, 3.0), (3_000, 3.5)]
    small = windows(packet(*readings))
    large = windows(packet(*((ts, value * 2.0**1020) for ts, value in readings)))
    for key, window in small.items():
        for name in ("mean", "std", "trend"):
            assert isclose(large[key][name], window[name] * 2.0**1020, rel_tol=1e-12)


def test_a_large_value_has_no_effect_after_it_leaves_the_window():
    by_key = windows(*each_second(1.7e308, *range(1, 11)))
    calm = windows(*each_second(*range(1, 11)))
    assert by_key["w10", 12_000] == calm["w10", 11_000]
    assert by_key["w5", 12_000] == calm["w5", 11_000]


def test_a_trend_beyond_the_float_range_is_clipped():
    assert windows(*each_second(1.7e308, -1.7e308))["w5", 3_000]["trend"] == -np.finfo(float).max
    steep = windows((1_000, 1, "a", [(1, 1_000, 0.0), (1, 1_001, 1e308)]))
    assert all(isfinite(window["trend"]) for window in steep.values())


def test_a_large_value_in_w10_does_not_make_w5_inexact():
    found, calm = (
        windows(*each_second(1.7e308, 1, 2, 3, 4, 5)),
        windows(*each_second(1, 2, 3, 4, 5)),
    )
    assert found["w5", 7_000]["std"] == calm["w5", 6_000]["std"]
