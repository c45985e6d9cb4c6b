import json
from random import Random

import pytest

from dataflows.engine.engine import Times
from ml.online import PartitionDetector
from rules.columns import Rules
from rules.tables import decode_rules, make_rules
from rules.words import Named, Names
from tests.dataflows.streams import HELD_MS, Partition, closed, each_second, heartbeat

MINUTE = 60_000
COLUMNS = (
    "model_id", "sensor_id", "device_id", "predicted_at", "target", "value", "confidence",
    "window", "trend",
)  # fmt: skip


def run(records, cuts=(), *, predict_ms=MINUTE, restarts=False):
    partition = Partition(Times(predict_ms=predict_ms))
    return partition.run(sorted(records, key=lambda record: record[0]), cuts, restarts=restarts)


def predictions(*records, **how):
    return [dict(zip(COLUMNS, row[:9], strict=True)) for row in run(records, **how).predictions]


def at(second, value=20.0):
    return (second * 1000, 1, str(second), [(1, second * 1000, value)])


def deviations(*records, cuts=(), **how):
    """(at in seconds, type) of each deviation, and of the end of each."""
    return [
        (event.at / 1000, event.event_type)
        for event in run([*records, heartbeat(10**8)], cuts, **how).events
        if event.event_code == "PREDICTION_DEVIATION"
    ]


@pytest.mark.parametrize(
    ("language", "message", "action"),
    [
        (
            "es",
            "caldera de sótano está en 61 °C; en 10 min se espera 29.5 °C, la media de sus últimas "
            "60 lecturas, por encima de 25 °C (máximo).",
            "Intervenga en sótano antes de que ocurra.",
        ),
        (
            "en",
            "caldera of sótano is at 61 °C; 29.5 °C is expected in 10 min, the mean of its last 60 "
            "readings, above 25 °C (máximo).",
            "Act on sótano before it happens.",
        ),
    ],
)
def test_a_prediction_has_the_risk_and_the_text_that_a_forecast_of_the_batch_has(
    language, message, action
):
    rows = [
        {"sensor_id": 1, "name": "máximo", "condition_type": "greater_than",
         "threshold_value_min": 25, "severity": "critical"},
    ]  # fmt: skip
    names = Names(language, {1: Named("caldera", "temperature", "°C", "sótano")}, {})
    records = [*each_second(*range(59), 61.0, 20.0, 20.0, start=0), heartbeat(70_000)]

    def told(tables, cuts=()):
        partition = Partition(
            Times(predict_ms=MINUTE), Rules(make_rules(tables)[0]), names=names
        ).run(records, cuts, restarts=True)
        ((*_, engine, risk, severity, text),) = partition.predictions
        return engine, risk, severity, json.loads(text)

    engine, risk, severity, text = told({"alert_thresholds": rows})
    assert (engine, risk, severity) == ("moving_average", "HIGH", "critical")
    assert text["short_message"].replace("29.5333", "29.5") == message
    assert text["recommended_action"] == action
    assert text["details"]["horizon_minutes"] == 10
    assert told({"alert_thresholds": rows}, [30, 61]) == (engine, risk, severity, text)
    assert told({})[1:3] == ("LOW", "info"), "within the range of its type"


def test_a_backlog_gets_no_predictions_for_times_that_have_passed():
    both = [60_000, 120_000]
    for late, wanted in ((0, both), (598_000, both), (599_000, []), (700_000, [])):
        records = [
            (late + arrival, device, packet, readings)
            for arrival, device, packet, readings in closed(each_second(*[20.0] * 130, start=0))
        ]
        for cuts in ((), [61, 62, 63, 121], range(0, 130, 7)):
            made = predictions(*records, cuts=cuts, restarts=bool(cuts))
            assert [row["predicted_at"] for row in made] == wanted, (late, cuts)


def test_a_sensor_that_pauses_was_predicted_when_it_was_idle_not_when_it_sends_again():
    records = [*each_second(*[20.0] * 60, start=0), at(1_300), heartbeat(1_310_000)]
    for cuts in ((), [60], [61]):
        assert [row["predicted_at"] for row in predictions(*records, cuts=cuts)] == [60_000]


@pytest.mark.parametrize(("arrival", "count"), [(599_999, 1), (600_000, 0)])
def test_a_pane_that_waited_for_more_readings_closed_when_its_wait_was_over(arrival, count):
    """Whatever shows that: the sensor's next record, that of another one or a heartbeat."""
    many = (arrival, 1, "many", [(1, 59_000 + n, 20.0) for n in range(90)])
    at = arrival + HELD_MS
    other = (at + 100, 1, "other", [(2, 59_000, 20.0)])
    for more in ([], [heartbeat(at)], [other], [other, heartbeat(at + 200)]):
        again = (at + 700_000, 1, "again", [(1, at, 20.0)])
        for cuts in ((), [1], [2], [1, 2]):
            made = predictions(many, *more, again, cuts=cuts, restarts=bool(cuts))
            assert [row["predicted_at"] for row in made] == [60_000] * count


