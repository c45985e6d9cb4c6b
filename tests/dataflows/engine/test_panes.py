import numpy as np
import pytest

from contract.columns import PacketColumns
from tests.dataflows.streams import Partition, closed, heartbeat, piece


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
    partition = Partition().run(closed([first, then]))
    assert partition.late == [(1, 10_999, 2.0)]
    assert [pane[1] for pane in panes(partition)] == [9_000, 11_000, 12_000]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ((12_999, 1, "b", [(1, 1_000, 2.0)]), []),  # late
        ((12_999, 1, "b", [(1, 999_000, 2.0)]), []),  # from the future
        ((12_999, 1, "a", [(1, 10_500, 2.0)]), [11_000]),  # a duplicate
        ((12_999, 1, "b", [(2, 12_000, 2.0)]), [11_000]),  # another sensor's
    ],
)
def test_late_and_future_readings_keep_a_sensor_from_idling_but_duplicates_do_not(record, expected):
    watermark = (10_000, 1, "a", [(1, 10_000, 1.0), (1, 8_000, 1.0)])
    partition = Partition().run([watermark, record, heartbeat(13_000)])
    assert [pane[1] for pane in panes(partition) if pane[:2] != (1, 9_000)] == expected


@pytest.mark.parametrize("value", [1.7976931348623157e308, -1.7976931348623157e308, 5e-324])
def test_a_mean_at_the_edge_of_the_float_range_is_finite(value):
    readings = [(1, 1_000 + n, value) for n in range(3)]
    ((_, _, count, *numbers),) = panes(Partition().run(closed([(1_000, 1, "a", readings)])))
    assert count == 3
    assert numbers == [value] * 5


def test_a_mean_is_within_minimum_and_maximum_despite_rounding():
    readings = [(1, 1_000 + n, 0.1) for n in range(3)]  # 0.1 + 0.1 + 0.1 > 0.3
    ((*_, mean, low, high, _, _),) = panes(Partition().run(closed([(1_000, 1, "a", readings)])))
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
