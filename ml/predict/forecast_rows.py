"""Turns a sensor's forecast into rows: one prediction, its model, and its events."""

from collections.abc import Callable

import msgspec

from contract.event import Event, event_key
from ml.predict.assessment import Assessment, anomaly_type, assess, assess_readings
from ml.predict.forecast import TREND
from ml.predict.outlook import Anomaly, Outlook
from ml.predict.texts import Words
from rules.threshold import BOUND_COLUMNS, Threshold
from sinks.events import event_row
from sinks.times import text_of

BREACH, ANOMALY = "PRED_THRESHOLD_BREACH", "ANOMALY_DETECTED"
EXPLANATION_LENGTH = 1000
_MINUTE_MS = 60_000
_TITLE_LENGTH, _MESSAGE_LENGTH = 255, 1000
_NAMES = (100, 60, 30, 12, 6)
"""Lengths to which names are cut, tried in turn until a text is short enough."""


class ModelRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of `ml_models`, identified by id, or else by sensor and name."""

    id: int | None = None
    name: str = ""
    type: str = ""
    version: str = ""
    trained_at: str = ""
    accuracy: float | None = None
    metadata: msgspec.Raw | None = None
    refresh: bool = False
    """True: an existing row is updated, active or not. False: an existing row is used only if it is
    active.
    """


class ForecastEvent(msgspec.Struct, frozen=True):
    """An event of a forecast, as `write_forecast` takes it."""

    event_key: str
    at: str
    dedupe_from: str
    """The event is not written if one of the same code, later than this, is still open."""
    event_type: str
    event_code: str
    title: str
    message: str
    value: float | None
    payload: msgspec.Raw


class ForecastRow(msgspec.Struct, frozen=True):
    """The input of `write_forecast.sql`. Times are text, see sinks/times.py."""

    sensor_id: int
    device_id: int
    model: ModelRow
    predicted_at: str
    target: str | None
    """None: it has passed, and no prediction is stored."""
    value: float
    confidence: float
    horizon_minutes: int
    window_points: int
    trend: str
    is_anomaly: int | None
    """None: keep the stored value, or 0 for a new row."""
    anomaly_score: float | None
    risk_level: str
    severity: str
    explanation: msgspec.Raw
    engine_name: str
    last_reading_id: int | None
    """The sensor's new watermark; None: it is not changed."""
    events: list[ForecastEvent]


def forecast_row(
    outlook: Outlook,
    thresholds: list[Threshold],
    model: ModelRow,
    *,
    language: str,
    dedupe_minutes: int,
    last_reading_id: int | None = None,
) -> ForecastRow:
    """All rows of one forecast. The same forecast gives the same rows. If its target has passed,
    there is no prediction and no breach, but the model, the watermark and the anomaly stay.
    """
    value = round(outlook.value, 5)
    anomaly = outlook.anomaly
    if outlook.past:
        assessment = assess_readings(thresholds, None if anomaly is None else anomaly.value)
    else:
        assessment = assess(outlook.sensor.type, value, thresholds, anomalous=anomaly is not None)
    events = []
    if assessment.breach is not None:
        events.append(_breach(outlook, assessment, assessment.breach, language))
    if anomaly is not None:
        kind = anomaly_type(thresholds, anomaly.value)
        events.append(_anomaly(outlook, assessment, anomaly, kind, language))
    return ForecastRow(
        sensor_id=outlook.sensor.id,
        device_id=outlook.sensor.device_id,
        model=model,
        predicted_at=text_of(outlook.predicted_at),
        target=None if outlook.past else text_of(outlook.target),
        value=value,
        confidence=round(outlook.confidence, 4),
        horizon_minutes=outlook.horizon_minutes,
        window_points=outlook.window_points,
        trend=TREND[outlook.trend],
        is_anomaly=int(anomaly is not None) if outlook.judged else None,
        anomaly_score=_score(outlook) if outlook.judged else None,
        risk_level=assessment.risk_level,
        severity=assessment.severity,
        explanation=msgspec.Raw(explanation(language, outlook, assessment).encode()),
        engine_name=outlook.engine,
        last_reading_id=last_reading_id,
        events=[_event_row(event, dedupe_minutes) for event in events],
    )


