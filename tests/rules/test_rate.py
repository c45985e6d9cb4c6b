"""Rates of change: when they raise a level, their texts, and independence of cuts and restarts."""

import json
from random import Random
from typing import Any

import numpy as np
import pytest

from contract.table import bytes_of
from rules.columns import Rules
from rules.rate import RATE, RateMemory
from rules.tables import make_rules
from rules.words import Named, Names
from tests.dataflows.streams import Partition, closed, each_second

ROW: dict[str, Any] = {
    "id": 3, "sensor_id": 1, "name": "heats up", "span_seconds": 10, "rise_per_minute": 50.0
}  # fmt: skip


def make(*rows):
    rules, refused = make_rules({"rate_thresholds": rows})
    assert refused == []
    return Rules(rules)


def events(rules, values, cuts=(), *, language="en", restarts=False):
    names = Names(language, {1: Named("boiler", "temperature", "°C", "rig")})
    partition = Partition(rules=rules, names=names)
    partition.run(closed(each_second(*values)), cuts, restarts=restarts)
    return [
        event for event in partition.events if event.event_code in (RATE.code, "RECOVERED_ANOMALY")
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rise_per_minute": None}, "no bound is set"),
        ({"fall_per_minute": 0.0}, "fall_per_minute must be above 0"),
        ({"span_seconds": 1}, "Expected `int` >= 2"),
        ({"span_seconds": 90_000}, "Expected `int` <= 86400"),
        ({"rise_per_minute": float("inf")}, "rise_per_minute must be a finite number"),
        ({"severity": "loud"}, "Invalid enum value 'loud'"),
        ({"raise_after": 0}, "raise_after must be between 1 and 10000"),
        ({"slope": 1.0}, "unknown column slope"),
    ],
)
def test_an_invalid_row_is_refused(change, reason):
    rules, (refused,) = make_rules({"rate_thresholds": [ROW | change]})
    assert reason in refused.error
    assert len(rules) == 0


@pytest.mark.parametrize("change", [{"severity": "info"}, {"is_active": 0}])
def test_info_and_inactive_rows_become_no_rule(change):
    assert make_rules({"rate_thresholds": [ROW | change]})[0].of(RATE) == ()


def test_a_level_is_raised_after_a_span_and_clears_when_the_value_stops_rising():
    rising = [20 + second for second in range(15)]  # 60 per minute
    raised, cleared = events(make(ROW), [*rising, *[34] * 20])
    assert raised.at == 12_000  # the first pane with a pane ten seconds earlier
    assert (raised.event_type, raised.event_code) == ("warning", "RATE_OF_CHANGE")
    assert raised.message == (
        "boiler of rig has risen by 60 °C a minute for 10 s, to 30 °C; the limit is 50 °C a minute "
        "(heats up). Check it soon."
    )
    payload = json.loads(raised.payload)
    assert {
        name: payload[name]
        for name in ("rate_per_minute", "span_seconds", "over_seconds", "threshold_id", "to")
    } == {
        "rate_per_minute": 60.0, "span_seconds": 10, "over_seconds": 10.0, "threshold_id": 3,
        "to": "WARN",
    }  # fmt: skip
    assert cleared.resolves == raised.event_key
    assert cleared.at == 22_000  # the fifth consecutive pane below the limit


def test_falls_have_a_separate_bound():
    falling = [100 - 2 * second for second in range(15)]
    row = ROW | {"rise_per_minute": None, "fall_per_minute": 100.0, "severity": "critical"}
    (raised,) = events(make(row), falling, language="es")
    assert raised.message == (
        "boiler de rig baja 120 °C por minuto desde hace 10 s, hasta 80 °C; el límite es 100 °C "
        "por minuto (heats up). Intervenga de inmediato."
    )
    assert events(make(ROW), falling) == []


def test_several_rates_of_a_sensor_all_apply():
    quick = ROW | {"id": 4, "span_seconds": 3, "rise_per_minute": 200.0, "severity": "critical"}
    values = [20] * 12 + [26, 32, 38, 44, 50] + [50] * 20
    levels = [json.loads(event.payload)["to"] for event in events(make(ROW, quick), values)]
    assert levels[:2] == ["CRITICAL", "WARN"]


def test_the_rate_is_unknown_after_a_long_gap():
    memory = RateMemory()
    rules, _ = make_rules({"rate_thresholds": [ROW]})
    memory.use(rules.of(RATE))
    ends = np.array([1_000, 11_000, 40_000, 50_000])
    rate, over = memory.step(
        np.zeros(4, np.int64), ends, np.array([0.0, 5.0, 50.0, 60.0]), np.full(4, 10_000)
    )
    assert np.isnan(rate[[0, 2]]).all()
    assert rate[[1, 3]].tolist() == [30.0, 60.0]
    assert over.tolist() == [0, 10_000, 0, 10_000]


def test_memory_keeps_sixty_panes_per_span_and_measures_over_little_more_than_a_span():
    memory = RateMemory()
    rules, _ = make_rules({"rate_thresholds": [ROW | {"span_seconds": 600}]})
    memory.use(rules.of(RATE))
    count = 5_000
    ends = 1_000 * (1 + np.arange(count))
    rate, over = memory.step(
        np.zeros(count, np.int64), ends, np.arange(count) / 2.0, np.full(count, 600_000)
    )
    assert np.isnan(rate[:600]).all()
    assert rate[600:] == pytest.approx(30.0)
    assert over[600:].min() >= 600_000
    assert over[600:].max() <= 610_000
    assert bytes_of({"rates": memory}) < 1_000


def test_rules_that_stay_keep_their_panes_when_others_change():
    records = closed(each_second(*[20 + second for second in range(15)]))
    partition = Partition(rules=make(ROW))
    partition.step(*records[:9])
    partition.rules = make(ROW | {"id": 1, "sensor_id": 2}, ROW | {"name": "other"})
    partition.step(*records[9:])
    assert [event.at for event in partition.events if event.event_code == RATE.code] == [12_000]


def test_cuts_and_restarts_do_not_change_events():
    noise = Random(5)
    values = [20 + 15 * (second // 20 % 2) + noise.random() for second in range(200)]
    rules = make(ROW, ROW | {"id": 4, "span_seconds": 4, "fall_per_minute": 90.0})
    whole = events(rules, values)
    assert len(whole) > 10
    for seed in range(5):
        cuts = Random(seed).sample(range(200), 20)
        assert events(rules, values, cuts, restarts=True) == whole
