"""What a person reads: the title and the message of an event, in Spanish or English."""

from contract.level import Level
from dataflows.rules import Rule, Sensor

_LEVEL_WORDS = {
    "es": {Level.NORMAL: "normal", Level.WARN: "advertencia", Level.CRITICAL: "crítico"},
    "en": {Level.NORMAL: "normal", Level.WARN: "warning", Level.CRITICAL: "critical"},
}
_BEYOND = {
    "es": {
        "above": "{sensor} de {device} está en {value}, por encima de {bound} ({rule}).",
        "below": "{sensor} de {device} está en {value}, por debajo de {bound} ({rule}).",
        "equal": "{sensor} de {device} está en {value}, el valor que vigila {rule}.",
    },
    "en": {
        "above": "{sensor} of {device} is at {value}, above {bound} ({rule}).",
        "below": "{sensor} of {device} is at {value}, below {bound} ({rule}).",
        "equal": "{sensor} of {device} is at {value}, the value that {rule} watches for.",
    },
}
_ACTIONS = {
    "es": {Level.WARN: "Revíselo pronto.", Level.CRITICAL: "Intervenga de inmediato."},
    "en": {Level.WARN: "Check it soon.", Level.CRITICAL: "Act at once."},
}
_RECOVERED = {
    "es": "{sensor} de {device} volvió a la normalidad con {value}, tras {duration}.",
    "en": "{sensor} of {device} is back to normal at {value}, after {duration}.",
}


def event_title(language: str, sensor: Sensor, level: Level) -> str:
    """At most 255 characters."""
    return _cut(f"{sensor.device} · {sensor.name}: {_LEVEL_WORDS[language][level]}", 255)


def recovery_message(language: str, sensor: Sensor, value: float, lasted_ms: int) -> str:
    """Back to normal with `value` in the sensor's unit, after how long; at most 1000 characters."""
    words = _words(sensor, value) | {"duration": _duration(lasted_ms)}
    return _cut(_RECOVERED[language].format(**words), 1000)


def alarm_message(language: str, sensor: Sensor, rule: Rule, level: Level, value: float) -> str:
    """What was seen, in the sensor's unit, compared with what, and what to do; at most 1000
    characters.
    """
    if rule.condition == "equal_to":
        side, bound = "equal", rule.low
    else:
        side, bound = ("above", rule.high) if value > rule.high else ("below", rule.low)
    words = _words(sensor, value) | {"rule": rule.name, "bound": _quantity(bound, sensor.unit)}
    return _cut(f"{_BEYOND[language][side].format(**words)} {_ACTIONS[language][level]}", 1000)


def _words(sensor: Sensor, value: float) -> dict[str, str]:
    quantity = _quantity(value, sensor.unit)
    return {"sensor": sensor.name, "device": sensor.device, "value": quantity}


def _quantity(value: float, unit: str) -> str:
    return f"{value:.6g} {unit}".rstrip()


def _duration(ms: int) -> str:
    """In the two largest units that it has.

    >>> _duration(65_000), _duration(7_260_000), _duration(5_000)
    ('1 min 5 s', '2 h 1 min', '5 s')
    """
    seconds = ms // 1000
    hours, minutes, rest = seconds // 3600, seconds % 3600 // 60, seconds % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
