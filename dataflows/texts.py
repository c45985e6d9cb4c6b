"""What a person reads: the titles and messages of events, in Spanish or English."""

from dataclasses import dataclass

from contract.level import Level

TITLE_LENGTH = 255
MESSAGE_LENGTH = 1000
_NAME_LENGTH = 100
"""A title names two things, and a message both of them and a rule."""

_WORDS = {
    "es": {
        Level.NORMAL: "normal", Level.WARN: "advertencia", Level.CRITICAL: "crítico",
        "flapping": "oscilación", "silent": "sin datos", "back": "datos de nuevo",
        "deviation": "desviación de lo previsto", "as_predicted": "según lo previsto",
        "settled": "fin de la oscilación",
    },
    "en": {
        Level.NORMAL: "normal", Level.WARN: "warning", Level.CRITICAL: "critical",
        "flapping": "flapping", "silent": "no data", "back": "data again",
        "deviation": "off prediction", "as_predicted": "as predicted",
        "settled": "no longer flapping",
    },
}  # fmt: skip
_MESSAGES = {
    "es": {
        "above": "{sensor} de {device} está en {value}, por encima de {bound} ({rule}).",
        "below": "{sensor} de {device} está en {value}, por debajo de {bound} ({rule}).",
        "equal": "{sensor} de {device} está en {value}, el valor que vigila {rule}.",
        "delta": "{sensor} de {device} cambió en {change} en {duration}, hasta {value}.",
        "forecast": "{sensor} de {device} está en {value} y alcanzará {bound} en unos {duration} "
                    "si sigue así ({rule}).",
        "detector": "{sensor} de {device} está en {value}, algo inusual: suele estar alrededor de "
                    "{usual}.",
        "recovered": "{sensor} de {device} volvió a la normalidad con {value}, tras {duration}.",
        "flapping": "{sensor} de {device} cambia de nivel casi cada segundo, ahora con {value}. "
                    "Sus cambios no se notificarán hasta que se estabilice. Revise el sensor o "
                    "el umbral.",
        "settled": "{sensor} de {device} dejó de oscilar tras {duration} y está en {value}: "
                   "{state}.",
        "unwatched": "Ninguna regla vigila ya {sensor} de {device}, que está en {value}; estuvo "
                     "fuera de lo normal {duration}.",
        "sensor_silent": "{sensor} de {device} no envía datos desde hace {duration}; el "
                         "dispositivo sí. Revise el sensor.",
        "device_silent": "{device} no envía datos desde hace {duration}. Revise su alimentación y "
                         "su red.",
        "sensor_back": "{sensor} de {device} vuelve a enviar datos, tras {duration}.",
        "device_back": "{device} vuelve a enviar datos, tras {duration}.",
        "deviation": "{sensor} de {device} está en {value}; se había previsto {predicted}.",
        "as_predicted": "{sensor} de {device} está en {value}, de nuevo cerca de lo previsto, tras "
                        "{duration}.",
    },
    "en": {
        "above": "{sensor} of {device} is at {value}, above {bound} ({rule}).",
        "below": "{sensor} of {device} is at {value}, below {bound} ({rule}).",
        "equal": "{sensor} of {device} is at {value}, the value that {rule} watches for.",
        "delta": "{sensor} of {device} changed by {change} within {duration}, to {value}.",
        "forecast": "{sensor} of {device} is at {value} and will reach {bound} in about {duration} "
                    "if it goes on like this ({rule}).",
        "detector": "{sensor} of {device} is at {value}, which is unlike it: it is usually at "
                    "about {usual}.",
        "recovered": "{sensor} of {device} is back to normal at {value}, after {duration}.",
        "flapping": "{sensor} of {device} changes its level almost every second, now at {value}. "
                    "Its changes will not be notified until it settles. Check the sensor or the "
                    "threshold.",
        "settled": "{sensor} of {device} ceased to flap after {duration} and is at {value}: "
                   "{state}.",
        "unwatched": "No rule watches {sensor} of {device} any more, which is at {value}; it was "
                     "not normal for {duration}.",
        "sensor_silent": "{sensor} of {device} has sent no data for {duration}; the device "
                         "has. Check the sensor.",
        "device_silent": "{device} has sent no data for {duration}. Check its power "
                         "and its network.",
        "sensor_back": "{sensor} of {device} sends data again, after {duration}.",
        "device_back": "{device} sends data again, after {duration}.",
        "deviation": "{sensor} of {device} is at {value}; {predicted} had been predicted.",
        "as_predicted": "{sensor} of {device} is at {value}, close to its prediction again, after "
                        "{duration}.",
    },
}  # fmt: skip
_ACTIONS = {
    "es": {Level.WARN: "Revíselo pronto.", Level.CRITICAL: "Intervenga de inmediato."},
    "en": {Level.WARN: "Check it soon.", Level.CRITICAL: "Act at once."},
}


@dataclass(frozen=True, slots=True)
class Named:
    """A sensor, or a device alone, as texts name it."""

    name: str
    """The sensor's; empty for a device alone."""
    type: str
    unit: str
    device: str


def title(language: str, named: Named, word: Level | str) -> str:
    """At most 255 characters."""
    what = " · ".join(_short(name) for name in (named.device, named.name) if name)
    return f"{what}: {_WORDS[language][word]}"


def message(
    language: str, kind: str, named: Named, level: Level | None = None, **words: str
) -> str:
    """What was seen, in the sensor's unit, compared with what; with a level, also what to do. At
    most 1000 characters.
    """
    words = {name: _short(word) for name, word in words.items()}
    text = _MESSAGES[language][kind].format(
        sensor=_short(named.name), device=_short(named.device), **words
    )
    return text if level is None else f"{text} {_ACTIONS[language][level]}"


def word(language: str, level: Level) -> str:
    """A level's name."""
    return _WORDS[language][level]


def quantity(value: float, unit: str) -> str:
    """At least six significant digits, all those before the point, and the unit.

    >>> quantity(21.0, "°C"), quantity(1013257.25, "Pa"), quantity(0.5, "")
    ('21 °C', '1013257 Pa', '0.5')
    """
    number = f"{value:.0f}" if 1e6 <= abs(value) < 1e15 else f"{value:.6g}"
    return f"{number} {unit}".rstrip()


def duration(ms: int) -> str:
    """In the two largest units that it has.

    >>> duration(65_000), duration(7_260_000), duration(5_000), duration(180_000_000)
    ('1 min 5 s', '2 h 1 min', '5 s', '2 d 2 h')
    """
    seconds = ms // 1000
    hours, minutes, rest = seconds // 3600, seconds % 3600 // 60, seconds % 60
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _short(text: str) -> str:
    return text if len(text) <= _NAME_LENGTH else text[: _NAME_LENGTH - 1] + "…"
