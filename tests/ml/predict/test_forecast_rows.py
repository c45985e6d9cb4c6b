import json
from dataclasses import replace

import msgspec
import pytest

from contract.event import event_key
from ml.predict.forecast import LINE, MEAN, TOO_FEW
from ml.predict.forecast_rows import ModelRow, forecast_row
from ml.predict.outlook import Anomaly, Outlook
from sql.statements import ForecastSensor
from tests.ml.conftest import threshold

AT = 1732442400000
SENSOR = ForecastSensor(7, 3, "caldera", "temperature", "°C", "sótano")
OUTLOOK = Outlook(
    sensor=SENSOR,
    predicted_at=AT,
    newest=21.5,
    horizon_minutes=10,
    value=31.25,
    confidence=0.81234,
    trend=1,
    slope=0.975,
    window=500,
    engine=LINE,
    judged=True,
    anomaly=None,
)
ANOMALY = Anomaly(at=AT - 5000, value=60.0, jumped=False, usual=21.4, scale=0.5, score=0.9741)
HIGH = threshold(7, 12, "máximo", "out_of_range", 10.0, 30.0, "critical")
WARNING = threshold(7, 12, "máximo", "out_of_range", 10.0, 30.0, "warning")


def row(outlook=OUTLOOK, thresholds=(HIGH,), language="es"):
    return forecast_row(
        outlook, list(thresholds), ModelRow(id=1), language=language, dedupe_minutes=10
    )


def explained(row):
    return json.loads(bytes(row.explanation))


@pytest.mark.parametrize(
    ("language", "message", "action"),
    [
        (
            "es",
            "caldera de sótano está en 21.5 °C y en 10 min se prevé 31.25 °C (sube 0.975 °C por "
            "minuto), por encima de 30 °C (máximo).",
            "Intervenga en sótano antes de que ocurra.",
        ),
        (
            "en",
            "caldera of sótano is at 21.5 °C; 31.25 °C is forecast in 10 min (up 0.975 °C per "
            "minute), above 30 °C (máximo).",
            "Act on sótano before it happens.",
        ),
    ],
)
def test_a_breach_text_has_the_values_the_threshold_and_the_action(language, message, action):
    made = row(language=language)
    assert explained(made)["short_message"] == message
    assert explained(made)["recommended_action"] == action
    (event,) = made.events
    assert event.message.startswith(message)
    assert event.message.endswith(action)
    assert "31.25 °C" in event.message
    assert "12" in event.message
    assert "máximo" in event.title


@pytest.mark.parametrize(
    ("language", "thresholds", "changes", "words"),
    [
        ("es", (), {}, ", dentro de lo recomendado (15 °C a 35 °C)."),
        ("en", (), {"value": 99.0}, ", outside the recommended range (15 °C to 35 °C)."),
        ("en", (), {"trend": -1}, "(down 0.975 °C per minute)"),
        ("es", (), {"trend": 0}, "(estable)"),
        ("es", (HIGH,), {"value": 20.0}, ", dentro de sus umbrales."),
        ("en", (HIGH,), {"value": 5.0}, ", below 10 °C (máximo)."),
        ("es", (), {"engine": MEAN, "window": 60}, "la media de sus últimas 60 lecturas"),
        ("en", (), {"engine": TOO_FEW, "window": 5}, "the mean of its last 5 readings"),
        ("es", (), {"sensor": SENSOR._replace(type="x")}, ", sin umbral con que compararlo."),
        (
            "es", (), {"anomaly": ANOMALY},
            "La lectura de 60 °C a las 09:59:55 UTC se aparta 38.6 °C de lo esperado (21.4 °C); lo "
            "normal en este sensor son 0.5 °C.",
        ),
        (
            "en", (), {"anomaly": replace(ANOMALY, jumped=True)},
            "The reading of 60 °C at 09:59:55 UTC is 38.6 °C off the previous one (21.4 °C); "
            "0.5 °C is usual for this sensor.",
        ),
    ],
)  # fmt: skip
def test_an_explanation_compares_the_forecast(language, thresholds, changes, words):
    assert (
        words in explained(row(replace(OUTLOOK, **changes), thresholds, language))["short_message"]
    )


@pytest.mark.parametrize("language", ["es", "en"])
def test_every_case_has_an_action_in_both_languages(language):
    actions = {
        explained(row(replace(OUTLOOK, **changes), thresholds, language))["recommended_action"]
        for thresholds, changes in (
            ((HIGH,), {}),
            ((WARNING,), {}),
            ((HIGH,), {"value": 20.0}),
            ((HIGH,), {"value": 20.0, "anomaly": ANOMALY}),
            ((), {"anomaly": ANOMALY}),
            ((), {"engine": TOO_FEW}),
            ((), {"sensor": SENSOR._replace(type="x")}),
        )
    }
    assert len(actions) == 7


