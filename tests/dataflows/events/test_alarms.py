"""Alarms that nobody configured, end to end: kinds of signals with nothing wrong, and changes."""

from random import Random

import numpy as np
import pytest

from ml.online import PartitionDetector
from rules.columns import Rules
from rules.tables import make_rules
from tests.dataflows.streams import NO_RULES, Partition

RAISING = {"warning", "critical"}


def story(values, interval=1, rules=NO_RULES, cut=500):
    """The events of a sensor with a value every `interval` seconds, and the partition."""
    records = [
        (1000 * interval * n, 1, str(n), [(1, 1000 * interval * n, float(value))])
        for n, value in enumerate(values)
    ]
    partition = Partition(rules=rules, detector=PartitionDetector)
    return partition.run(records, range(cut, len(records), cut)).events


def raising(events):
    return [event for event in events if event.event_type in RAISING]


@pytest.mark.parametrize("seed", range(4))
def test_gusts_of_wind_raise_at_most_once_in_three_hours(seed):
    random = np.random.default_rng(seed)
    slow, fast = random.uniform(0.99, 0.998), random.uniform(0.8, 0.95)
    a = b = 0.0
    values = []
    for _ in range(10_800):
        a = slow * a + random.normal(0, (1 - slow**2) ** 0.5)
        b = fast * b + random.normal(0, (1 - fast**2) ** 0.5)
        values.append(round(float(4 * np.exp(0.3 * a + 0.3 * b)), 1))
    assert len(raising(story(values))) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_a_door_raises_at_most_one_warning_in_six_hours(seed):
    random = Random(seed)
    interval, opened = random.choice([1, 1, 5]), random.choice([1.0, 100.0])
    values = [0.0] * (21_600 // interval)
    at = random.randint(100, 3000)
    while at < len(values):
        length = random.randint(3, 60)
        values[at : at + length] = [opened] * len(values[at : at + length])
        at += random.randint(300, 4000)
    found = raising(story(values, interval))
    assert len(found) <= 1
    assert {event.event_type for event in found} <= {"warning"}


@pytest.mark.parametrize("seed", range(8))
def test_a_lasting_shift_is_told_once_and_never_called_back_to_normal(seed):
    random = Random(seed)
    interval, base = random.choice([1, 1, 10]), random.choice([20.0, -5.0, 400.0])
    size, by = random.choice([0.02, 0.1, 0.5]), random.choice([13.0, -9.0, 40.0])
    first, length = random.randint(700, 1500), random.randint(150, 600)
    values = [round(random.gauss(base, size), 2) for _ in range(first + length + 1500)]
    for n in range(first, first + length):
        values[n] += by
    events = story(values, interval)
    assert [event.event_code for event in events] == ["TRANSIENT_ANOMALY", "RECOVERED_ANOMALY"]
    raised, over = events
    assert raised.at <= 1000 * interval * (first + 4)
    assert over.at < 1000 * interval * (first + length)
    assert "accepted as its normal" in over.message
    assert "back to normal" not in over.message


@pytest.mark.parametrize("length", [20, 60, 110])
def test_a_brief_shift_is_back_to_normal_when_it_is(length):
    random = Random(length)
    values = [random.gauss(20, 0.1) for _ in range(2000)]
    for n in range(1000, 1000 + length):
        values[n] += 13
    raised, over = story(values)
    assert raised.at == 1_003_000
    assert "back to normal" in over.message
    assert 1000 * (1000 + length) < over.at < 1000 * (1020 + length)


def threshold(low, high, severity="critical"):
    row = {
        "id": 1, "sensor_id": 1, "name": "bound", "condition_type": "out_of_range",
        "severity": severity, "threshold_value_min": low, "threshold_value_max": high,
        "forecast_after": 0,
    }  # fmt: skip
    return Rules(make_rules({"alert_thresholds": [row]})[0])


def test_the_detector_does_not_report_what_a_threshold_does_nor_its_end():
    values = [*np.random.default_rng(1).normal(20, 0.1, 2000)]
    values[1000:1400] = [90.0] * 400
    events = story(values, rules=threshold(10, 50))
    assert [event.event_code for event in events] == ["ML_BEHAVIOR_STATE", "RECOVERED_ANOMALY"]


def test_inside_the_bounds_of_a_threshold_the_detector_asks_for_a_warning_at_most():
    """The jump would be critical: no alarm in 20 days before it."""
    noise = np.random.default_rng(1).normal(20, 0.1, 20 * 144 + 100)
    noise[20 * 144 : 20 * 144 + 40] += 30.0
    (jump, *_) = raising(story(noise, 600))[-1:]
    assert jump.event_type == "critical"
    (jump, *_) = raising(story(noise, 600, threshold(-100, 100)))[-1:]
    assert jump.event_type == "warning"
