"""The texts of a forecast, in Spanish or English: what was measured, what it is compared with, and
what to do.
"""

from ml.predict.assessment import Assessment
from ml.predict.forecast import FEWEST, MEAN, TOO_FEW
from ml.predict.outlook import Anomaly, Outlook
from rules.line import moment
from rules.threshold import Threshold
from rules.words import quantity

_TEXTS = {
    "es": {
        "line": "{sensor} de {device} está en {newest} y en {horizon} min se prevé {value} "
                "({trend})",
        "mean": "{sensor} de {device} está en {newest}; en {horizon} min se espera {value}, la "
                "media de sus últimas {window} lecturas",
        "past": "{sensor} de {device} estaba en {newest} a las {time} UTC del {day}; hace "
                "demasiado para prever algo.",
        "up": "sube {slope} por minuto", "down": "baja {slope} por minuto", "stable": "estable",
        "above": ", por encima de {bound} ({rule}).",
        "below": ", por debajo de {bound} ({rule}).",
        "equal": ", el valor que vigila {rule}.",
        "inside": ", dentro de sus umbrales.",
        "recommended": ", dentro de lo recomendado ({low} a {high}).",
        "not_recommended": ", fuera de lo recomendado ({low} a {high}).",
        "nothing": ", sin umbral con que compararlo.",
        "off_line": "La lectura de {seen} a las {time} UTC se aparta {distance} de lo esperado "
                    "({usual}); lo normal en este sensor son {scale}.",
        "jumped": "La lectura de {seen} a las {time} UTC cambió {distance} desde la anterior "
                  "({usual}); lo normal en este sensor son {scale}.",
        "few": "Espere a que haya {fewest} lecturas: con menos no se puede decir hacia dónde va.",
        "act": "Intervenga en {device} antes de que ocurra.",
        "check": "Revise {device} pronto.",
        "look": "Compruebe {sensor} de {device} y lo que mide.",
        "look_later": "Nada urgente: sus umbrales la admiten. Compruebe {sensor} si se repite.",
        "none": "No hay que hacer nada.",
        "set": "No hay que hacer nada; defina un umbral si quiere que se vigile.",
        "breach_title": "{device} · {sensor}: se prevé fuera de {rule}",
        "anomaly_title": "{device} · {sensor}: lectura anómala",
        "names": "{device} · {sensor}.",
        "breach_ids": "Previsto: {predicted_value}; umbral: {threshold_id}.",
    },
    "en": {
        "line": "{sensor} of {device} is at {newest}; {value} is forecast in {horizon} min "
                "({trend})",
        "mean": "{sensor} of {device} is at {newest}; {value} is expected in {horizon} min, the "
                "mean of its last {window} readings",
        "past": "{sensor} of {device} was at {newest} at {time} UTC on {day}, which is too long "
                "ago for a forecast.",
        "up": "up {slope} per minute", "down": "down {slope} per minute", "stable": "stable",
        "above": ", above {bound} ({rule}).",
        "below": ", below {bound} ({rule}).",
        "equal": ", the value that {rule} watches for.",
        "inside": ", within its thresholds.",
        "recommended": ", within the recommended range ({low} to {high}).",
        "not_recommended": ", outside the recommended range ({low} to {high}).",
        "nothing": ", with no threshold to compare it with.",
        "off_line": "The reading of {seen} at {time} UTC is {distance} off the expected value "
                    "({usual}); {scale} is usual for this sensor.",
        "jumped": "The reading of {seen} at {time} UTC is {distance} off the previous one "
                  "({usual}); {scale} is usual for this sensor.",
        "few": "Wait until there are {fewest} readings: with fewer, the trend is unknown.",
        "act": "Act on {device} before it happens.",
        "check": "Check {device} soon.",
        "look": "Check {sensor} of {device} and what it measures.",
        "look_later": "Not urgent: the reading is within its thresholds. Check {sensor} if it "
                      "happens again.",
        "none": "Nothing to do.",
        "set": "Nothing to do; set a threshold to monitor it.",
        "breach_title": "{device} · {sensor}: forecast to breach {rule}",
        "anomaly_title": "{device} · {sensor}: unusual reading",
        "names": "{device} · {sensor}.",
        "breach_ids": "Forecast: {predicted_value}; threshold: {threshold_id}.",
    },
}  # fmt: skip


_UNIT = 16