def test_a_breach_is_an_event_of_the_thresholds_severity_with_the_documented_keys():
    made = row()
    (event,) = made.events
    assert (event.event_code, event.event_type) == ("PRED_THRESHOLD_BREACH", "critical")
    assert event.event_key == event_key(7, AT, "PRED_THRESHOLD_BREACH")
    assert (event.at, event.dedupe_from) == ("2024-11-24 10:00:00.000", "2024-11-24 09:50:00.000")
    payload = json.loads(bytes(event.payload))
    assert {
        "threshold_id", "condition_type", "threshold_value_min", "threshold_value_max",
        "predicted_value", "severity", "action_required", "anomaly_score", "trend", "confidence",
        "recommended_action", "explanation",
    } <= set(payload)  # fmt: skip
    assert (payload["threshold_id"], payload["predicted_value"]) == (12, 31.25)
    assert (made.severity, made.risk_level) == ("critical", "HIGH")
    (other,) = row(thresholds=[WARNING]).events
    assert other.event_type == "warning"


def test_an_anomaly_is_an_event_at_the_time_of_its_reading():
    made = row(replace(OUTLOOK, anomaly=ANOMALY), ())
    (event,) = made.events
    assert (event.event_code, event.event_type) == ("ANOMALY_DETECTED", "warning")
    assert event.event_key == event_key(7, AT - 5000, "ANOMALY_DETECTED")
    assert (event.at, event.value) == ("2024-11-24 09:59:55.000", 60.0)
    payload = json.loads(bytes(event.payload))
    assert {
        "severity", "action_required", "anomaly_score", "trend", "predicted_value", "confidence",
        "recommended_action", "explanation",
    } <= set(payload)  # fmt: skip
    assert (made.is_anomaly, made.anomaly_score) == (1, 0.9741)


def test_a_forecast_without_an_anomaly_test_leaves_the_anomaly_columns_empty():
    made = row(replace(OUTLOOK, judged=False))
    assert (made.is_anomaly, made.anomaly_score) == (None, None)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (
            "es",
            "caldera de sótano estaba en 21.5 °C a las 10:00:00 UTC del 2024-11-24; hace demasiado "
            "para prever algo.",
        ),
        (
            "en",
            "caldera of sótano was at 21.5 °C at 10:00:00 UTC on 2024-11-24, which is too long ago "
            "for a forecast.",
        ),
    ],
)
def test_nothing_is_forecast_for_a_time_that_has_passed(language, text):
    made = row(replace(OUTLOOK, past=True), language=language)
    assert (made.target, made.events, made.risk_level, made.severity) == (None, [], "NONE", "info")
    assert explained(made)["short_message"] == text
    made = row(replace(OUTLOOK, past=True, anomaly=ANOMALY), (), language)
    (event,) = made.events
    payload = json.loads(bytes(event.payload))
    assert payload["explanation"].startswith(text)
    assert (payload["predicted_value"], made.severity) == (None, "warning")
    assert row(replace(OUTLOOK, past=True, anomaly=ANOMALY)).severity == "warning"
    inside = replace(ANOMALY, value=20.0)
    assert row(replace(OUTLOOK, past=True, anomaly=inside)).severity == "info"


def test_the_window_that_was_asked_for_identifies_the_prediction():
    assert row(replace(OUTLOOK, window=20, asked=60)).window_points == 60
    assert row(replace(OUTLOOK, window=20)).window_points == 20


@pytest.mark.parametrize("letter", ["x", '"', "\\", "\x01", "ñ", "😀"])
@pytest.mark.parametrize("anomaly", [None, ANOMALY])
def test_texts_fit_their_columns_with_any_names(letter, anomaly):
    long = ForecastSensor(7, 3, letter * 255, letter * 100, letter * 50, letter * 255)
    rule = msgspec.structs.replace(HIGH, name=letter * 255)
    outlook = replace(OUTLOOK, sensor=long, anomaly=anomaly, value=-1234567.12345)
    for language in ("es", "en"):
        made = row(outlook, [rule], language)
        assert units(bytes(made.explanation).decode()) <= 1000
        assert {"short_message", "recommended_action"} <= set(explained(made))
        for event in made.events:
            assert units(event.title) <= 255
            assert units(event.message) <= 1000
            json.loads(bytes(event.payload))


def units(text):
    return len(text.encode("utf-16-le")) // 2
