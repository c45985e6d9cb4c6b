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
    found = ends(*records, cuts=range(50))
    assert found == sorted(set(found))
    assert len(found) > 30


def test_a_pane_closes_when_the_watermark_has_passed_its_end_by_the_grace():
    first = (5_000, 1, "a", [(1, 1_000, 1.0)])
    assert ends(first, (5_001, 1, "b", [(1, 2_999, 2.0)])) == []
    assert ends(first, (5_001, 1, "b", [(1, 3_000, 2.0)])) == [2_000]


def test_a_pane_holds_what_came_for_it_in_whatever_order():
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
    found = Partition().run([first, late, later], [1, 2])
    assert [pane[:3] for pane in panes(found)] == [(1, 2_000, 2), (1, 4_000, 1)]
    assert found.late == [(1, 1_700, 3.0), (1, 1_800, 4.0)]
    assert found.engine.counts.late == 2


def test_a_reading_is_late_once_the_watermark_has_passed_its_pane_though_nothing_was_open_there():
    first = (9_000, 1, "a", [(1, 1_000, 1.0), (1, 9_000, 2.0)])
    second = (9_001, 1, "b", [(1, 7_999, 3.0), (1, 8_000, 4.0)])
    found = Partition().run(closed([first, second]))
    assert found.late == [(1, 7_999, 3.0)]
    assert [pane[1] for pane in panes(found)] == [2_000, 9_000, 10_000]


def test_one_reading_from_the_future_makes_no_honest_one_late():
    found = Partition().run(
        [
            (10_000, 1, "a", [(1, 10_000, 1.0), (1, 10_000 + 7_200_000, 5.0)]),
            (11_000, 1, "b", [(1, 11_000, 2.0)]),
            (13_000, 1, "c", [(1, 13_000, 3.0)]),
        ]
    )
    assert (found.engine.counts.late, found.engine.counts.future) == (0, 1)
    assert [pane[1] for pane in panes(found)] == [11_000, 12_000]


def test_the_future_begins_more_than_five_minutes_after_the_arrival_of_the_record_itself():
    ahead = heartbeat(900_000)  # the partition's arrival, not the record's
    record = (10_000, 1, "a", [(1, 310_000, 1.0), (2, 310_001, 2.0)])
    found = Partition().run([ahead, record, heartbeat(903_000)])
    assert [pane[:2] for pane in panes(found)] == [(1, 311_000)]
    assert found.engine.counts.future == 1


def test_a_silent_sensor_closes_its_panes_by_a_heartbeat():
    first = (10_000, 1, "a", [(1, 10_000, 1.0)])
    assert ends(first, heartbeat(12_999), heartbeat(13_000)) == [11_000]
    assert ends(first, heartbeat(12_999)) == []


def test_a_silent_sensor_closes_its_panes_by_records_of_others_too():
    first = (10_000, 1, "a", [(1, 10_000, 1.0)])
    assert ends(first, (13_000, 2, "b", [])) == [11_000]
    assert ends(first, (13_000, 1, "b", [(1, 10_500, 2.0)])) == [11_000]  # which is late


def test_after_an_idle_time_a_reading_is_late_up_to_the_pane_of_the_watermark():
    first = (10_000, 1, "a", [(1, 8_100, 1.0), (1, 10_400, 1.0)])
    then = (13_000, 1, "b", [(1, 10_999, 2.0), (1, 11_000, 3.0)])
    found = Partition().run(closed([first, then]))
    assert found.late == [(1, 10_999, 2.0)]
    assert [pane[1] for pane in panes(found)] == [9_000, 11_000, 12_000]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ((12_999, 1, "b", [(1, 1_000, 2.0)]), []),  # late
        ((12_999, 1, "b", [(1, 999_000, 2.0)]), []),  # from the future
        ((12_999, 1, "a", [(1, 10_500, 2.0)]), [11_000]),  # a repetition
        ((12_999, 1, "b", [(2, 12_000, 2.0)]), [11_000]),  # another sensor's
    ],
)
def test_late_and_future_readings_put_idleness_off_and_repetitions_do_not(record, expected):
    watermark = (10_000, 1, "a", [(1, 10_000, 1.0), (1, 8_000, 1.0)])
    found = Partition().run([watermark, record, heartbeat(13_000)])
    assert [pane[1] for pane in panes(found) if pane[:2] != (1, 9_000)] == expected


@pytest.mark.parametrize("value", [1.7976931348623157e308, -1.7976931348623157e308, 5e-324])
def test_a_mean_at_the_edge_of_the_float_range_is_finite(value):
    readings = [(1, 1_000 + n, value) for n in range(3)]
    ((_, _, count, *numbers),) = panes(Partition().run(closed([(1_000, 1, "a", readings)])))
    assert count == 3
    assert numbers == [value] * 5


def test_a_mean_lies_within_minimum_and_maximum_whatever_sums_round_to():
    readings = [(1, 1_000 + n, 0.1) for n in range(3)]  # 0.1 + 0.1 + 0.1 > 0.3
    ((*_, mean, low, high, _, _),) = panes(Partition().run(closed([(1_000, 1, "a", readings)])))
    assert mean == low == high == 0.1


def test_a_packet_id_is_forgotten_after_64_others():
    records = [(1_000, 1, str(n), [(1, 1_000, 1.0)]) for n in [*range(65), 1, 0]]
    assert Partition().run(records).engine.counts.duplicates == 1


def test_a_repeated_packet_is_in_no_pane():
    record = (1_000, 1, "a", [(1, 1_000, 1.0)])
    other_device = (1_001, 2, "a", [(2, 1_000, 1.0)])
    found = Partition().run(closed([record, record, other_device]))
    assert [pane[:3] for pane in sorted(panes(found))] == [(1, 2_000, 1), (2, 2_000, 1)]


RECORDS = [
    (1_000, 1, "a", [(1, 1_000, 1.0)]),
    heartbeat(1_001),
    (1_002, 1, "b", [(2, 1_000, 2.0), (3, 1_001, 4.0)]),
    (1_003, 2, "c", []),
    (1_004, 2, "d", [(4, 1_002, 8.0)]),
]


def same(one, other):
    return all(
        np.array_equal(getattr(getattr(one, group), name), getattr(getattr(other, group), name))
        for group in ("records", "readings")
        for name in getattr(one, group).__slots__
    )


def test_pieces_joined_are_one_piece():
    assert same(PacketColumns.joined([piece(*RECORDS[:3]), piece(*RECORDS[3:])]), piece(*RECORDS))


@pytest.mark.parametrize("first", range(6))
@pytest.mark.parametrize("last", range(6))
def test_a_piece_of_a_piece_is_that_of_its_records_alone(first, last):
    assert same(piece(*RECORDS).part(first, max(first, last)), piece(*RECORDS[first:last]))
