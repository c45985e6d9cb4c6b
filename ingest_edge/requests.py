"""The three request bodies that devices may send, and how they are parsed from JSON.

Nothing here reads a clock, a database or the network. An error names the field and the index of
the reading, or the byte at which the JSON is invalid, and never repeats what was sent.
"""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec

from contract.errors import PacketError
from contract.packet import MAX_READINGS, MAX_TIME_US, MAX_VALUE, MIN_DEVICE_TIME_US
from ingest_edge.json_faults import fault
from ingest_edge.names import look_at_names

_Iso = Annotated[str, msgspec.Meta(max_length=64, extra_json_schema={"format": "date-time"})]
_Seconds = Annotated[
    float,
    msgspec.Meta(
        extra_json_schema={
            "minimum": MIN_DEVICE_TIME_US // 1_000_000,
            "maximum": MAX_TIME_US // 1_000_000,
        }
    ),
]
When = _Iso | _Seconds | None
"""ISO-8601 with or without a zone (without one it is UTC), or epoch seconds."""

_Value = Annotated[
    float,
    msgspec.Meta(extra_json_schema={"exclusiveMinimum": -MAX_VALUE, "exclusiveMaximum": MAX_VALUE}),
]

_Uuid = Annotated[str, msgspec.Meta(max_length=64, extra_json_schema={"format": "uuid"})]
"""Text that `uuid_text` validates only if it is not a known uuid. Most are known, and converting
them to `UUID` would cost more than the rest of the request.
"""
_Count = msgspec.Meta(min_length=1, max_length=MAX_READINGS)


class _Dated(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An object with a time, under one of three names; see `time_of`."""

    ts: When = None
    timestamp: When = None
    sensor_ts: When = None


class PacketReading(_Dated, frozen=True, gc=False):
    """One reading of a packet. Without a time of its own, it has the packet's."""

    sensor_uuid: _Uuid
    value: _Value


class PacketBody(_Dated, frozen=True, gc=False):
    """Body of `POST /ingest/packets`."""

    device_uuid: _Uuid
    readings: Annotated[list[PacketReading], _Count]
    packet_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None

    def quotes(self) -> int:
        """Quotation marks in its JSON, if every field is known, not null and unique."""
        here = 4 + 2 + _time_quotes([self]) + (0 if self.packet_id is None else 4)
        return here + 6 * len(self.readings) + _time_quotes(self.readings)


class LegacyReading(_Dated, frozen=True, gc=False):
    """Body of `POST /ingest/readings`."""

    sensor_id: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    value: _Value

    def quotes(self) -> int:
        """As with `PacketBody`."""
        return 4 + _time_quotes([self])


class LegacyBody(_Dated, frozen=True, gc=False):
    """Body of `POST /ingest/readings/bulk`. Readings without a time have the body's."""

    readings: Annotated[list[LegacyReading], _Count]

    def quotes(self) -> int:
        """As with `PacketBody`."""
        here = 2 + _time_quotes([self])
        return here + 4 * len(self.readings) + _time_quotes(self.readings)


def _time_quotes(dated: Sequence[_Dated]) -> int:
    """Two for each time field, and two more for each time that is text."""
    columns = (
        [item.ts for item in dated],
        [item.timestamp for item in dated],
        [item.sensor_ts for item in dated],
    )
    return sum(
        2 * (len(column) - column.count(None)) + 2 * [type(when) for when in column].count(str)
        for column in columns
        if column.count(None) < len(column)
    )


Body = TypeVar("Body", bound=PacketBody | LegacyReading | LegacyBody)

_NAMES: dict[type, tuple[frozenset[str], frozenset[str]]] = {
    kind: (frozenset(kind.__struct_fields__), frozenset(readings))
    for kind, readings in (
        (PacketBody, PacketReading.__struct_fields__),
        (LegacyReading, ()),
        (LegacyBody, LegacyReading.__struct_fields__),
    )
}
_SHAPES: dict[type, str] = {
    PacketBody: '{"device_uuid": "...", "readings": [{"sensor_uuid": "...", "value": 1.5}]}',
    LegacyReading: '{"sensor_id": 1, "value": 1.5}',
    LegacyBody: '{"readings": [{"sensor_id": 1, "value": 1.5}]}',
}
_HINTS = (
    ("Expected `float`, got `str`", "; write numbers without quotes"),
    ("Expected `float`, got `null`", "; omit a reading that has no value"),
    ("Expected `int`, got `str`", "; write numbers without quotes"),
    ("Expected `float | str | null`", "; send epoch seconds or ISO-8601 text"),
    ("Expected `array` of length <=", "; split the packet"),
)
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (PacketBody, LegacyReading, LegacyBody)
}


def parse(content: bytes, kind: type[Body]) -> tuple[Body, list[str]]:
    """The body as `kind`, and warnings about likely mistakes (see `look_at_names`).

    Raises:
        PacketError: 422, the body is invalid; the text names the place, as in `readings[3].value`.
            A duplicate name in an object is an error, because it is unclear which value counts.
    """
    try:
        body: Body = _DECODERS[kind].decode(content)
        # a field that is unknown, repeated or null adds quotation marks
        if b"\\" in content or content.count(b'"') != body.quotes():
            return body, look_at_names(content, *_NAMES[kind])
    except msgspec.ValidationError as error:
        raise PacketError(_explained(str(error), kind)) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PacketError(fault(content, error)) from error
    return body, []


def _explained(said: str, kind: type[Body]) -> str:
    what, _, place = said.partition(" - at `$")
    place = place.rstrip("`").lstrip(".")
    hint = next((hint for start, hint in _HINTS if what.startswith(start)), "")
    if "required field" in what or (what.startswith("Expected `object`") and not place):
        hint = f"; send {_SHAPES[kind]}"
    return f"{place}: {what}{hint}" if place else f"{what}{hint}"


def uuid_text(text: str, place: str) -> str:
    """A uuid in its canonical form, in lower case.

    Raises:
        PacketError: 422, `text` is not a uuid. The error names `place`.

    >>> uuid_text("0000000000000000000000000000000A", "device_uuid")
    '00000000-0000-0000-0000-00000000000a'
    """
    try:
        return str(msgspec.convert(text, UUID))
    except msgspec.ValidationError as error:
        raise PacketError(f"{place}: Invalid UUID") from error


def uuid_texts(texts: dict[int, str], place: str) -> list[str]:
    """Uuids, by index, in the form of `uuid_text`. All at once: this is most of the cost of a
    packet of unknown sensors.

    Raises:
        PacketError: 422, a text is not a uuid. The error names `place`, with the index of the first
            such text for {}.
    """
    try:
        return list(map(str, msgspec.convert(list(texts.values()), list[UUID])))
    except msgspec.ValidationError:
        return [uuid_text(text, place.format(index)) for index, text in texts.items()]


def check_values(values: list[float], place: str) -> None:
    """Check that all values can be stored.

    Raises:
        PacketError: 422, a value is too large. The error names `place`, with its index for {}.
    """
    if max(values) < MAX_VALUE - 1 and min(values) > 1 - MAX_VALUE:
        return
    for index, value in enumerate(values):
        if not abs(round(value, 5)) < MAX_VALUE:
            raise PacketError(f"{place.format(index)}: the value must be between -1e10 and 1e10")
