import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.columns import concatenate
from contract.packet import Packet
from dataflows.decode import packet_columns
from dataflows.duplicates import DuplicateLogic
from dataflows.panes import PaneState

from .pane_oracle import Oracle

GRACE, IDLE = 1000, 3000


def piece(*records):
    """Columns of records (arrival, device, packet_id, [(sensor, ts, value)])."""
    packets = [
        None
        if device is None
        else Packet(
            packet_id=packet_id,
            device_id=device,
            device_uuid="",
            received_at=0,
            sensor_id=[sensor for sensor, _, _ in readings],
            ts=[ts for _, ts, _ in readings],
            device_ts=None,
            value=[value for _, _, value in readings],
            seq=[0] * len(readings),
        )
        for _, device, packet_id, readings in records
    ]
    return packet_columns([record[0] for record in records], packets)


class Engine:
    """What a partition does before levels: mark repetitions, then build panes."""

    def __init__(self, snapshot=None):
        repeated, panes = snapshot or (None, None)
        self.duplicates = DuplicateLogic(repeated)
        self.panes = PaneState.restore(panes, GRACE, IDLE) if panes else PaneState(GRACE, IDLE)

    def step(self, columns):
        (marked,), _ = self.duplicates.on_batch([columns])
        return closed(self.panes, self.panes.step(marked))

    def snapshot(self):
        return self.duplicates.snapshot(), self.panes.snapshot()


def closed(state, panes):
    """Panes as (sensor, end, count, mean, min, max, last)."""
    columns = (panes.end, panes.count, panes.mean, panes.minimum, panes.maximum, panes.last)
    return list(
        zip(state.sensor_id[panes.row].tolist(), *(c.tolist() for c in columns), strict=True)
    )


def run(records, cuts=(), resume=False):
    """Panes of the records, taken in pieces; with `resume` each piece in a restored state."""
    engine, found = Engine(), []
    bounds = [0, *sorted(cuts), len(records)]
    for first, last in pairwise(bounds):
        if first == last:
            continue
        if resume:
            engine = Engine(pickle.loads(pickle.dumps(engine.snapshot())))  # noqa: S301
        found += engine.step(piece(*records[first:last]))
    return engine.panes, found


@st.composite
def sequences(draw):
    """Random sequences: out of order, duplicates, late, future, gaps, idle, heartbeats."""
    records, now = [], 1_000_000
    for number in range(draw(st.integers(1, 25))):
        now += draw(st.sampled_from([0, 1, 300, 999, 1000, 2999, 3000, 9000]))
        arrival = now - draw(st.sampled_from([0, 0, 0, 500]))
        if draw(st.integers(0, 5)) == 0:
            records.append((arrival, None, "", []))
            continue
        packet_id = str(draw(st.sampled_from([number, number, number, number - 1, 0])))
        skew = st.sampled_from([0, 0, -1, -400, -1000, -2500, -7000, 700, 300_000, 300_001, 10**9])
        reading = st.tuples(
            st.integers(1, 4),
            skew.map(lambda ms, arrival=arrival: max(0, arrival + ms)),
            st.floats(-1e3, 1e3),
        )
        records.append(
            (arrival, draw(st.integers(1, 2)), packet_id, draw(st.lists(reading, max_size=6)))
        )
    return records


@settings(max_examples=400, deadline=None)
@given(sequences(), st.lists(st.integers(0, 25), max_size=4), st.booleans())
def test_panes_are_those_of_the_oracle_for_every_cut_and_resume(records, cuts, resume):
    oracle = Oracle(GRACE, IDLE)
    for record in records:
        oracle.record(*record)
    state, found = run(records, [min(cut, len(records)) for cut in cuts], resume)

    assert sorted(pane[:3] for pane in found) == sorted(pane[:3] for pane in oracle.panes)
    expected = {pane[:2]: pane for pane in oracle.panes}
    for sensor, end, count, mean, low, high, last in found:
        values = expected[sensor, end][3]
        assert len(values) == count
        assert math.isclose(mean, math.fsum(values) / count, rel_tol=1e-12, abs_tol=1e-9)
        assert (low, high, last) == (min(values), max(values), expected[sensor, end][4])
    counts = (oracle.late, oracle.future, oracle.duplicates)
    assert (state.counts.late, state.counts.future, state.counts.duplicates) == counts


@settings(max_examples=200, deadline=None)
@given(sequences(), st.lists(st.integers(0, 25), max_size=6))
def test_cuts_and_resumes_change_no_bit(records, cuts):
    _, whole = run(records)
    _, pieces = run(records, [min(cut, len(records)) for cut in cuts], resume=True)
    assert sorted(pieces) == sorted(whole)


def test_panes_of_a_sensor_close_in_order_of_their_ends():
    records = [(10_000 + 100 * n, 1, str(n), [(1, 10_000 + 700 * n, float(n))]) for n in range(50)]
    ends = [pane[1] for pane in run(records, range(50))[1]]
    assert ends == sorted(set(ends))
    assert len(ends) > 30


def test_a_pane_is_never_emitted_twice_after_late_readings():
    first = (5_000, 1, "a", [(1, 1_000, 1.0), (1, 1_500, 2.0), (1, 3_000, 9.0)])
    late = (5_001, 1, "b", [(1, 1_700, 3.0)])
    later = (5_002, 1, "c", [(1, 1_800, 4.0), (1, 9_000, 0.0)])
    state, panes = run([first, late, later], [1, 2])
    assert [pane[1] for pane in panes] == [2_000, 4_000]
    assert state.counts.late == 2


def test_one_reading_from_the_future_makes_no_honest_one_late():
    state, panes = run(
        [
            (10_000, 1, "a", [(1, 10_000, 1.0), (1, 10_000 + 7_200_000, 5.0)]),
            (11_000, 1, "b", [(1, 11_000, 2.0)]),
            (13_000, 1, "c", [(1, 13_000, 3.0)]),
        ]
    )
    assert (state.counts.late, state.counts.future) == (0, 1)
    assert [pane[1] for pane in panes] == [11_000, 12_000]


def test_a_silent_sensor_closes_its_panes_by_a_heartbeat():
    _, panes = run(
        [(10_000, 1, "a", [(1, 10_000, 1.0)]), (12_999, None, "", []), (13_000, None, "", [])]
    )
    assert [pane[1] for pane in panes] == [11_000]
    assert run([(10_000, 1, "a", [(1, 10_000, 1.0)]), (12_999, None, "", [])])[1] == []


@pytest.mark.parametrize("value", [1.7976931348623157e308, -1.7976931348623157e308, 5e-324])
def test_a_mean_at_the_edge_of_the_float_range_is_finite(value):
    readings = [(1, 1_000 + n, value) for n in range(3)]
    _, panes = run([(1_000, 1, "a", readings), (9_000, None, "", [])])
    assert panes[0][3] == pytest.approx(value)


def test_a_packet_id_is_forgotten_after_64_others():
    records = [(1_000, 1, str(n), [(1, 1_000, 1.0)]) for n in [*range(65), 0, 64]]
    assert run(records)[0].counts.duplicates == 1


def test_pieces_joined_are_one_piece():
    one, two = (1_000, 1, "a", [(1, 1_000, 1.0)]), (1_001, 1, "b", [(2, 1_000, 2.0)])
    joined, whole = concatenate([piece(one), piece(two)]), piece(one, two)
    assert all(
        np.array_equal(getattr(joined, name), getattr(whole, name)) for name in joined.__slots__
    )
