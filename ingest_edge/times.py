"""Parses the times that devices send: ISO-8601 or RFC 3339 text, or epoch seconds."""

import re
from datetime import UTC, datetime
from typing import Protocol

from contract.errors import PacketError
from contract.packet import MAX_TIME_US, MIN_DEVICE_TIME_US

NAMES = ("ts", "timestamp", "sensor_ts")
"""The field names that a time may have."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_leap_second = re.compile(r"(.*\d{2}:?\d{2}:?)60((?:[.,]\d+)?(?:Z|[+-][\d:]+)?)").fullmatch
_RANGE = "not between the years 1 and 9998"


class Dated(Protocol):
    """An object with a time, under one of three names."""

    @property
    def ts(self) -> str | float | None: ...  # noqa: D102 - named by the class
    @property
    def timestamp(self) -> str | float | None: ...  # noqa: D102
    @property
    def sensor_ts(self) -> str | float | None: ...  # noqa: D102


def time_of(dated: Dated, place: str) -> int | None:
    """The time of `dated` in epoch microseconds UTC, or None if it has none.

    `place` names `dated` in errors, and ends with a point unless it is empty.

    Raises:
        PacketError: 422, the time is invalid or outside the years 1 to 9998, or there are two.
    """
    if dated.timestamp is None and dated.sensor_ts is None:
        return None if dated.ts is None else time_us(dated.ts, f"{place}ts")
    names = [name for name in NAMES if getattr(dated, name) is not None]
    if len(names) > 1:
        raise PacketError(f"{place}{names[0]}: {names[1]} is set too; send only one of them")
    return time_us(getattr(dated, names[0]), f"{place}{names[0]}")


def time_us(when: str | float, place: str) -> int:
    """`when` in epoch microseconds UTC. Text is cut to six decimals, a number is rounded.

    A leap second counts as the second after it, as on every POSIX clock.

    Raises:
        PacketError: 422, the time is invalid or outside the years 1 to 9998. `place` names it.

    >>> time_us("2024-11-24T10:00:00.5Z", "ts"), time_us(1732442400.000001, "ts")
    (1732442400500000, 1732442400000001)
    >>> time_us("2016-12-31t23:59:60.25z", "ts") == time_us("2017-01-01T00:00:00.25Z", "ts")
    True
    """
    if isinstance(when, str):
        us = _text_us(when, place)
    else:
        us = round(min(max(when, -1e12), 1e12) * 1e6)
    if not MIN_DEVICE_TIME_US <= us <= MAX_TIME_US:
        raise PacketError(f"{place}: {_RANGE}{_unit_hint(when)}")
    return us


def _text_us(text: str, place: str) -> int:
    leap = 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:  # rare forms are handled only here
        plain = text.strip().upper()
        if (match := _leap_second(plain)) is not None:
            plain, leap = f"{match[1]}59{match[2]}", 1_000_000
        try:
            moment = datetime.fromisoformat(plain)
        except ValueError as error:
            raise PacketError(f"{place}: not an ISO-8601 time{_text_hint(plain)}") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        elapsed = moment - _EPOCH
    except OverflowError as error:
        raise PacketError(f"{place}: {_RANGE}") from error
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds + leap


def _text_hint(text: str) -> str:
    if text.replace(".", "", 1).isdigit():
        return "; write epoch seconds without quotes"
    return " such as 2026-01-31T12:00:00Z"


def _unit_hint(when: str | float) -> str:
    """A hint, if the number is a time of this century in a smaller unit than seconds."""
    if not isinstance(when, str):
        for unit, scale in (("milli", 1e3), ("micro", 1e6), ("nano", 1e9)):
            if 946_684_800 <= when / scale < 4_102_444_800:
                return f"; send epoch seconds, not {unit}seconds"
    return ""
