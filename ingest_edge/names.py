"""Checks the field names of a body: rejects duplicates, and warns about likely misspellings."""

import json
import re
from difflib import get_close_matches
from functools import cache
from typing import Any

from contract.errors import PacketError
from ingest_edge.times import NAMES

_GUESSED = 8
"""How many distinct unknown names are compared with known ones."""
_LONGEST = 40
_CLOSE = 0.8
_WORDS = {
    "ts": "ts timestamp sensorts time datetime date epoch tsms timestampms measuredat eventtime",
    "packet_id": "packetid messageid msgid batchid",
}
_WARNINGS = {
    "ts": f"a field that looks like a time was ignored; name it {' or '.join(NAMES)}",
    "packet_id": "a field that looks like packet_id was ignored; name it packet_id",
}
_not_plain = re.compile(r"[^a-z0-9]")


def look_at_names(
    content: bytes, known: frozenset[str], known_in_readings: frozenset[str]
) -> list[str]:
    """Return a warning for each optional field that is missing while an unknown one resembles it.

    `content` has been parsed before, so no required field is missing. `known` are the field names
    of the body, `known_in_readings` those of the objects in its `readings`.

    Raises:
        PacketError: 422, an object has the same name twice.
        ValueError: `content` is not UTF-8.
    """
    loaded = json.loads(content, object_pairs_hook=_no_name_twice)
    objects = [("", loaded, known)]
    if known_in_readings:
        objects += [
            (f"readings[{index}]", reading, known_in_readings)
            for index, reading in enumerate(loaded["readings"])
        ]
    guess = cache(_Guesses())
    places: dict[str, list[str]] = {}
    for place, fields, expected in objects:
        there = fields.keys() & expected
        for name in fields.keys() - expected:
            missing = guess(name)
            there_too = set(NAMES) if missing == "ts" else {missing}
            if missing is not None and expected & there_too and not there & there_too:
                places.setdefault(missing, []).append(place)
    return [f"{in_places(where)}{_WARNINGS[name]}" for name, where in places.items()]


def in_places(places: list[str]) -> str:
    """The first place and the number of others, as the prefix of a text.

    >>> in_places(["readings[2]", "readings[3]"]), in_places([""])
    ('readings[2] and 1 more: ', '')
    """
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{places[0]}{more}: " if places[0] else ""


class _Guesses:
    """Guesses which known name an unknown one stands for. The work is bounded for any input."""

    def __init__(self) -> None:
        self._left = _GUESSED

    def __call__(self, name: str) -> str | None:
        plain = _not_plain.sub("", name.lower())
        if not plain or len(name) > _LONGEST or not self._left:
            return None
        self._left -= 1
        for meant, words in _WORDS.items():
            if get_close_matches(plain, words.split(), 1, _CLOSE):
                return meant
        return None


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise PacketError("an object in the body has the same name twice")
    return fields
