"""The titles and messages of events, in Spanish or English."""

from contract.level import Level
from rules.tables import KINDS
from rules.words import Named, short

TITLE_LENGTH = 255
MESSAGE_LENGTH = 1000

_WORDS = {
    "es": {
        Level.NORMAL: "normal", Level.WARN: "advertencia", Level.CRITICAL: "crítico",
        "flapping": "oscilación", "silent": "sin datos", "back": "datos de nuevo",
        "deviation": "desviación de lo previsto", "as_predicted": "según lo previsto",
        "settled": "fin de la oscilación", "accepted": "nuevo comportamiento normal",
    },
    "en": {
        Level.NORMAL: "normal", Level.WARN: "warning", Level.CRITICAL: "critical",
        "flapping": "flapping", "silent": "no data", "back": "data resumed",
        "deviation": "deviation from prediction", "as_predicted": "as predicted",
        "settled": "stopped flapping", "accepted": "new normal",
    },
}  # fmt: skip
_MESSAGES = {
    "es": {
        "accepted": "{sensor} de {device} está en {value}. Tras {duration}, lo que hace se acepta "
                    "como normal, con un nivel de {accepted}.",
        "recovered": "{sensor} de {device} volvió a la normalidad con {value}, tras {duration}.",
        "flapping": "{sensor} de {device} cambia de nivel casi cada segundo, ahora con {value}. "
                    "Sus cambios no se notificarán hasta que se estabilice. Revise el sensor o "
                    "el umbral.",
        "settled": "{sensor} de {device} dejó de oscilar tras {duration} y está en {value}: "
                   "{state}.",
        "cut": "Los datos atrasados de {sensor} de {device} terminan en {value}, tras {duration} "
               "fuera de lo normal; los siguientes ya se habían evaluado.",
        "unwatched": "Ninguna regla vigila ya {sensor} de {device}, que está en {value}; estuvo "
                     "fuera de lo normal {duration}.",
        "sensor_silent": "{sensor} de {device} no envía datos desde hace {duration}; el "
                         "dispositivo sí. Revise el sensor.",
        "device_silent": "{device} no envía datos desde hace {duration}. Revise su alimentación y "
                         "su red.",
        "sensor_back": "{sensor} de {device} vuelve a enviar datos, tras {duration}.",
        "device_back": "{device} vuelve a enviar datos, tras {duration}.",
        "deviation": "{sensor} de {device} está en {value}; diez minutos antes se había "
                     "previsto {predicted}, y el error no suele pasar de {band}.",
        "as_predicted": "{sensor} de {device} está en {value}, de nuevo cerca de lo previsto, tras "
                        "{duration}.",
    },
    "en": {
        "accepted": "{sensor} of {device} is at {value}. After {duration}, what it does is "
                    "accepted as its normal, with a level of {accepted}.",
        "recovered": "{sensor} of {device} is back to normal at {value}, after {duration}.",
        "flapping": "{sensor} of {device} changes its level almost every second and is now at "
                    "{value}. Its changes send no notifications until it settles. Check the "
                    "sensor or the threshold.",
        "settled": "{sensor} of {device} stopped flapping after {duration} and is at {value}: "
                   "{state}.",
        "cut": "The late readings of {sensor} of {device} end at {value}, after {duration} that "
               "were not normal. Its later readings had been judged already.",
        "unwatched": "No rule watches {sensor} of {device} any longer. It is at {value} and was "
                     "not normal for {duration}.",
        "sensor_silent": "{sensor} of {device} has sent no data for {duration}, but the device "
                         "has. Check the sensor.",
        "device_silent": "{device} has sent no data for {duration}. Check its power and network.",
        "sensor_back": "{sensor} of {device} sends data again, after {duration}.",
        "device_back": "{device} sends data again, after {duration}.",
        "deviation": "{sensor} of {device} is at {value}; ten minutes ago the prediction was "
                     "{predicted}, and its error is usually at most {band}.",
        "as_predicted": "{sensor} of {device} is at {value}, close to its prediction again, after "
                        "{duration}.",
    },
}  # fmt: skip
for _language, _messages in _MESSAGES.items():
    for _kind in KINDS:
        _messages |= _kind.texts[_language]
_ACTIONS = {
    "es": {Level.WARN: "Revíselo pronto.", Level.CRITICAL: "Intervenga de inmediato."},
    "en": {Level.WARN: "Check it soon.", Level.CRITICAL: "Act at once."},
}
_ALERTS = {
    "es": {Level.WARN: "Advertencia", Level.CRITICAL: "Alerta crítica"},
    "en": {Level.WARN: "Warning", Level.CRITICAL: "Critical alert"},
}


def title(language: str, named: Named, word: Level | str) -> str:
    """An event's title, at most 255 characters."""
    what = " · ".join(short(name) for name in (named.device, named.name) if name)
    return f"{what}: {_WORDS[language][word]}"


def alert_title(language: str, level: Level, rule: str) -> str:
    """The title of the alert of a rule, at most 255 characters."""
    return f"{_ALERTS[language][level]}: {short(rule)}"


def message(
    language: str, kind: str, named: Named, level: Level | None = None, **words: str
) -> str:
    """An event's message: the value in the sensor's unit and what it is compared with. With a
    level, it also says what to do. At most 1000 characters.
    """
    words = {name: short(word) for name, word in words.items()}
    text = _MESSAGES[language][kind].format(
        sensor=short(named.name), device=short(named.device), **words
    )
    return text if level is None else f"{text} {_ACTIONS[language][level]}"


def word(language: str, level: Level) -> str:
    """The name of a level."""
    return _WORDS[language][level]
