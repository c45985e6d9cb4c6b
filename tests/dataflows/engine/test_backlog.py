"""Readings that arrive late, in packets, and in another order than they were measured."""

import json
from itertools import count, pairwise
from random import Random

import pytest

from dataflows.engine.engine import Times
from tests.dataflows.events.test_levels import changes, make, threshold
from tests.dataflows.streams import HELD_MS, Partition, closed, heartbeat, laid_open

MINUTE, HOUR = 60_000, 3_600_000
PERIODS = (MINUTE, 5 * MINUTE, 60 * MINUTE)
N, W, C = "NORMAL", "WARN", "CRITICAL"
START = 1_000_000_000_000
"""The beginning of an hour is 400 s earlier."""
BREACH = make(
    threshold("greater_than", 80.0, reset_value_min=70.0),
    threshold("greater_than", 90.0, reset_value_min=80.0, severity="critical"),
)
_numbers = count()


def packet(arrival, readings, device=1):
    """A record with a packet id of its own."""
    return (arrival, device, f"packet {next(_numbers)}", list(readings))


def series(values, start=START, every=1_000):
    """Readings of sensor 1, one for each value."""
    return [(1, start + every * n, float(value)) for n, value in enumerate(values)]


def live(readings):
    """One record for each reading, when it was measured."""
    return [packet(ts, [(sensor, ts, value)]) for sensor, ts, value in readings]


def told(partition):
    """(at, type, status) of each event."""
    return [(event.at, event.event_type, event.status) for event in partition.events]


def late_ones(partition):
    """Those that late readings caused."""
    return [event for event in partition.events if "late" in json.loads(event.payload)]


def parts(readings, size):
    """The readings, in lists of at most `size`."""
    return [readings[first : first + size] for first in range(0, len(readings), size)]


