"""What devices may send: the three request bodies, and how a body becomes one of them.

Nothing here reads a clock, a database or the network. An error names the field and the index of
the reading, and never repeats what was sent.
"""

from datetime import UTC, datetime
from typing import Annotated, TypeVar
from uuid import UUID

import msgspec

from contract.errors import PacketError
from contract.packet import MAX_READINGS, MAX_TIME_MS, MAX_VALUE

When = str | float | None
"""ISO-8601, with or without zone (none means UTC), or epoch seconds."""

_B = TypeVar("_B", bound=msgspec.Struct)


class PacketReading(msgspec.Struct, frozen=True):
    """One reading of a packet; without `ts` it has the packet's."""

    sensor_uuid: UUID
    value: float
    ts: When = None


class PacketBody(msgspec.Struct, frozen=True):
    """Body of `POST /ingest/packets`."""

    device_uuid: UUID
    readings: Annotated[list[PacketReading], msgspec.Meta(min_length=1, max_length=MAX_READINGS)]
    ts: When = None
    packet_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None


class LegacyReading(msgspec.Struct, frozen=True):
    """Body of `POST /ingest/readings`."""

    sensor_id: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    value: float
    timestamp: When = None


class LegacyBody(msgspec.Struct, frozen=True):
    """Body of `POST /ingest/readings/bulk`."""

    readings: Annotated[list[LegacyReading], msgspec.Meta(min_length=1, max_length=MAX_READINGS)]


def parse(body: bytes, kind: type[_B]) -> _B:
    """The body as `kind`.

    Raises:
        PacketError: 422, with the place of the fault, as in `readings[3].value`.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
        place = place.rstrip("`").lstrip(".")
        raise PacketError(f"{place}: {what}" if place else what) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PacketError("the body is not valid JSON") from error


def check_value(value: float, place: str) -> float:
    """The value, if it can be stored.

    Raises:
        PacketError: 422, it is too large; `place` names it.
    """
    if not abs(round(value, 5)) < MAX_VALUE:
        raise PacketError(f"{place}: the value must lie between -1e10 and 1e10")
    return value


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
            elapsed = moment - datetime(1970, 1, 1, tzinfo=UTC)
        except OverflowError as error:
            raise PacketError(f"{place}: not between the years 1970 and 9998") from error
        ms = (elapsed.days * 86_400 + elapsed.seconds) * 1000 + elapsed.microseconds // 1000
    else:
        ms = round(min(max(when, -1.0), 1e12) * 1000)
    if not 0 <= ms <= MAX_TIME_MS:
        raise PacketError(f"{place}: not between the years 1970 and 9998")
    return ms
