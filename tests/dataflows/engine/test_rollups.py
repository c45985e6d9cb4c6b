import pytest

from tests.dataflows.streams import Partition, each_second, heartbeat

MINUTE, HOUR = 60_000, 3_600_000


def rollups(records, cuts=(), *, period=MINUTE, restarts=False):
    """(start, count, mean, min, max, last) of each rollup of one period, as emitted."""
    partition = Partition().run(records, cuts, restarts=restarts).rollups
    return [row[2:] for row in partition if row[0] == period]


def at(ts, value=1.0, arrival=None):
    return (ts if arrival is None else arrival, 1, f"{ts} {value} {arrival}", [(1, ts, value)])


def test_a_minute_is_emitted_when_its_last_second_closes():
    records = [at(0, 5.0), at(1_000, 1.0), at(59_999, 3.0)]
    assert rollups([*records, at(60_999)]) == []
    assert rollups([*records, at(61_000)]) == [(0, 3, 3.0, 1.0, 5.0, 3.0)]


def test_a_minute_is_emitted_when_a_pane_of_a_later_minute_closes():
    records = [at(0, 5.0), at(30_000, 2.0), at(60_000)]
    assert rollups([*records, at(61_999)]) == []
    assert rollups([*records, at(62_000)]) == [(0, 2, 3.5, 2.0, 5.0, 2.0)]


@pytest.mark.parametrize("cuts", [(), range(9)])
def test_the_minute_of_an_idle_sensor_is_emitted_once_ten_seconds_after_its_end(cuts):
    records = [at(0), at(30_000, 3.0)]
    assert rollups([*records, heartbeat(69_999)], cuts) == []
    told = [(0, 2, 2.0, 1.0, 3.0, 3.0)]
    assert rollups([*records, heartbeat(70_000)], cuts) == told
    assert rollups([*records, heartbeat(70_000), heartbeat(80_000)], cuts) == told
    assert rollups([*records, heartbeat(70_000), at(90_000), heartbeat(98_000)], cuts) == told


@pytest.mark.parametrize("cuts", [(), range(9)])
def test_a_sensor_that_is_not_idle_keeps_its_minute_open(cuts):
    # its clock is slow: it shows 50 s at arrival 70 s
    records = [at(48_000 + 1_000 * n, arrival=68_000 + 1_000 * n) for n in range(6)]
    assert rollups(records, cuts) == []


@pytest.mark.parametrize("cuts", [(), range(9)])
def test_an_emitted_minute_is_emitted_again_with_readings_that_arrive_later(cuts):
    records = [at(0, 5.0), at(10_000, 1.0), heartbeat(70_000)]
    later = [at(20_000, 12.0, arrival=71_000), heartbeat(74_000)]
    assert rollups([*records, *later], cuts) == [
        (0, 2, 3.0, 1.0, 5.0, 1.0), (0, 3, 6.0, 1.0, 12.0, 12.0)
    ]  # fmt: skip


def test_a_complete_minute_that_was_flushed_is_not_emitted_again():
    records = [at(0), heartbeat(70_000), *each_second(*[1] * 3, start=120_000)]
    assert [row[0] for row in rollups(records)] == [0]


@pytest.mark.parametrize(("period", "ends"), [(MINUTE, 60), (5 * MINUTE, 12), (HOUR, 1)])
def test_rollups_of_all_periods_aggregate_the_same_readings(period, ends):
    records = [at(10_000 * n, float(n)) for n in range(362)]
    emitted = rollups(records, period=period)
    assert [row[0] for row in emitted] == [period * n for n in range(ends)]
    each = 360 // ends
    assert [row[1:] for row in emitted] == [
        (each, each * n + (each - 1) / 2, each * n, each * (n + 1) - 1, each * (n + 1) - 1)
        for n in range(ends)
    ]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_mean_is_over_readings_and_not_over_panes(restarts):
    several = (1_000, 1, "several", [(1, 1_000, 2.0), (1, 1_001, 4.0), (1, 1_002, 6.0)])
    records = [several, at(2_000, 12.0), at(59_000, 0.0), at(70_000)]
    emitted = rollups(records, range(4), restarts=restarts)
    assert emitted == [(0, 5, 4.8, 0.0, 12.0, 0.0)]


def test_the_mean_of_equal_values_is_that_value():
    assert rollups(each_second(*[0.1] * 63, start=0)) == [(0, 60, 0.1, 0.1, 0.1, 0.1)]


def two(at, value):
    return (at, 1, str(at), [(1, at, value), (1, at + 1, value)])


def test_sums_do_not_overflow():
    opposite = rollups([two(1_000, 1.7e308), two(2_000, -1.7e308), heartbeat(100_000)])
    assert [row[2] for row in opposite] == [0.0]
    halves = rollups([*each_second(1.7e308, 1.7e308, 0.0, 0.0), heartbeat(100_000)])
    assert halves[0][2] == pytest.approx(0.85e308)
    idle = [two(1_000, 1.7e308), heartbeat(70_000), (71_000, 1, "late", [(1, 30_000, 1.0)])]
    assert rollups([*idle, heartbeat(80_000)])[0][2] == pytest.approx(1.7e308)
