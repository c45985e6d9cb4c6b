import json

import pytest

from dataflows.engine.engine import Times
from rules.columns import Rules
from rules.tables import make_rules
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


def made(value=20.0, minute=1):
    """Records that make a prediction at the end of this minute, for ten minutes later."""
    return [at(60 * minute - 30, value), at(60 * minute - 1, value)]


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


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (20.0, None), (20.499, None), (19.501, None), (20.5, "warning"), (19.5, "warning"),
        (29.9, "warning"), (30.0, "critical"), (10.0, "critical"), (-1e9, "critical"),
    ],
)  # fmt: skip
def test_a_value_is_off_at_half_a_unit_and_far_off_at_half_of_the_prediction(value, kind):
    assert deviations(*made(20.0), at(660, value)) == ([] if kind is None else [(661, kind)])


@pytest.mark.parametrize(
    ("value", "kind"),
    [(1.19, None), (1.2001, "warning"), (0.79, "warning"), (1.49, "warning"), (1.5, "critical")],
)
def test_a_small_value_is_off_at_a_fifth_of_the_prediction(value, kind):
    assert deviations(*made(1.0), at(660, value)) == ([] if kind is None else [(661, kind)])


def test_a_prediction_of_zero_uses_the_smallest_divisor():
    assert deviations(*made(0.0), at(660, 1e-7)) == []
    assert deviations(*made(0.0), at(660, 3e-7)) == [(661, "warning")]
    assert deviations(*made(0.0), at(660, 6e-7)) == [(661, "critical")]


@pytest.mark.parametrize("cuts", [(), (2,), range(9)])
@pytest.mark.parametrize("restarts", [False, True])
def test_only_the_first_pane_at_the_target_within_a_minute_is_compared(cuts, restarts):
    def compared(*seconds):
        records = [*made(), *(at(second, 30.0) for second in seconds)]
        return deviations(*records, cuts=cuts, restarts=restarts)

    assert compared(658) == []  # its pane ends too early
    assert compared(659) == [(660, "critical")]
    assert compared(659, 660, 661) == [(660, "critical")]
    assert compared(718) == [(719, "critical")]
    assert compared(719) == []
    records = [*made(), at(659, 20.0), at(660, 30.0)]
    assert deviations(*records, cuts=cuts, restarts=restarts) == []


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("cuts", [(), (2,), range(40)])
def test_only_changes_between_off_and_as_predicted_are_reported(cuts, restarts):
    records = [record for minute in range(1, 7) for record in made(20.0, minute)]
    values = [20.0, 25.0, 35.0, 20.0, 20.0, 25.0]
    then = [at(660 + 60 * n, value) for n, value in enumerate(values)]
    assert deviations(*records, *then, cuts=cuts, restarts=restarts) == [
        (721, "warning"), (841, "notice"), (961, "warning")
    ]  # fmt: skip


def test_a_deviation_resolves_when_the_value_is_as_predicted_again():
    records = [record for minute in range(1, 3) for record in made(20.0, minute)]
    reported = run([*records, at(660, 25.0), at(720, 20.4), heartbeat(10**6)]).events
    off, on = (event for event in reported if event.event_code == "PREDICTION_DEVIATION")
    assert (on.resolves, on.status, off.status) == (off.event_key, "resolved", "active")
    assert json.loads(on.payload)["duration_seconds"] == 60.0
    assert json.loads(on.payload)["error_abs"] == pytest.approx(0.4)


def test_a_minute_without_a_prediction_is_not_compared():
    assert deviations(*made(20.0, 1), *made(20.0, 3), at(720, 90.0)) == []
    assert deviations(*made(20.0, 1), *made(20.0, 3), at(780, 90.0)) == [(781, "critical")]
    # an old prediction is not compared either
    assert (
        deviations(*made(20.0, 1), at(1_320, 90.0), at(1_380, 90.0), at(1_440, 90.0), cuts=range(9))
        == []
    )


@pytest.mark.parametrize(("period", "value"), [(5, 2.0), (60, 29.5), (70, 34.5), (7, 3.0)])
def test_predictions_are_kept_until_their_target_time_for_every_period(period, value):
    records = [at(n, float(n)) for n in range(700)]
    for cuts in ((), range(0, 700, 9)):
        partition = run([*records, heartbeat(10**7)], cuts, predict_ms=period * 1000)
        (event,) = (
            event for event in partition.events if event.event_code == "PREDICTION_DEVIATION"
        )
        assert event.at == 600_000 + period * 1000
        assert json.loads(event.payload)["predicted_value"] == value


def test_a_prediction_is_compared_only_within_a_minute_after_its_target_time():
    records = [at(30), at(69)]
    assert deviations(*records, at(728, 30.0), predict_ms=70_000) == [(729, "critical")]
    assert deviations(*records, at(729, 30.0), predict_ms=70_000) == []


def test_noise_is_not_off_even_if_its_mean_is_half_a_unit_off():
    noise = [at(650 + n, 18.0 + n % 2 * 6) for n in range(10)]  # mean 21, deviation 3
    assert deviations(*made(20.0), *noise) == []
    far = [at(650 + n, 26.0 + n % 2 * 6) for n in range(10)]  # mean 29
    assert deviations(*made(20.0), *far) == [(660, "warning")]


def test_each_sensor_has_its_own_predictions():
    records = [*made(20.0), (59_500, 1, "other", [(2, 59_500, 90.0)]), at(660, 20.0)]
    then = (660_500, 1, "then", [(2, 660_500, 20.0)])
    reported = run([*records, then, heartbeat(10**6)]).events
    assert [
        event.sensor_id for event in reported if event.event_code == "PREDICTION_DEVIATION"
    ] == [2]  # fmt: skip
