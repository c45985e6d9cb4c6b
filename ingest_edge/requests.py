"""What devices may send: the three request bodies, and how bytes become one of them.

Nothing here reads a clock, a database or the network. An error names the field and the index of
the reading, and never repeats what was sent.
"""

import json
from datetime import UTC, datetime
from math import floor
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec

from contract.errors import PacketError
from contract.packet import MAX_READINGS, MAX_TIME_MS, MAX_VALUE

_LOOKED_THROUGH = 524_288
_Iso = Annotated[str, msgspec.Meta(max_length=64, extra_json_schema={"format": "date-time"})]
_Seconds = Annotated[
    float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": MAX_TIME_MS // 1000})
]
When = _Iso | _Seconds | None
"""ISO-8601, with or without zone (none means UTC), or epoch seconds."""

_Value = Annotated[
    float,
    msgspec.Meta(extra_json_schema={"exclusiveMinimum": -MAX_VALUE, "exclusiveMaximum": MAX_VALUE}),
]

_Uuid = Annotated[str, msgspec.Meta(max_length=64, extra_json_schema={"format": "uuid"})]
"""Text that `uuid_text` looks at where nobody knows it: most are known, and making `UUID`s of
them would cost more than all the rest of a request.
"""
_Count = msgspec.Meta(min_length=1, max_length=MAX_READINGS)


class PacketReading(msgspec.Struct, frozen=True, gc=False):
    """One reading of a packet; without `ts` it has the packet's."""

    sensor_uuid: _Uuid
    value: _Value
    ts: When = None


class PacketBody(msgspec.Struct, frozen=True, gc=False):
    """Body of `POST /ingest/packets`."""

    device_uuid: _Uuid
    readings: Annotated[list[PacketReading], _Count]
    ts: When = None
    packet_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None

    def names(self) -> dict[bytes, int]:
        """How often each field's name stands in the JSON, if none is repeated or null."""
        count = len(self.readings)
        dated = count - [reading.ts for reading in self.readings].count(None)
        return {
            b'"device_uuid"': 1,
            b'"readings"': 1,
            b'"packet_id"': int(self.packet_id is not None),
            b'"ts"': dated + (self.ts is not None),
            b'"sensor_uuid"': count,
            b'"value"': count,
        }


class LegacyReading(msgspec.Struct, frozen=True, gc=False):
    """Body of `POST /ingest/readings`."""

    sensor_id: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    value: _Value
    timestamp: When = None

    def names(self) -> dict[bytes, int]:
        """As with `PacketBody`."""
        dated = int(self.timestamp is not None)
        return {b'"sensor_id"': 1, b'"value"': 1, b'"timestamp"': dated}


class LegacyBody(msgspec.Struct, frozen=True, gc=False):
    """Body of `POST /ingest/readings/bulk`."""

    readings: Annotated[list[LegacyReading], _Count]

    def names(self) -> dict[bytes, int]:
        """As with `PacketBody`."""
        count = len(self.readings)
        dated = count - [reading.timestamp for reading in self.readings].count(None)
        return {
            b'"readings"': 1,
            b'"sensor_id"': count,
            b'"value"': count,
            b'"timestamp"': dated,
        }


_B = TypeVar("_B", PacketBody, LegacyReading, LegacyBody)

_DECODERS = {kind: msgspec.json.Decoder(kind) for kind in (PacketBody, LegacyReading, LegacyBody)}


def parse(body: bytes, kind: type[_B]) -> _B:
    """The body as `kind`.

    Raises:
        PacketError: 422, with the place of the fault, as in `readings[3].value`. An object that
            has one name twice is a fault: which of the two values was meant?
    """
    try:
        found: _B = _DECODERS[kind].decode(body)  # type: ignore[assignment]
        # names are counted as text: only where that tells nothing is the body read once more
        if b"\\" in body or any(body.count(name) != n for name, n in found.names().items()):
            _look_for_repeated_names(body)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
        place = place.rstrip("`").lstrip(".")
        raise PacketError(f"{place}: {what}" if place else what) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PacketError("the body is not valid JSON") from error
    return found


def _look_for_repeated_names(body: bytes) -> None:
    if len(body) > _LOOKED_THROUGH:  # it would hold up all others for too long
        raise PacketError(
            f"the body has more than {_LOOKED_THROUGH} bytes, and null, escaped or unknown fields "
            "in it: leave them out"
        )
    json.loads(body, object_pairs_hook=_no_name_twice)


def _no_name_twice(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise PacketError("an object in the body has the same name twice")


def uuid_text(text: str, place: str) -> str:
    """A uuid in its canonical form, in lower case.

    Raises:
        PacketError: 422, it is none; `place` names it.

    >>> uuid_text("0000000000000000000000000000000A", "device_uuid")
    '00000000-0000-0000-0000-00000000000a'
    """
    try:
        return str(msgspec.convert(text, UUID))
    except msgspec.ValidationError as error:
        raise PacketError(f"{place}: Invalid UUID") from error


def check_values(values: list[float], place: str) -> None:
    """See that all values can be stored.

    Raises:
        PacketError: 422, one is too large; `place`, with {} for its index, names it.
    """
    if max(values) < MAX_VALUE - 1 and min(values) > 1 - MAX_VALUE:
        return
    for index, value in enumerate(values):
        if not abs(round(value, 5)) < MAX_VALUE:
            raise PacketError(f"{place.format(index)}: the value must lie between -1e10 and 1e10")


def time_ms(when: When, place: str) -> int | None:
    """`when` in epoch milliseconds UTC, cut to whole ones; None stays None.

    Raises:
        PacketError: 422, no such time, or none between 1970 and 9998; `place` names it.

    >>> time_ms("2024-11-24T10:00:00.5Z", "ts"), time_ms(1732442400, "ts")
    (1732442400500, 1732442400000)
    """
    if when is None:
        return None
    if isinstance(when, str):
        try:
            moment = datetime.fromisoformat(when.strip())
        except ValueError as error:
            raise PacketError(f"{place}: not an ISO-8601 time") from error
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        try:
            elapsed = moment - _EPOCH
        except OverflowError as error:
            raise PacketError(f"{place}: not between the years 1970 and 9998") from error
        ms = (elapsed.days * 86_400 + elapsed.seconds) * 1000 + elapsed.microseconds // 1000
    else:
        # a microsecond more than said: 0.123 is a little less than that in binary
        ms = floor(min(max(when, -1.0), 1e12) * 1000 + 0.001)
    if not 0 <= ms <= MAX_TIME_MS:
        hint = "; give epoch seconds, not milliseconds" if _is_milliseconds(when) else ""
        raise PacketError(f"{place}: not between the years 1970 and 9998{hint}")
    return ms


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _is_milliseconds(when: str | float) -> bool:
    """Whether a number too large for seconds makes a time of this century as milliseconds."""
    return not isinstance(when, str) and 946_684_800_000 <= when < 4_102_444_800_000
