"""Parse times, offsets and durations from the command line."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from contract.errors import SetupError
from contract.packet import MAX_TIME_MS

_FIRST_TIME = 1_000_000_000
"""Whole numbers from this on are epoch seconds, smaller ones are offsets."""
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhd])")


@dataclass(frozen=True, slots=True)
class Offset:
    """In each partition, the arrival time of the record at this offset."""

    number: int


Moment = int | Offset
"""Epoch milliseconds UTC, or an offset."""


def parse_moment(option: str, text: str) -> Moment:
    """Parse the value of `option`.

    Raises:
        SetupError: `text` is neither a time nor an offset.

    >>> parse_moment("--from", "2024-11-24T10:00:00.5")
    1732442400500
    >>> parse_moment("--from", "1732442400.5")
    1732442400500
    >>> parse_moment("--to", "1200")
    Offset(number=1200)
    """
    try:
        if text.isdecimal() and int(text) < _FIRST_TIME:
            return Offset(int(text))
        ms = _epoch_ms(text)
    except (ValueError, OverflowError):
        ms = -1
    if not 0 <= ms <= MAX_TIME_MS:
        raise SetupError(
            f"{option} {text}: give a time as in 2024-11-24T10:00:00Z (UTC if it has no zone) "
            f"or in epoch seconds, or an offset below {_FIRST_TIME:,}".replace(",", " ")
        )
    return ms


def parse_time(option: str, text: str, now_ms: int) -> int:
    """Parse the value of `option`, a time or how long before `now_ms`, into epoch milliseconds UTC.

    Raises:
        SetupError: `text` is neither.

    >>> parse_time("--since", "2024-11-24T10:00:00", 0)
    1732442400000
    >>> parse_time("--since", "90s", 1732442490000)
    1732442400000
    """
    if _DURATION.fullmatch(text):
        return max(0, now_ms - parse_duration(option, text))
    try:
        ms = _epoch_ms(text)
    except (ValueError, OverflowError):
        ms = -1
    if not 0 <= ms <= MAX_TIME_MS:
        raise SetupError(
            f"{option} {text}: give a time as in 2024-11-24T10:00:00Z (UTC if it has no zone) or "
            "in epoch seconds, or how long ago, as in 30m, 2h or 1d"
        )
    return ms


def _epoch_ms(text: str) -> int:
    if re.fullmatch(r"\d+(\.\d*)?", text):
        seconds = float(text)
        return round(seconds * 1000) if seconds >= _FIRST_TIME else -1
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def parse_duration(option: str, text: str) -> int:
    """Parse the value of `option` into milliseconds.

    Raises:
        SetupError: `text` is not a duration.

    >>> parse_duration("--margin", "1.5h")
    5400000
    """
    match = _DURATION.fullmatch(text)
    if not match:
        raise SetupError(f"{option} {text}: give a number with s, m, h or d, as in 90s, 2h or 1d")
    return round(float(match[1]) * _UNITS_MS[match[2]])
