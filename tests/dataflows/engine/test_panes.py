import numpy as np
import pytest

from contract.columns import PacketColumns
from tests.dataflows.streams import HELD_MS, Partition, closed, heartbeat, piece


def panes(found):
    """(sensor, end, count, mean, min, max, first, last) of each closed pane."""
    return [(*row[:1], *row[2:7], *row[8:10]) for row in found.windows if row[1] == "w1"]


def ends(*records, cuts=()):
    return [pane[1] for pane in panes(Partition().run(records, cuts))]


def test_panes_of_a_sensor_close_in_order_of_their_ends():
    records = [(10_000 + 100 * n, 1, str(n), [(1, 10_000 + 700 * n, float(n))]) for n in range(50)]
    closed_ends = ends(*records, cuts=range(50))
    assert closed_ends == sorted(set(closed_ends))
    assert len(closed_ends) > 30


def test_a_pane_closes_when_the_watermark_passes_its_end_plus_grace():
    first = (5_000, 1, "a", [(1, 1_000, 1.0)])
    assert ends(first, (5_001, 1, "b", [(1, 2_999, 2.0)])) == []
    assert ends(first, (5_001, 1, "b", [(1, 3_000, 2.0)])) == [2_000]


def test_a_pane_contains_its_readings_in_any_order_of_arrival():
    records = [
        (5_000, 1, "a", [(1, 1_900, 3.0), (2, 1_000, 7.0), (1, 1_000, 1.0)]),
        (5_001, 1, "b", [(1, 1_999, -5.0), (1, 1_400, 9.0)]),
    ]
    assert sorted(panes(Partition().run(closed(records)))) == [
        (1, 2_000, 4, 2.0, -5.0, 9.0, 1.0, -5.0),
        (2, 2_000, 1, 7.0, 7.0, 7.0, 7.0, 7.0),
    ]


def test_a_pane_is_never_emitted_twice_after_late_readings():
    first = (5_000, 1, "a", [(1, 1_000, 1.0), (1, 1_500, 2.0), (1, 3_000, 9.0)])
    late = (5_001, 1, "b", [(1, 1_700, 3.0)])
    later = (5_002, 1, "c", [(1, 1_800, 4.0), (1, 9_000, 0.0)])
    partition = Partition().run([first, late, later], [1, 2])
    assert [pane[:3] for pane in panes(partition)] == [(1, 2_000, 2), (1, 4_000, 1)]
    assert partition.late == [(1, 1_700, 3.0), (1, 1_800, 4.0)]
    assert partition.engine.counts.late == 2


def test_a_reading_is_late_after_the_watermark_passed_its_pane_even_if_none_was_open():
    first = (9_000, 1, "a", [(1, 1_000, 1.0), (1, 9_000, 2.0)])
    second = (9_001, 1, "b", [(1, 7_999, 3.0), (1, 8_000, 4.0)])
    partition = Partition().run(closed([first, second]))
    assert partition.late == [(1, 7_999, 3.0)]
    assert [pane[1] for pane in panes(partition)] == [2_000, 9_000, 10_000]


def test_a_reading_from_the_future_does_not_make_other_readings_late():
    partition = Partition().run(
        [
            (10_000, 1, "a", [(1, 10_000, 1.0), (1, 10_000 + 7_200_000, 5.0)]),
            (11_000, 1, "b", [(1, 11_000, 2.0)]),
            (13_000, 1, "c", [(1, 13_000, 3.0)]),
        ]
    )
    assert (partition.engine.counts.late, partition.engine.counts.future) == (0, 1)
    assert [pane[1] for pane in panes(partition)] == [11_000, 12_000]


def test_the_future_begins_more_than_five_minutes_after_the_arrival_of_the_record_itself():
    ahead = heartbeat(900_000)  # the partition's arrival, not the record's
    record = (10_000, 1, "a", [(1, 310_000, 1.0), (2, 310_001, 2.0)])
    partition = Partition().run([ahead, record, heartbeat(903_000)])
    assert [pane[:2] for pane in panes(partition)] == [(1, 311_000)]
    assert partition.engine.counts.future == 1


def test_a_heartbeat_closes_the_panes_of_a_silent_sensor():
    first = (10_000, 1, "a", [(1, 10_000, 1.0)])
    assert ends(first, heartbeat(12_999), heartbeat(13_000)) == [11_000]
    assert ends(first, heartbeat(12_999)) == []


def test_records_of_other_devices_close_the_panes_of_a_silent_sensor():
    first = (10_000, 1, "a", [(1, 10_000, 1.0)])
    assert ends(first, (13_000, 2, "b", [])) == [11_000]
    assert ends(first, (13_000, 1, "b", [(1, 10_500, 2.0)])) == [11_000]  # a late reading