def test_a_backlog_that_arrives_at_once_gets_predictions_only_for_what_is_ahead():
    """Half an hour of readings in one packet: the last ten minutes are ahead of their arrival."""
    readings = [(1, second * 1000, 20.0) for second in range(1801)]
    records = [
        (1_801_000, 1, str(first), readings[first : first + 900]) for first in range(0, 1801, 900)
    ]
    made = predictions(*records, heartbeat(1_900_000))
    assert [row["predicted_at"] for row in made] == list(range(1_260_000, 1_800_001, MINUTE))


def test_the_mean_of_each_minute_is_the_prediction_for_ten_minutes_later():
    assert predictions(*each_second(*range(62), start=0)) == [
        {
            "model_id": 0, "sensor_id": 1, "device_id": 1, "predicted_at": 60_000,
            "target": 660_000, "value": 29.5, "confidence": 1.0, "window": 60, "trend": 0,
        }
    ]  # fmt: skip


def test_confidence_grows_with_the_number_of_readings_up_to_one():
    (prediction,) = predictions(at(3, 1.0), at(50, 3.0), at(70), heartbeat(80_000))
    assert (prediction["value"], prediction["window"], prediction["confidence"]) == (2.0, 2, 2 / 60)
    many = (59_000, 1, "many", [(1, 59_000 + n, 1.0) for n in range(90)])
    (prediction,) = predictions(*closed([many], HELD_MS))
    assert (prediction["window"], prediction["confidence"]) == (90, 1.0)


def test_an_open_minute_makes_no_prediction():
    assert predictions(at(3), at(30), heartbeat(10**7)) == []


@pytest.mark.parametrize("predict_ms", [5_000, 60_000, 70_000, 600_000])
def test_predictions_use_the_configured_period(predict_ms):
    records = [at(n) for n in range(1_300)]
    found = [
        prediction["predicted_at"] for prediction in predictions(*records, predict_ms=predict_ms)
    ]
    assert found == list(range(predict_ms, 1_299_000, predict_ms))


WOBBLE = (20.0, 20.0, 20.3)
"""Values of consecutive minutes. Errors of a prediction for ten minutes later are 0 or 0.3. So the
usual error, an expectile, is near 0.29, and the band is 1.5 times twice that."""
BAND = 0.877
DAY = 1440


def minutes(count, change=None, first=0):
    """A reading a minute; `change` has the values of some minutes."""
    values = [WOBBLE[minute % 3] for minute in range(first, first + count)]
    for minute, value in (change or {}).items():
        values[minute - first] = value
    return [at(60 * minute, value) for minute, value in enumerate(values, first)]


LATER = DAY + 101  # its prediction is 20.0


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (20.3, None), (20.0 + 0.98 * BAND, None), (20.0 - 0.98 * BAND, None),
        (20.0 + 1.03 * BAND, "warning"), (20.0 - 1.03 * BAND, "warning"), (-1e9, "warning"),
    ],
)  # fmt: skip
def test_an_error_beyond_the_band_is_a_warning(value, kind):
    found = deviations(*minutes(LATER + 2, {LATER: value}))
    at_minute = 60 * LATER + 1
    assert found == ([] if kind is None else [(at_minute, kind), (at_minute + 60, "notice")])


def test_the_band_is_known_after_a_day_of_two_hundred_errors():
    for day, count in ((DAY - 30, 1), (DAY - 100, 300)):
        assert deviations(*minutes(day, {day - count: 90.0})) == []
    # a reading every ten minutes and one second is compared seldom, so its band is unknown
    slow = [at(601 * n) for n in range(190)]
    assert deviations(*slow, at(601 * 190, 90.0)) == []


def test_two_deviations_are_reported_at_least_two_days_apart():
    change = {LATER + 300 * n: 20.0 + 10.0**n for n in range(1, 5)}
    change[LATER + 2 * DAY + 600] = 1e9
    found = deviations(*minutes(LATER + 2 * DAY + 700, change))
    assert [minute for minute, kind in found if kind == "warning"] == [
        60 * (LATER + 300) + 1, 60 * (LATER + 2 * DAY + 600) + 1
    ]  # fmt: skip