class Words:
    """The texts of one forecast, with names cut to `names` characters."""

    def __init__(
        self, language: str, outlook: Outlook, assessment: Assessment, names: int = 100
    ) -> None:
        self._texts = _TEXTS[language]
        self._outlook = outlook
        self._assessment = assessment
        self._names = names
        self._sensor, self._device = (
            self.short(outlook.sensor.name),
            self.short(outlook.sensor.device),
        )
        self._unit = _cut(outlook.sensor.unit, min(names, _UNIT))

    @property
    def short_message(self) -> str:
        """The forecast, what it is compared with, and the anomalous reading, if any."""
        text = self._forecast()
        anomaly = self._outlook.anomaly
        return text if anomaly is None else f"{text} {self.anomaly(anomaly)}"

    @property
    def recommended_action(self) -> str:
        """What to do; usually nothing."""
        assessment, outlook = self._assessment, self._outlook
        if assessment.breach is not None:
            return self._text("act" if assessment.severity == "critical" else "check")
        if outlook.anomaly is not None:
            return self._text("look" if assessment.severity != "info" else "look_later")
        if assessment.severity != "info":
            return self._text("check")
        if outlook.engine == TOO_FEW:
            return self._text("few", fewest=FEWEST)
        return self._text("set" if assessment.risk_level == "NONE" else "none")

    def breach_title(self, breach: Threshold) -> str:
        """A title with the threshold's name."""
        return self._text("breach_title", rule=self.short(breach.name))

    def breach_message(self, breach: Threshold) -> str:
        """The forecast, the bound it breaches, the threshold's name and id, and what to do."""
        ids = self._text(
            "breach_ids",
            predicted_value=quantity(self._outlook.value, self._unit),
            threshold_id="-" if breach.alert_threshold_id is None else breach.alert_threshold_id,
        )
        return f"{self._forecast()} {ids} {self.recommended_action}"

    @property
    def anomaly_title(self) -> str:
        """A title with the names of device and sensor."""
        return self._text("anomaly_title")

    def anomaly(self, anomaly: Anomaly) -> str:
        """The anomalous reading, its time, and what is usual."""
        unit = self._unit
        return self._text(
            "jumped" if anomaly.jumped else "off_line",
            seen=quantity(anomaly.value, unit),
            time=f"{moment(anomaly.at):%H:%M:%S}",
            distance=quantity(abs(anomaly.value - anomaly.usual), unit),
            usual=quantity(anomaly.usual, unit),
            scale=quantity(anomaly.scale, unit),
        )

    def anomaly_message(self, anomaly: Anomaly, event_type: str) -> str:
        """The names of device and sensor, the anomalous reading, and what to do."""
        return f"{self._text('names')} {self.anomaly(anomaly)} {self.anomaly_action(event_type)}"

    def anomaly_action(self, event_type: str) -> str:
        """What to do about an anomalous reading."""
        return self._text("look_later" if event_type == "notice" else "look")

    def _forecast(self) -> str:
        outlook, assessment, unit = self._outlook, self._assessment, self._unit
        if outlook.past:
            at = moment(outlook.predicted_at)
            newest = quantity(outlook.newest, unit)
            return self._text("past", newest=newest, time=f"{at:%H:%M:%S}", day=f"{at:%Y-%m-%d}")
        of_mean = outlook.engine in (MEAN, TOO_FEW)
        turn = {-1: "down", 0: "stable", 1: "up"}[outlook.trend]
        forecast = self._text(
            "mean" if of_mean else "line",
            newest=quantity(outlook.newest, unit),
            value=quantity(outlook.value, unit),
            horizon=outlook.horizon_minutes,
            window=outlook.window,
            trend=self._texts[turn].format(slope=quantity(abs(outlook.slope), unit)),
        )
        breach = assessment.breach
        if breach is not None:
            return forecast + self._beyond(breach, outlook.value)
        if assessment.recommended is not None:
            low, high = (quantity(bound, unit) for bound in assessment.recommended)
            outside = assessment.risk_level != "LOW"
            kind = "not_recommended" if outside else "recommended"
            return forecast + self._text(kind, low=low, high=high)
        return forecast + self._text("nothing" if assessment.risk_level == "NONE" else "inside")

    def _beyond(self, breach: Threshold, value: float) -> str:
        rule, unit = self.short(breach.name), self._unit
        if breach.low is not None and value < breach.low:
            return self._text("below", bound=quantity(breach.low, unit), rule=rule)
        if breach.high is not None and value > breach.high:
            return self._text("above", bound=quantity(breach.high, unit), rule=rule)
        return self._text("equal", rule=rule)

    def _text(self, kind: str, **words: object) -> str:
        return self._texts[kind].format(sensor=self._sensor, device=self._device, **words)

    def short(self, text: str) -> str:
        """A name, cut to the maximum length."""
        return _cut(text, self._names)


def _cut(text: str, most: int) -> str:
    """Cut, and without control characters, which JSON escapes with six characters."""
    if len(text) <= most and text.isprintable():
        return text
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= most else text[: most - 1] + "…"