def test_after_idle_time_readings_up_to_the_pane_of_the_watermark_are_late():
    first = (10_000, 1, "a", [(1, 8_100, 1.0), (1, 10_400, 1.0)])
    then = (13_000, 1, "b", [(1, 10_999, 2.0), (1, 11_000, 3.0)])
    partition = Partition().run(closed([first, then], HELD_MS))
    assert partition.late == [(1, 10_999, 2.0)]
    assert [pane[1] for pane in panes(partition)] == [9_000, 11_000, 12_000]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ((12_999, 1, "b", [(1, 10_100, 2.0)]), []),
        ((12_999, 1, "b", [(1, 1_000, 2.0), (1, 10_100, 2.0), (1, 999_000, 2.0)]), []),
        ((12_999, 1, "b", [(1, 1_000, 2.0)]), [11_000]),  # late
        ((12_999, 1, "b", [(1, 9_999, 2.0)]), [10_000, 11_000]),  # not late, but older
        ((12_999, 1, "b", [(1, 10_000, 2.0)]), [11_000]),  # of the same time
        ((12_999, 1, "b", [(1, 999_000, 2.0)]), [11_000]),  # from the future
        ((12_999, 1, "a", [(1, 10_500, 2.0)]), [11_000]),  # a duplicate
        ((12_999, 1, "b", [(2, 12_000, 2.0)]), [11_000]),  # another sensor's
    ],
)
def test_only_readings_that_raise_the_watermark_keep_a_sensor_from_idling(record, expected):
    watermark = (10_000, 1, "a", [(1, 10_000, 1.0), (1, 8_000, 1.0)])
    partition = Partition().run([watermark, record, heartbeat(13_000)])
    assert [pane[1] for pane in panes(partition) if pane[:2] != (1, 9_000)] == expected


# panes that may get more readings


def flush(at, *times, sensor=1, device=1):
    """A packet that arrives at a second, with readings at these seconds."""
    readings = [(sensor, round(1_000 * ts), 1.0) for ts in times]
    return (round(1_000 * at), device, f"{device} {at} {times}", readings)