def stored_rollups(records, periods=PERIODS):
    """{(period, sensor, start): (count, mean, min, max, last)} of the distinct readings."""
    buckets = {}
    for sensor, ts, value in {reading for *_, readings in records for reading in readings}:
        for period in periods:
            buckets.setdefault((period, sensor, ts // period * period), []).append((ts, value))
    return {key: _summary(readings) for key, readings in buckets.items()}


def _summary(readings):
    values = [value for _, value in readings]
    mean = sum(values) / len(values)
    return (len(values), pytest.approx(mean), min(values), max(values), max(readings)[1])


def written_rollups(records, size=1):
    """What the sink has in the end, from pieces of `size` records: of each bucket its fullest row,
    and the rows of stale buckets computed from the readings that are stored by then."""
    partition, rows = Partition(), {}
    for first in range(0, len(records), size):
        partition.rollups.clear()
        partition.stale.clear()
        partition.step(*records[first : first + size])
        for period, sensor, start, *row in partition.rollups:
            if row[0] >= rows.get((period, sensor, start), (0,))[0]:
                rows[period, sensor, start] = tuple(row)
        stored = stored_rollups(records[: first + size]) if partition.stale else {}
        rows |= {key: stored[key] for key in partition.stale & stored.keys()}
    return rows


# the order inside a packet


ORDERS = {
    "newest first": lambda readings, _: readings[::-1],
    "shuffled": lambda readings, random: random.sample(readings, len(readings)),
    "odd ones last": lambda readings, _: readings[::2] + readings[1::2],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("every", "in_packet"), [(1_000, 10), (250, 40), (10_000, 6), (7_300, 5)])
def test_the_order_of_the_readings_in_a_packet_means_nothing(order, every, in_packet):
    values = [20] * 47 + [85] * 9 + [95] * 7 + [20] * 57
    of_one = series(values, every=every)
    readings = [reading for _, ts, v in of_one for reading in ((1, ts, v), (2, ts, -v))]

    def run(order):
        random = Random(1)
        records = [
            (part[-1][1] + 400, 1, str(number), order(part, random))
            for number, part in enumerate(parts(readings, 2 * in_packet))
        ]
        return Partition(rules=BREACH).run(closed(records, HELD_MS))

    found, sorted_ones = run(ORDERS[order]), run(lambda readings, _: readings)
    assert found.found() == sorted_ones.found()
    assert (found.late, found.engine.counts.late) == ([], 0)
    assert [kind for _, kind, _ in told(found)][:2] == ["warning", "critical"]


# gateways that collect readings


def flushes(every, hertz, packets, random, *, phase=137):
    """Packets with the readings since the one before, sent every few seconds with jitter."""
    records, ts = [], START + 20
    for number in range(1, packets + 1):
        until = START + round(1_000 * every * number) + phase
        readings = [(1, at, 20.0) for at in range(ts, until, 1_000 // hertz)]
        ts = readings[-1][1] + 1_000 // hertz
        records.append(packet(until + random.randint(0, 400), readings))
    return records


@pytest.mark.parametrize("every", [2, 3.5, 5, 7.3, 10, 30, 59])
@pytest.mark.parametrize("hertz", [2, 5, 20])
@pytest.mark.parametrize("phase", [0, 137, 999])
def test_nothing_is_late_if_a_gateway_sends_all_its_readings_every_few_seconds(every, hertz, phase):
    """Packets split panes, and the gateway's gap is unknown at first."""
    records = flushes(every, hertz, 2 + 130 // round(every), Random(7), phase=phase)
    partition = Partition().run([*records, heartbeat(records[-1][0] + 10 * MINUTE)])
    assert (partition.late, partition.engine.counts.late) == ([], 0)
    whole = [row for row in partition.windows if row[1] == "w1"][1:-1]
    assert {row[3] for row in whole} == {hertz}
    assert len({row[2] for row in whole}) == len(whole) > 100
    w10 = [row[3] for row in partition.windows if row[1] == "w10"][10:-1]
    assert set(w10) == {10 * hertz}
    assert written_rollups([*records, heartbeat(records[-1][0] + 90 * MINUTE)]) == (
        stored_rollups(records)
    )


@pytest.mark.parametrize("every", [2, 5, 30])
def test_a_packet_of_a_gateway_may_be_late_by_less_than_its_usual_gap(every):
    records = flushes(every, 5, 20, Random(3))
    arrival, *rest = records[10]
    records[10] = (round(arrival + 750 * every), *rest)
    partition = Partition().run([*records, heartbeat(records[-1][0] + 10 * MINUTE)])
    assert partition.engine.counts.late == 0
    ends = [row[2] for row in partition.windows if row[1] == "w1"]
    assert ends == list(range(START + 1_000, ends[-1] + 1, 1_000))
    assert {row[3] for row in partition.windows if row[1] == "w1"} == {5, 1}  # the last one has 1


# a backlog after live readings


EPISODES = [*[20.0] * 40, *[85.0] * 30, *[20.0] * 40, 85.0, *[95.0] * 8, *[20.0] * 40]
"""WARN for half a minute, and later CRITICAL after WARN."""


def story(every, order, in_packet):
    """Live readings, ten minutes without a connection, live readings, and the backlog. Returns the
    records without the backlog, those of the backlog, and its readings."""
    before = live(series([20.0] * 30, START - 600_000))
    missed = series(EPISODES, START, every)
    back = missed[-1][1] + 60_000
    after = live(series([20.0] * 120, back))
    packets = parts(missed, in_packet)
    if order == "newest first":
        packets.reverse()
    elif order == "shuffled":
        Random(5).shuffle(packets)
    backlog = [packet(back + 20_500 + 100 * n, part) for n, part in enumerate(packets)]
    return [*before, *after], backlog, missed


def merged(*records):
    return sorted((record for some in records for record in some), key=lambda record: record[0])


def levels(partition):
    """(at, code, type, status, value) of each change of level, and the place of the change whose
    event it resolves."""
    codes = {"ML_BEHAVIOR_STATE", "RECOVERED_ANOMALY"}
    events = [event for event in partition.events if event.event_code in codes]
    place = {event.event_key: number for number, event in enumerate(events)}
    return [
        (event.at, event.event_code, event.event_type, event.status, event.value,
         event.resolves and place[event.resolves])
        for event in events
    ]  # fmt: skip


@pytest.mark.parametrize("in_packet", [1, 7, 1000])
@pytest.mark.parametrize("order", ["oldest first", "newest first", "shuffled"])
@pytest.mark.parametrize("every", [1_000, 2_000, 7_000, 40_000])
def test_a_backlog_leads_to_the_events_of_a_live_lane_in_every_order(every, order, in_packet):
    steady, backlog, missed = story(every, order, in_packet)
    end = heartbeat(max(steady[-1][0], backlog[-1][0]) + 10 * MINUTE)
    found = Partition(rules=BREACH).run([*merged(steady, backlog), end])
    in_time = Partition(rules=BREACH).run([*live(missed), heartbeat(missed[-1][1] + 10 * MINUTE)])

    assert levels(found) == levels(in_time)
    assert [kind for _, _, kind, *_ in levels(found)] == [
        "warning", "notice", "warning", "critical", "notice"
    ]  # fmt: skip
    assert len(late_ones(found)) == 5
    (detected_at,) = {json.loads(event.payload)["detected_at"] for event in late_ones(found)}
    assert detected_at >= backlog[-1][0] + 3_000
    assert found.engine.counts.late == len(missed)
    assert found.engine.counts.too_late == 0
    lane = sorted(row for row in found.late_windows if row[1] != "w10")
    assert lane == sorted(row for row in in_time.windows if row[1] != "w10")


@pytest.mark.parametrize("in_packet", [1, 7])
@pytest.mark.parametrize("order", ["oldest first", "newest first"])
@pytest.mark.parametrize("every", [60_000, 600_000])
def test_a_backlog_of_hours_leads_to_the_events_of_a_live_lane(every, order, in_packet):
    """Oldest first, its old panes close while it still arrives."""
    steady, backlog, missed = story(every, order, in_packet)
    end = heartbeat(max(steady[-1][0], backlog[-1][0]) + 10 * MINUTE)
    found = Partition(rules=BREACH).run([*merged(steady, backlog), end])
    in_time = Partition(rules=BREACH).run([*live(missed), heartbeat(missed[-1][1] + 10 * MINUTE)])
    assert levels(found) == levels(in_time)
    assert len(late_ones(found)) == 5
    assert found.engine.counts.late == len(missed)
    assert found.engine.counts.too_late == 0
    detected_at = [json.loads(event.payload)["detected_at"] for event in late_ones(found)]
    assert detected_at == sorted(detected_at)
    assert (len(set(detected_at)) > 1) == (order == "oldest first")


@pytest.mark.parametrize("in_packet", [1, 7, 1000])
@pytest.mark.parametrize("order", ["oldest first", "newest first", "shuffled"])
def test_a_backlog_does_not_disturb_the_live_lane(order, in_packet):
    steady, backlog, _ = story(1_000, order, in_packet)
    steady = [
        (at, device, name, [(s, ts, 85.0 if at % 40_000 < 12_000 else v) for s, ts, v in some])
        for at, device, name, some in steady
    ]
    end = heartbeat(steady[-1][0] + 10 * MINUTE)
    alone = Partition(rules=BREACH).run([*steady, end])
    found = Partition(rules=BREACH).run([*merged(steady, backlog), end])
    assert found.windows == alone.windows
    late = {event.event_key for event in late_ones(found)}
    assert [event for event in found.events if event.event_key not in late] == alone.events
    assert len(alone.events) > 4
    assert found.predictions == alone.predictions


@pytest.mark.parametrize("in_packet", [1, 30, 1000])
@pytest.mark.parametrize("order", ["oldest first", "newest first", "shuffled"])
@pytest.mark.parametrize("every", [1_000, 15_000])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_all_rollups_are_right_after_a_backlog(every, order, in_packet, size):
    steady, backlog, _ = story(every, order, in_packet)
    records = merged(steady, backlog)
    end = heartbeat(records[-1][0] + 90 * MINUTE)
    assert written_rollups([*records, end], size) == stored_rollups(records)


@pytest.mark.parametrize("in_packet", [1, 10, 30])
def test_packets_may_arrive_newest_first(in_packet):
    readings = series(EPISODES)
    last = readings[-1][1]
    packets = parts(readings, in_packet)[::-1]
    records = [packet(last + 1_000 + 300 * n, part) for n, part in enumerate(packets)]
    partition = Partition(rules=BREACH).run(closed(records, 10 * MINUTE))
    in_time = Partition(rules=BREACH).run([*live(readings), heartbeat(last + 10 * MINUTE)])
    assert levels(partition) == levels(in_time)
    assert len(late_ones(partition)) == len(levels(partition)) == 5
    # the pane before the newest one is still open
    assert partition.engine.counts.late == len(readings) - max(2, len(packets[0]))
    assert written_rollups(closed(records, 90 * MINUTE)) == stored_rollups(records)


# the events of late readings


def breach_before(late_by, *readings):
    """Live readings for a while, and late ones that arrive one minute before they end."""
    lasts = 300 + late_by // 1000
    steady = live(series([20.0] * lasts))
    arrival = steady[-1][0] - 60_000 + 500
    at = (arrival - late_by) // 1000 * 1000
    late = packet(arrival, [(1, at + ms, value) for ms, value in readings])
    return [*merged(steady, [late]), heartbeat(steady[-1][0] + 3_000)], at, arrival


@pytest.mark.parametrize("late_by", [5_000, 60_000, 3_600_000])
@pytest.mark.parametrize(("value", "kind"), [(85.0, "warning"), (95.0, "critical")])
def test_one_late_breach_is_exactly_one_event_which_is_over(late_by, value, kind):
    records, at, arrival = breach_before(late_by, (300, value))
    (event,) = Partition(rules=BREACH).run(records).events
    assert (event.at, event.event_type, event.status) == (at + 1_000, kind, "resolved")
    assert (event.value, event.resolves, event.silent) == (value, None, False)
    details = json.loads(event.payload)
    assert details["late"] is True
    assert arrival + 3_000 <= details["detected_at"] < arrival + 4_000
    assert (details["from"], details["panes"]) == (N, [[at + 1_000, 1, value]])


@pytest.mark.parametrize("quiet", range(4))
def test_a_late_breach_is_one_event_if_the_late_readings_end_before_it_clears(quiet):
    records, at, _ = breach_before(60_000, *((1_000 * n, 85.0 if n < 3 else 20.0)
                                             for n in range(3 + quiet)))  # fmt: skip
    partition = Partition(rules=BREACH).run(records)
    assert told(partition) == [(at + 1_000, "warning", "resolved")]
    records, at, _ = breach_before(60_000, *((1_000 * n, 85.0 if n < 3 else 20.0)
                                             for n in range(8)))  # fmt: skip
    partition = Partition(rules=BREACH).run(records)
    assert told(partition) == [
        (at + 1_000, "warning", "active"),
        (at + 8_000, "notice", "resolved"),
    ]


def test_a_late_escalation_that_is_cut_ends_with_its_critical_event():
    records, at, _ = breach_before(60_000, (0, 85.0), (1_000, 85.0), (2_000, 95.0), (3_000, 95.0))
    warning, critical = Partition(rules=BREACH).run(records).events
    assert (warning.at, warning.event_type, warning.status) == (at + 1_000, "warning", "active")
    assert (critical.at, critical.event_type, critical.status) == (
        at + 3_000, "critical", "resolved"
    )  # fmt: skip
    assert critical.resolves == warning.event_key


def test_late_readings_are_judged_by_thresholds_and_deltas_but_not_by_forecasts():
    rules = make(
        threshold("greater_than", 200.0, severity="critical", forecast_after=1),
        deltas=[{"sensor_id": 1, "abs_delta": 50.0, "min_readings": 0}],
    )
    ramp = [(1_000 * n, 100.0 + 10 * n) for n in range(10)]
    records, at, _ = breach_before(60_000, *ramp, (10_000, 20.0))
    (event,) = Partition(rules=rules).run(records).events
    assert (event.event_code, event.at) == ("DELTA_SPIKE", at + 11_000)
    in_time = Partition(rules=rules).run(closed(live(series([v for _, v in ramp]))))
    assert [event.event_code for event in in_time.events] == ["PRED_THRESHOLD_BREACH"]


@pytest.mark.parametrize("needed", [1, 2, 3, 5])
def test_a_late_streak_counts_late_panes_alone(needed):
    rules = make(threshold("greater_than", 80.0, consecutive_readings=needed))
    for panes in range(1, 6):
        records, at, _ = breach_before(60_000, *((1_000 * n, 85.0) for n in range(panes)))
        partition = Partition(rules=rules).run(records)
        expected = [(at + 1_000 * needed, "warning", "resolved")] if panes >= needed else []
        assert told(partition) == expected


def test_a_late_streak_ends_with_its_session():
    rules = make(threshold("greater_than", 80.0, consecutive_readings=3))
    steady = live(series([20.0] * 120))

    def late(*arrivals):
        beyond = [packet(START + round(1_000 * at), [(1, START + 10_500 + 1_000 * n, 85.0)])
                  for n, at in enumerate(arrivals)]  # fmt: skip
        records = [*merged(steady, beyond), heartbeat(START + 122_000)]
        return told(Partition(rules=rules).run(records))

    assert late(60.5, 61.5, 62.5) == [(START + 13_000, "warning", "resolved")]
    assert late(60.5, 61.5, 72.5) == []
    assert late(60.5, 61.5, 72.5, 73.5) == []


# nothing is told twice


LIVE_BREACH = [*[20.0] * 30, *[85.0] * 20, *[20.0] * 90]
COPIES = {
    "all of it": lambda readings: readings[:105],
    "its beginning": lambda readings: readings[28:32],
    "its middle": lambda readings: readings[40:41],
    "its end": lambda readings: readings[48:70],
    "between its readings": lambda readings: [(s, ts + 500, v) for s, ts, v in readings[25:60]],
    "slightly other values": lambda readings: [(s, ts, v + 0.25) for s, ts, v in readings[:90]],
}


@pytest.mark.parametrize("copies", COPIES)
@pytest.mark.parametrize("in_packet", [1, 3, 1000])
def test_a_breach_that_live_readings_told_is_not_told_again_by_late_copies(copies, in_packet):
    readings = series(LIVE_BREACH)
    steady = live(readings)
    again = COPIES[copies](readings)
    arrival = readings[110][1] + 250
    late = [packet(arrival + 20 * n, part) for n, part in enumerate(parts(again, in_packet))]
    records = [*merged(steady, late), heartbeat(readings[-1][1] + 3_000)]
    partition = Partition(rules=BREACH).run(records)
    assert partition.engine.counts.late == len(again)
    assert changes(partition) == [(START + 31_000, N, W), (START + 55_000, W, N)]
    assert late_ones(partition) == []


def test_a_late_episode_that_was_not_told_is_told_though_another_one_was():
    readings = series(LIVE_BREACH)
    late = packet(readings[110][1] + 250, [(1, START + 10_500, 85.0), (1, START + 40_500, 85.0)])
    records = [*merged(live(readings), [late]), heartbeat(readings[-1][1] + 3_000)]
    partition = Partition(rules=BREACH).run(records)
    # both late panes are one incident unless the value clears between them
    assert [event.at for event in partition.events] == [START + 31_000, START + 55_000]
    calm = [(1, START + 11_500 + 1_000 * n, 20.0) for n in range(6)]
    late = packet(readings[110][1] + 250, [late[3][0], *calm, late[3][1]])
    records = [*merged(live(readings), [late]), heartbeat(readings[-1][1] + 3_000)]
    partition = Partition(rules=BREACH).run(records)
    assert [(event.at, event in late_ones(partition)) for event in partition.events] == [
        (START + 11_000, True), (START + 16_000, True), (START + 31_000, False),
        (START + 55_000, False),
    ]  # fmt: skip


def test_a_late_critical_inside_a_told_warning_is_told_but_a_warning_inside_a_critical_is_not():
    readings = series(LIVE_BREACH)
    late = packet(readings[110][1] + 250, [(1, START + 40_500, 95.0)])
    records = [*merged(live(readings), [late]), heartbeat(readings[-1][1] + 3_000)]
    partition = Partition(rules=BREACH).run(records)
    assert [(event.at, event.event_type) for event in late_ones(partition)] == [
        (START + 41_000, "critical")
    ]
    readings = series([95.0 if value == 85.0 else value for value in LIVE_BREACH])
    late = packet(readings[110][1] + 250, [(1, START + 40_500, 85.0)])
    records = [*merged(live(readings), [late]), heartbeat(readings[-1][1] + 3_000)]
    assert late_ones(Partition(rules=BREACH).run(records)) == []


def test_a_late_episode_is_told_once_though_its_readings_arrive_in_several_sessions():
    missed = series([85.0] * 20)
    steady = live(series([20.0] * 200, START + 60_000))
    late = [packet(START + 100_500 + 20_000 * n, missed[: 20 - 5 * n]) for n in range(3)]
    records = [*merged(steady, late), heartbeat(steady[-1][0] + 3_000)]
    partition = Partition(rules=BREACH).run(records)
    assert partition.engine.counts.late == 20 + 15 + 10
    assert told(partition) == [(START + 1_000, "warning", "resolved")]


@pytest.mark.parametrize("every", [1_000, 10_000, 60_000])
@pytest.mark.parametrize("order", [1, -1])
def test_a_breach_that_lasts_from_the_backlog_into_the_live_readings_is_told_once(every, order):
    """The live lane tells it first."""
    missed = series([20.0] * 20 + [85.0] * 40, START, every)
    back = missed[-1][1] + every
    steady = live(series([85.0] * 60 + [20.0] * 60, back))
    packets = parts(missed, 10)[::order]
    late = [packet(back + 10_250 + 100 * n, part) for n, part in enumerate(packets)]
    records = [*merged(steady, late), heartbeat(steady[-1][0] + 3_000)]
    partition = Partition(rules=BREACH).run(records)
    assert partition.engine.counts.late == len(missed)
    assert changes(partition) == [(back + 1_000, N, W), (back + 65_000, W, N)]
    assert late_ones(partition) == []


def told_spans(gap_ms, late_at, *, closed_for=30):
    """Two live breaches of 5 s, so long after each other; (at, level) of the events of a late
    reading beyond the bound at that time after the first one has cleared, in ms."""
    values = [*[20.0] * 10, *[85.0] * 5, *[20.0] * (5 + gap_ms // 1_000), *[85.0] * 5]
    readings = series([*values, *[20.0] * closed_for])
    cleared = START + 20_000
    late = packet(readings[-10][1] + 250, [(1, cleared + late_at, 85.0)])
    records = [*merged(live(readings), [late]), heartbeat(readings[-1][1] + 3_000)]
    partition = Partition(rules=BREACH).run(records)
    raises = [event.at for event in partition.events if event.event_type == "warning"]
    assert {START + 11_000, cleared + gap_ms + 1_000} <= set(raises)
    return [event.at - cleared for event in late_ones(partition)]


@pytest.mark.parametrize(
    ("gap_ms", "late_at", "expected"),
    [
        (20_000, 10_000, []),
        (59_000, 30_000, []),
        (60_000, 30_000, [31_000]),
        (60_000, 500, [1_000]),
        (60_000, -1, []),
        (60_000, 60_500, []),
        (300_000, 150_000, [151_000]),
    ],
)
def test_a_late_breach_between_two_told_ones_is_told_if_they_are_a_minute_apart(
    gap_ms, late_at, expected
):
    assert told_spans(gap_ms, late_at) == expected


@pytest.mark.parametrize(("hours", "told_again"), [(23, False), (25, True)])
def test_a_told_breach_is_remembered_for_a_day(hours, told_again):
    first = series([85.0, *[20.0] * 10])
    later = live(series([20.0] * 30, START + hours * 60 * MINUTE))
    late = packet(later[20][0] + 250, [(1, START + 500, 85.0)])
    records = [*live(first), *merged(later, [late]), heartbeat(later[-1][0] + 3_000)]
    partition = Partition(rules=BREACH).run(records)
    assert len(late_ones(partition)) == told_again


def test_many_told_breaches_are_remembered():
    values = [value for _ in range(40) for value in [*[85.0] * 3, *[20.0] * 80]]
    readings = series(values)
    copies = [(1, START + 83_000 * n + 500, 85.0) for n in range(40)]
    late = packet(readings[-10][1] + 250, copies)
    records = [*merged(live(readings), [late]), heartbeat(readings[-1][1] + 3_000)]
    partition = Partition(rules=BREACH).run(records)
    assert len(changes(partition)) == 80
    assert late_ones(partition) == []


def test_a_late_incident_that_was_not_told_is_told_when_it_becomes_worse():
    readings = series(LIVE_BREACH)
    values = [*[85.0] * 10, *[95.0] * 3, *[20.0] * 8]
    late = [
        packet(readings[110][1] + 250 + 100 * n, [(1, START + 35_500 + 1_000 * n, value)])
        for n, value in enumerate(values)
    ]
    records = [*merged(live(readings), late), heartbeat(readings[-1][1] + 3_000)]
    partition = Partition(Times(late_limit=4), BREACH).run(records)  # it closes several times
    critical, over = late_ones(partition)
    assert (critical.at, critical.event_type) == (START + 46_000, "critical")
    # the event of its WARN was not told
    told_keys = {event.event_key for event in partition.events}
    assert critical.resolves in {None, *told_keys}
    assert critical.incident_key in {None, *told_keys}
    assert (over.event_type, over.resolves) == ("notice", critical.event_key)


# retries


def retried(split, late):
    """A packet of 20 readings a second apart, and retries of it that are cut at `split`."""
    values = [*[20.0] * 5, *[85.0] * 6, *[20.0] * 9]
    readings = series(values)
    at = readings[-1][1] + 400
    first = packet(at, readings)
    bounds = [0, *split, len(readings)]
    pieces = [readings[a:b] for a, b in pairwise(bounds)]
    return readings, first, [packet(at + late + 10 * n, piece) for n, piece in enumerate(pieces)]


@pytest.mark.parametrize("split", [[], [1], [10], [3, 7, 15], range(1, 20)])
@pytest.mark.parametrize("late", [50, 2_000, 30_000])
def test_a_retry_that_is_cut_differently_changes_nothing(split, late):
    readings, first, again = retried(split, late)
    then = live(series([20.0] * 60, readings[-1][1] + 1_000))
    end = heartbeat(then[-1][0] + 10 * MINUTE)
    once = Partition(rules=BREACH).run([first, *then, end])
    records = [*merged([first], again, then), end]
    twice = Partition(rules=BREACH).run(records)
    assert twice.windows == once.windows
    assert twice.events == once.events
    assert changes(once) == [(START + 6_000, N, W), (START + 16_000, W, N)]
    counts = twice.engine.counts
    assert counts.late + counts.repeated >= len(readings)
    assert written_rollups([*records[:-1], heartbeat(end[0] + 90 * MINUTE)]) == (
        stored_rollups(records)
    )


def test_repeats_inside_a_late_pane_are_counted_and_not_aggregated_twice():
    steady = live(series([20.0] * 60))
    readings = [(1, START + 10_000 + 100 * n, 30.0 + n) for n in range(4)]
    late = [packet(START + 40_500 + 100 * n, readings[n:]) for n in range(4)]
    partition = Partition().run([*merged(steady, late), heartbeat(START + 90_000)])
    (pane,) = [row for row in partition.late_windows if row[1] == "w1"]
    assert pane[:7] == (1, "w1", START + 11_000, 4, 31.5, 30.0, 33.0)
    assert partition.engine.counts.repeated == 3 + 2 + 1


# sessions


def late_panes(records, **times):
    """(arrival, pane ends) of each record or heartbeat at which late panes close, in seconds after
    the start."""
    partition, closings = Partition(Times(**times)), []
    for record in records:
        before = len(partition.late_windows)
        partition.step(record)
        ends = [row[2] for row in partition.late_windows[before:] if row[1] == "w1"]
        if ends:
            closings.append(((record[0] - START) / 1_000, [(end - START) / 1_000 for end in ends]))
    return closings


def at_second(arrival, *seconds):
    """A record with a reading of sensor 1 at each second after the start."""
    readings = [(1, START + round(1_000 * second), 20.0) for second in seconds]
    return packet(START + round(1_000 * arrival), readings)


@pytest.mark.parametrize(
    ("gap", "waits"),
    [(1, 3), (1.5, 4), (2, 4), (10, 20), (100, 200), (149, 298), (160, 300), (1_000, 300)],
)  # fmt: skip
def test_a_session_ends_after_twice_the_gap_of_the_device_and_three_to_300_seconds(gap, waits):
    steady = [at_second(gap * n, gap * n) for n in range(6)]
    now = 5 * gap
    late = at_second(now + 0.25, 0.5)
    for more in ([], [at_second(now + 0.5, 0.75), at_second(now + 1.0, 0.25)]):
        last = (more or [late])[-1][0] - START
        beats = [heartbeat(START + last + 1_000 * waits + ms) for ms in (-1, 0, 1)]
        assert late_panes([*steady, late, *more, *beats]) == [((last + 1_000 * waits) / 1_000, [1])]


def test_a_session_of_a_device_with_an_unknown_gap_ends_after_the_idle_time():
    records = [at_second(100.0, 90.0, 95.0), at_second(100.5, 1.0)]
    beats = [heartbeat(START + ms) for ms in (103_499, 103_500)]
    assert late_panes([*records, *beats]) == [(103.5, [2.0])]


def test_every_late_reading_prolongs_a_session_and_one_after_its_end_begins_another():
    steady = [at_second(n, n) for n in range(80, 130)]
    late = [at_second(100.5 + 2.5 * n, 50 - n) for n in range(5)]
    again = [at_second(118.5, 50, 48)]
    assert late_panes(merged(steady, late, again)) == [
        (114.0, [47.0, 48.0, 49.0, 50.0, 51.0]), (122.0, [49.0, 51.0])
    ]  # fmt: skip


def test_a_long_session_closes_all_panes_but_the_newest_and_goes_on():
    steady = [at_second(n, n) for n in range(80, 130)]
    late = [at_second(100 + n / 10, 20 + n, 20.5 + n) for n in range(6)]
    assert late_panes(merged(steady, late), late_limit=4) == [
        (100.2, [21.0]), (100.4, [22.0, 23.0]), (104.0, [24.0, 25.0, 26.0])
    ]  # fmt: skip


@pytest.mark.parametrize(("times", "step"), [({}, 600), ({"late_grace_ms": 600_000}, 100)])
def test_old_panes_of_a_long_session_close_when_the_newest_reading_is_two_hours_ahead(times, step):
    """They close up to an hour before it, and again an hour later."""
    back = 100 * step
    steady = [at_second(back + n, back + n) for n in range(10)]
    late = [at_second(back + 5 + n / 10, step * n) for n in range(26)]
    end = heartbeat(START + 1_000 * (back + 900))
    assert late_panes([*merged(steady, late), end], **times) == [
        (back + 6.3, [step * n + 1 for n in range(6)]),  # the newest one is two hours old
        (back + 6.9, [step * n + 1 for n in range(6, 12)]),
        (back + 7.5, [step * n + 1 for n in range(12, 18)]),
        (back + 900, [step * n + 1 for n in range(18, 26)]),
    ]


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(("behind", "too_late"), [(3_599.5, 1), (3_600, 0), (3_601, 0), (7_000, 0)])
def test_a_late_reading_may_be_an_hour_behind_the_newest_one_of_its_session(behind, too_late, cut):
    back = 10_000
    steady = [at_second(back + n, back + n) for n in range(10)]
    late = [at_second(back + 5, 0), at_second(back + 5.1, 7_200), at_second(back + 5.2, behind)]
    partition = Partition().run(merged(steady, late), range(20) if cut else ())
    assert partition.engine.counts.late == 3
    assert partition.engine.counts.too_late == too_late


@pytest.mark.parametrize("hours", [1, 100])
def test_a_backlog_may_arrive_newest_first_however_long_it_is(hours):
    back = hours * 3_600 + 1_000
    steady = [at_second(back + n, back + n) for n in range(20)]
    late = [at_second(back + 5 + n / 10, hours * 3_600 - 60 * hours * n) for n in range(60)]
    partition = Partition().run(merged(steady, late))
    assert (partition.engine.counts.late, partition.engine.counts.too_late) == (60, 0)


@pytest.mark.parametrize("cut", [False, True])
def test_a_late_reading_behind_a_closed_late_pane_is_counted_and_in_no_window(cut):
    steady = live(series([20.0] * 200))
    late = [packet(START + 100_000 + 100 * n, [(1, START + 20_000 + 1_000 * n, 30.0)])
            for n in range(8)]  # fmt: skip
    behind = packet(START + 100_950, [(1, START + 21_500, 31.0)])
    records = merged(steady, [*late, behind])
    end = heartbeat(START + 250_000)
    partition = Partition(Times(late_limit=4)).run([*records, end], range(400) if cut else ())
    assert partition.engine.counts.late == 9
    assert partition.engine.counts.too_late == 1
    w1 = [row[2:4] for row in partition.late_windows if row[1] == "w1"]
    assert w1 == [(START + 21_000 + 1_000 * n, 1) for n in range(8)]
    assert written_rollups([*records, heartbeat(START + 90 * MINUTE)]) == stored_rollups(records)


@pytest.mark.parametrize("repeats", ["late readings", "the first packet"])
def test_a_bucket_is_computed_again_only_when_the_live_lane_has_emitted_it(repeats):
    steady = live(series([20.0] * 300))
    if repeats == "late readings":
        more = [packet(START + 100_250, [(1, START + 20_500, 30.0)])]
    else:
        at, device, name, readings = steady[0]
        more = [(at + 100, device, name, readings)]
    partition, stale = Partition(), []
    for record in [*merged(steady, more), heartbeat(START + 3 * HOUR)]:
        before = set(partition.stale)
        partition.step(record)
        stale += [(period, record[0]) for period, _, _ in partition.stale - before]
    ((_, minute),) = [place for place in stale if place[0] == MINUTE]
    ((_, hour),) = [place for place in stale if place[0] == HOUR]
    assert minute < START + 130_000
    assert hour == START + 3 * HOUR


# cuts


def _gateway():
    records = flushes(5, 5, 12, Random(1))
    high = [(at, device, name, [(s, ts, 85.0 if ts // 1_000 % 17 < 3 else v) for s, ts, v in some])
            for at, device, name, some in records]  # fmt: skip
    return [*high, packet(records[-1][0] + 900, high[3][3]), heartbeat(records[-1][0] + MINUTE)]


def _backlog(order):
    steady, backlog, _ = story(1_000, order, 20)
    return [*merged(steady, backlog), heartbeat(backlog[-1][0] + 10 * MINUTE)]


def _long_backlog():
    steady, backlog, _ = story(90_000, "oldest first", 3)
    return [*merged(steady, backlog), heartbeat(backlog[-1][0] + 10 * MINUTE)]


def _copies():
    readings = series(LIVE_BREACH)
    late = [packet(readings[80][1] + 250 + 700 * n, [(s, ts + 300, v + 5) for s, ts, v in part])
            for n, part in enumerate(parts(readings[20:70], 4))]  # fmt: skip
    return [*merged(live(readings), late), heartbeat(readings[-1][1] + 40_000)]


def _last_into_live():
    missed = series([20.0] * 20 + [85.0] * 40, START, 10_000)
    steady = live(series([85.0] * 60 + [20.0] * 60, START + 600_000))
    late = [packet(START + 600_250 + 400 * n, part) for n, part in enumerate(parts(missed, 3))]
    return [*merged(steady, late), heartbeat(steady[-1][0] + 10_000)]


STORIES = {
    "gateway": _gateway,
    "backlog": lambda: _backlog("oldest first"),
    "shuffled backlog": lambda: _backlog("shuffled"),
    "long backlog": _long_backlog,
    "copies": _copies,
    "a breach that lasts": _last_into_live,
}


def state(partition):
    """The snapshot, except predictions: some of their slots are never read again."""
    tables = laid_open(partition.engine.snapshot())
    return {name: table for name, table in tables.items() if "predictions" not in name}


@pytest.mark.parametrize("limit", [10_000, 5])
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("name", STORIES)
def test_a_story_may_be_cut_anywhere(name, restarts, limit):
    def run(cuts=()):
        partition = Partition(Times(late_limit=limit), BREACH)
        return partition.run(records, cuts, restarts=restarts)

    records = STORIES[name]()
    whole = run()
    assert len(whole.late) > 10 or name == "gateway"
    assert len(changes(whole)) >= 2 or limit == 5
    for cuts in (range(len(records)), range(3, len(records), 7)):
        found = run(cuts)
        assert found.found() == whole.found()
        assert found.stale <= whole.stale
        assert state(found) == state(whole)