def explanation(language: str, outlook: Outlook, assessment: Assessment) -> str:
    """JSON of at most 1000 characters; names are shortened to fit."""

    def say(words: Words) -> str:
        return msgspec.json.encode(
            {
                "source": "ml_baseline",
                "severity": assessment.severity,
                "short_message": words.short_message,
                "recommended_action": words.recommended_action,
                "details": {
                    "predicted_value": round(outlook.value, 5),
                    "trend": TREND[outlook.trend],
                    "anomaly_score": _score(outlook),
                    "confidence": round(outlook.confidence, 4),
                    "horizon_minutes": outlook.horizon_minutes,
                    "risk_level": assessment.risk_level,
                    "sensor_type": words.short(outlook.sensor.type),
                    "location": words.short(outlook.sensor.device),
                    "engine": outlook.engine,
                },
            }
        ).decode()

    return _fitting(
        say, lambda names: Words(language, outlook, assessment, names), EXPLANATION_LENGTH
    )


def _event(
    outlook: Outlook,
    at: int,
    code: str,
    *,
    event_type: str,
    title: str,
    message: str,
    value: float,
    payload: dict[str, object],
) -> Event:
    return Event(
        event_key=event_key(outlook.sensor.id, at, code),
        device_id=outlook.sensor.device_id,
        sensor_id=outlook.sensor.id,
        at=at,
        event_type=event_type,
        event_code=code,
        title=title,
        message=message,
        value=value,
        payload=msgspec.json.encode(payload).decode(),
        resolves=None,
        status="active",
    )


def _event_row(event: Event, dedupe_minutes: int) -> ForecastEvent:
    row = event_row(event)
    return ForecastEvent(
        event_key=row.event_key,
        at=row.at,
        dedupe_from=text_of(event.at - dedupe_minutes * _MINUTE_MS),
        event_type=row.event_type,
        event_code=row.event_code,
        title=row.title,
        message=row.message,
        value=row.value,
        payload=row.payload,
    )


def _breach(outlook: Outlook, assessment: Assessment, breach: Threshold, language: str) -> Event:
    kind, row = breach.severity, breach.as_row()

    def words(names: int) -> Words:
        return Words(language, outlook, assessment, names)

    return _event(
        outlook,
        outlook.predicted_at,
        BREACH,
        event_type=kind,
        title=_fitting(lambda texts: texts.breach_title(breach), words, _TITLE_LENGTH),
        message=_fitting(lambda texts: texts.breach_message(breach), words, _MESSAGE_LENGTH),
        value=round(outlook.value, 5),
        payload=(
            {
                "threshold_id": breach.alert_threshold_id,
                **{name: row[name] for name in BOUND_COLUMNS},
            }
            | _shared(outlook, assessment, words(_NAMES[0]), kind)
        ),
    )


def _anomaly(
    outlook: Outlook, assessment: Assessment, anomaly: Anomaly, kind: str, language: str
) -> Event:
    def words(names: int) -> Words:
        return Words(language, outlook, assessment, names)

    return _event(
        outlook,
        anomaly.at,
        ANOMALY,
        event_type=kind,
        title=_fitting(lambda texts: texts.anomaly_title, words, _TITLE_LENGTH),
        message=_fitting(
            lambda texts: texts.anomaly_message(anomaly, kind), words, _MESSAGE_LENGTH
        ),
        value=anomaly.value,
        payload=(
            _shared(outlook, assessment, words(_NAMES[0]), kind)
            | {
                "recommended_action": words(_NAMES[0]).anomaly_action(kind),
                "value": anomaly.value,
                "expected": round(anomaly.usual, 5),
                "residual_scale": round(anomaly.scale, 5),
            }
        ),
    )


def _shared(outlook: Outlook, assessment: Assessment, words: Words, kind: str) -> dict[str, object]:
    return {
        "severity": assessment.severity,
        "action_required": kind != "notice",
        "anomaly_score": _score(outlook),
        "trend": TREND[outlook.trend],
        "predicted_value": None if outlook.past else round(outlook.value, 5),
        "confidence": None if outlook.past else round(outlook.confidence, 4),
        "recommended_action": words.recommended_action,
        "explanation": words.short_message,
    }


def _score(outlook: Outlook) -> float:
    return 0.0 if outlook.anomaly is None else round(outlook.anomaly.score, 4)


def _fitting(say: Callable[[Words], str], words: Callable[[int], Words], most: int) -> str:
    """The text with the longest names that fit in `most` UTF-16 units, the units of nvarchar."""
    text = ""
    for names in _NAMES:
        text = say(words(names))
        if 2 * len(text) <= most or len(text.encode("utf-16-le")) // 2 <= most:
            break
    return text