def assert_closes_after(waits, *records):
    """Check that the newest pane of sensor 1 closes `waits` ms after the last record."""
    last = records[-1][0]
    newest = max(ts for *_, readings in records for sensor, ts, _ in readings if sensor == 1)
    for wait in (waits - 1, waits):
        found = panes(Partition().run([*records, heartbeat(last + wait)]))
        closed = {end for sensor, end, *_ in found if sensor == 1}
        assert (newest // 1_000 * 1_000 + 1_000 in closed) == (wait == waits)


def flushes(gaps, start=1_000):
    """Packets so long after each other, each with the readings since the one before, and one of
    the pane that it is sent in."""
    ends = [start + sum(gaps[:number]) for number in range(len(gaps) + 1)]
    return [
        flush(end + 0.3, *(end + 0.1 - 0.5 * back for back in range(2 * round(gap))))
        for end, gap in zip(ends, (1, *gaps), strict=True)
    ]


@pytest.mark.parametrize(
    ("gap", "waits"),
    [(1, 3_000), (2, 4_000), (5, 10_000), (30, 60_000), (100, 200_000), (150, 300_000),
     (200, 300_000)],
)  # fmt: skip
def test_a_pane_that_may_get_more_readings_stays_open_for_twice_the_gap_of_its_device(gap, waits):
    assert_closes_after(waits, *flushes([gap] * 5))


def test_a_pane_that_may_get_more_readings_stays_open_for_a_minute_if_the_gap_is_unknown():
    assert_closes_after(60_000, flush(100.9, 100.1, 100.3))
    # packets in the same second say nothing about the gap
    assert_closes_after(60_000, flush(100.2, 100.1, 100.15), flush(100.9, 100.2, 100.3))


@pytest.mark.parametrize(
    ("times", "waits"),
    [
        ((100.1, 100.5), 60_000),  # 0.4 s apart, and 0.5 s are left
        ((100.1, 100.6), 3_000),  # 0.5 s apart, and 0.4 s are left
        ((99.9, 100.3, 100.69), 3_000),
        ((99.9, 100.3, 100.59), 60_000),
        ((100.5, 100.1), 60_000),  # whatever their order
        ((100.999, 100.998), 3_000),
        ((100.1, 100.1, 100.1), 3_000),  # at one time
        ((100.1,), 3_000),
    ],
)
def test_a_pane_may_get_more_readings_if_they_are_closer_together_than_what_is_left_of_it(
    times, waits
):
    assert_closes_after(waits, flush(101, *times))


@pytest.mark.parametrize(
    ("before", "times", "waits"),
    [
        (99.9, (100.2,), 4_000),  # 0.3 s after the one before, and 0.8 s are left
        (99.9, (100.5,), 3_000),  # 0.6 s after the one before, and 0.5 s are left
        (99.9, (100.2, 100.3), 4_000),
        (98.9, (99.89, 100.3), 4_000),
        # it begins anew after a second without readings
        (98.9, (99.9, 100.3), 3_000),
        (50.0, (100.1, 100.2), 3_000),
        (50.0, (100.1,), 3_000),
    ],
)
def test_a_pane_may_get_more_readings_only_if_the_packet_continues_the_ones_before(
    before, times, waits
):
    assert_closes_after(waits, flush(99, before), flush(101, *times))


@pytest.mark.parametrize(
    ("gaps", "waits"),
    [
        ((5, 5, 5, 5), 10_000),
        ((5, 20, 5, 5), 40_000),  # the longest of the last four
        ((20, 5, 5, 5, 5), 10_000),
        ((5, 5, 5, 900, 5), 300_000),  # an outage too
        ((900, 5, 5, 5, 5), 10_000),
    ],
)
def test_the_gap_of_a_device_is_the_longest_of_its_last_four(gaps, waits):
    records = flushes(gaps)
    assert_closes_after(waits, *records)
    # other devices and duplicates do not count
    others = [flush(1_000 + n / 2, 1_000 + n / 2, sensor=2, device=2) for n in range(10)]
    again = [(record[0] + 1_000, *record[1:]) for record in records]
    mixed = sorted([*records, *others, *again[:-1]], key=lambda record: record[0])
    assert_closes_after(waits, *mixed)


@pytest.mark.parametrize("cuts", [(), range(100), range(0, 100, 3)])
def test_readings_split_between_the_packets_of_a_gateway_are_in_one_pane(cuts):
    times = [10 + n / 5 for n in range(300)]
    records = [
        flush(at, *(ts for ts in times if at - 6.3 <= ts < at)) for at in (10.1 + 6.3 * n
                                                                        for n in range(1, 11))
    ]  # fmt: skip
    partition = Partition().run([*records, heartbeat(200_000)], cuts, restarts=bool(cuts))
    assert partition.engine.counts.late == 0
    assert {pane[2] for pane in panes(partition)[1:-1]} == {5}


@pytest.mark.parametrize("value", [1.7976931348623157e308, -1.7976931348623157e308, 5e-324])
def test_a_mean_at_the_edge_of_the_float_range_is_finite(value):
    readings = [(1, 1_000 + n, value) for n in range(3)]
    found = Partition().run(closed([(1_000, 1, "a", readings)], HELD_MS))
    ((_, _, count, *numbers),) = panes(found)
    assert count == 3
    assert numbers == [value] * 5


def test_a_mean_is_within_minimum_and_maximum_despite_rounding():
    readings = [(1, 1_000 + n, 0.1) for n in range(3)]  # 0.1 + 0.1 + 0.1 > 0.3
    found = Partition().run(closed([(1_000, 1, "a", readings)], HELD_MS))
    ((*_, mean, low, high, _, _),) = panes(found)
    assert mean == low == high == 0.1


def test_a_packet_id_is_forgotten_after_64_others():
    records = [(1_000, 1, str(n), [(1, 1_000, 1.0)]) for n in [*range(65), 1, 0]]
    assert Partition().run(records).engine.counts.duplicates == 1


def test_a_duplicate_packet_enters_no_pane():
    record = (1_000, 1, "a", [(1, 1_000, 1.0)])
    other_device = (1_001, 2, "a", [(2, 1_000, 1.0)])
    partition = Partition().run(closed([record, record, other_device]))
    assert [pane[:3] for pane in sorted(panes(partition))] == [(1, 2_000, 1), (2, 2_000, 1)]


RECORDS = [
    (1_000, 1, "a", [(1, 1_000, 1.0)]),
    heartbeat(1_001),
    (1_002, 1, "b", [(2, 1_000, 2.0), (3, 1_001, 4.0)]),
    (1_003, 2, "c", []),
    (1_004, 2, "d", [(4, 1_002, 8.0)]),
]


def same(first, other):
    return all(
        np.array_equal(getattr(getattr(first, group), name), getattr(getattr(other, group), name))
        for group in ("records", "readings")
        for name in getattr(first, group).__slots__
    )


def test_joined_pieces_equal_one_piece():
    assert same(PacketColumns.joined([piece(*RECORDS[:3]), piece(*RECORDS[3:])]), piece(*RECORDS))


@pytest.mark.parametrize("first", range(6))
@pytest.mark.parametrize("last", range(6))
def test_a_part_of_a_piece_equals_a_piece_of_its_records(first, last):
    assert same(piece(*RECORDS).part(first, max(first, last)), piece(*RECORDS[first:last]))