def test_an_error_that_happened_before_is_as_predicted_for_days():
    again = {LATER: 25.0, LATER + 3 * DAY: 25.5, LATER + 4 * DAY: 28.0}
    found = deviations(*minutes(LATER + 4 * DAY + 99, again))
    assert [minute for minute, kind in found if kind == "warning"] == [
        60 * LATER + 1, 60 * (LATER + 4 * DAY) + 1
    ]  # fmt: skip


def test_a_deviation_resolves_when_the_value_is_as_predicted_again():
    reported = run([*minutes(LATER + 5, {LATER: 25.0}), heartbeat(10**9)]).events
    off, on = (event for event in reported if event.event_code == "PREDICTION_DEVIATION")
    assert (on.resolves, on.status, off.status) == (off.event_key, "resolved", "active")
    assert json.loads(on.payload)["duration_seconds"] == 60.0
    assert json.loads(off.payload)["error_abs"] == pytest.approx(5.0)
    assert json.loads(off.payload)["error_band"] == pytest.approx(BAND, abs=0.01)


def threshold(low, high):
    row = {
        "id": 1, "sensor_id": 1, "name": "bound", "condition_type": "out_of_range",
        "severity": "critical", "threshold_value_min": low, "threshold_value_max": high,
    }  # fmt: skip
    rules, _ = make_rules({"alert_thresholds": [row]})
    return Rules(rules)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("detector", [None, PartitionDetector])
def test_nothing_deviates_during_or_after_a_breach(seed, detector):
    random = Random(seed)
    start, length = random.randint(1500, 1700), random.randint(1, 60)
    values = [round(random.gauss(230, 0.5), 2) for _ in range(1900)]
    for minute in range(start, start + length):
        values[minute] += random.choice([30, 31])
    partition = Partition(rules=threshold(200, 250), detector=detector)
    partition.run([at(60 * n, v) for n, v in enumerate(values)], range(0, 1900, 11))
    assert [event.event_code for event in partition.events] == [
        "ML_BEHAVIOR_STATE", "RECOVERED_ANOMALY"
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_white_noise_once_a_minute_gives_no_event_in_two_days(seed):
    random = Random(seed)
    middle, size = random.choice([0.0, 20.0, -4.0, 1e5]), random.choice([0.1, 0.5, 8.0])
    digits, interval = random.choice([1, 2, 9]), random.choice([60, 60, 60, 30, 90, 300])
    values = [round(random.gauss(middle, size), digits) for _ in range(172_800 // interval)]
    partition = Partition(detector=PartitionDetector)
    assert partition.run([at(interval * n, v) for n, v in enumerate(values)]).events == []


def model(**settings):
    rows = [{"id": 1, "sensor_id": 1, "model_type": "detector", "metadata": settings}]
    rules, refused = make_rules({"ml_models": rows})
    assert not refused
    return Rules(decode_rules(rules.encode()))


def test_deviations_can_be_switched_off_for_a_sensor_and_for_all():
    records = minutes(LATER + 5, {LATER: 90.0})

    def codes(times=None, **settings):
        return [
            event.event_code
            for event in Partition(times or Times(), **settings).run(records).events
        ]

    assert codes() == ["PREDICTION_DEVIATION"] * 2
    assert codes(rules=model(kind="light", deviations=False)) == []
    assert codes(rules=model(kind="light", deviations=True)) == ["PREDICTION_DEVIATION"] * 2
    assert codes(Times(deviations=False)) == []


@pytest.mark.parametrize("restarts", [False, True])
def test_deviations_do_not_depend_on_cuts(restarts):
    random = Random(3)
    values = {LATER + 150 * n: random.gauss(20, 5) for n in range(30)}
    records = minutes(LATER + 5000, values)

    def results(cuts, **how):
        partition = Partition(rules=threshold(10, 30), detector=PartitionDetector)
        return partition.run(records, cuts, **how).found()

    whole = results(())
    assert any(event.event_code == "PREDICTION_DEVIATION" for event in whole[1])
    for cuts in (range(0, 6500, 450), sorted(random.sample(range(1400, 6500), 30))):
        assert results(cuts, restarts=restarts) == whole


def test_each_sensor_has_its_own_band():
    records = []
    for ms, device, packet_id, readings in minutes(LATER + 2, {LATER: 22.0}):
        (_, ts, value) = readings[0]
        wild = value + ms // 60_000 % 7
        records.append((ms, device, packet_id, [*readings, (2, ts, wild)]))
    reported = run(records).events
    assert {e.sensor_id for e in reported if e.event_code == "PREDICTION_DEVIATION"} == {1}
