"""Turns requests into packets: resolves sensors, event times and the packet id."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from typing import cast
from uuid import uuid4

import msgspec

from contract.errors import PacketError
from contract.packet import BELIEVED_FROM_US, FUTURE_MS, Packet, first_seq
from ingest_edge.names import in_places
from ingest_edge.requests import LegacyBody, LegacyReading, PacketBody, check_values, uuid_texts
from ingest_edge.times import Dated, time_of


@dataclass(frozen=True, slots=True)
class Device:
    """A device and its active sensors."""

    id: int
    uuid: str
    sensors: Mapping[str, int]
    """sensor_uuid, in lower case -> sensor_id."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A packet to be stored, and what the response says about it."""

    packet: Packet
    unknown_sensors: list[str]
    not_believed: int
    """Readings whose device time was replaced by the arrival time."""
    warnings: list[str]
    """What was accepted but is probably a mistake, explained to the author of the firmware."""


def packet_of(body: PacketBody, device: Device, received_at: int) -> Accepted:
    """The packet of `body`, without the readings of sensors that the device does not have.

    `received_at` is in epoch microseconds UTC.

    Raises:
        PacketError: 422, a uuid, a time or a value is invalid, or the device has none of the
            sensors.
    """
    readings = body.readings
    value = [reading.value for reading in readings]
    check_values(value, "readings[{}].value")
    device_ts = _device_times(body, readings)
    known = device.sensors.get
    sensor_id = [known(reading.sensor_uuid) for reading in readings]
    unknown: dict[str, None] = {}
    place: Sequence[int] = range(len(readings))
    if None in sensor_id:
        texts = {
            index: reading.sensor_uuid
            for index, reading in enumerate(readings)
            if sensor_id[index] is None
        }
        for index, uuid in zip(texts, uuid_texts(texts, "readings[{}].sensor_uuid"), strict=True):
            sensor_id[index] = known(uuid)
            if sensor_id[index] is None:
                unknown[uuid] = None
        place = [index for index, number in enumerate(sensor_id) if number is not None]
        if not place:
            raise PacketError(
                "readings: the device has none of these sensors, or they are inactive",
                reason="unknown_sensor",
            )
        sensor_id = [sensor_id[index] for index in place]
        value = [value[index] for index in place]
        device_ts = [device_ts[index] for index in place]
    columns = _Columns(place, cast(list[int], sensor_id), value, device_ts)
    return _accepted(device, columns, received_at, body.packet_id, list(unknown))


def missing(device: Device, body: PacketBody) -> list[str]:
    """The uuids of the sensors in `body`, in lower case, that `device` is not known to have."""
    sensors = device.sensors
    return [
        reading.sensor_uuid.lower()
        for reading in body.readings
        if reading.sensor_uuid not in sensors and reading.sensor_uuid.lower() not in sensors
    ]


@dataclass(frozen=True, slots=True)
class CheckedReading:
    """A legacy reading with a valid value and time."""

    index: int
    """Its place in the body."""
    sensor_id: int
    value: float
    device_ts: int | None
    """The time that the device sent, epoch microseconds UTC."""


def legacy_readings(body: LegacyBody | LegacyReading) -> list[CheckedReading]:
    """The readings of a legacy body, checked.

    Raises:
        PacketError: 422, a time or a value is invalid.
    """
    if isinstance(body, LegacyReading):
        check_values([body.value], "value")
        return [CheckedReading(0, body.sensor_id, body.value, time_of(body, ""))]
    check_values([reading.value for reading in body.readings], "readings[{}].value")
    device_ts = _device_times(body, body.readings)
    return [
        CheckedReading(index, reading.sensor_id, reading.value, device_ts[index])
        for index, reading in enumerate(body.readings)
    ]


def legacy_packet(device: Device, readings: list[CheckedReading], received_at: int) -> Accepted:
    """The packet of legacy readings that all belong to `device`."""
    columns = _Columns(
        [reading.index for reading in readings],
        [reading.sensor_id for reading in readings],
        [reading.value for reading in readings],
        [reading.device_ts for reading in readings],
    )
    return _accepted(device, columns, received_at, None, [])


@dataclass(frozen=True, slots=True)
class _Columns:
    index: Sequence[int]
    """Each reading's place in the body."""
    sensor_id: list[int]
    value: list[float]
    device_ts: list[int | None]


def _device_times(body: Dated, readings: Sequence[Dated]) -> list[int | None]:
    """The device time of each reading: its own, else the body's."""
    common = time_of(body, "")
    count = len(readings)
    if (
        [reading.ts for reading in readings].count(None) == count
        and [reading.timestamp for reading in readings].count(None) == count
        and [reading.sensor_ts for reading in readings].count(None) == count
    ):
        return [common] * count
    times: list[int | None] = []
    for index, reading in enumerate(readings):
        own = time_of(reading, f"readings[{index}].")
        times.append(common if own is None else own)
    return times


def _accepted(
    device: Device,
    readings: _Columns,
    received_at: int,
    packet_id: str | None,
    unknown: list[str],
) -> Accepted:
    said = readings.device_ts
    number = len(said)
    ahead, unset = [], []
    undated = said.count(None)
    if undated == number:
        ts = [received_at] * number
    else:
        latest = received_at + FUTURE_MS * 1000
        dated = [when for when in said if when is not None]
        if max(dated) > latest or min(dated) < BELIEVED_FROM_US:
            ahead = [i for i, when in enumerate(said) if when is not None and when > latest]
            unset = [
                i for i, when in enumerate(said) if when is not None and when < BELIEVED_FROM_US
            ]
        ts = [received_at if when is None else when for when in said]
        for i in ahead + unset:
            ts[i] = received_at
    not_believed = len(ahead) + len(unset)
    unique = packet_id or (_unique_id() if undated or unset else _content_id(device, readings))
    packet = Packet(
        packet_id=unique,
        device_id=device.id,
        device_uuid=device.uuid,
        received_at=received_at,
        sensor_id=readings.sensor_id,
        ts=ts,
        device_ts=None if undated == number else said,
        value=readings.value,
        seq=_sequence(readings.sensor_id, ts, said, unique),
    )
    warnings = [
        *_time_warnings(readings, ahead, "more than 5 minutes ahead of the edge's clock"),
        *_time_warnings(readings, unset, "before 2000-01-01"),
    ]
    return Accepted(packet, unknown, not_believed, warnings)


def _time_warnings(readings: _Columns, wrong: list[int], what: str) -> list[str]:
    if not wrong:
        return []
    places = in_places([f"readings[{readings.index[i]}]" for i in wrong])
    return [f"{places}its time is {what}; the arrival time was used instead"]


_process = uuid4().hex[:20]
_number = count(1)


def _unique_id() -> str:
    """An id for a packet with readings that have no time, or one before 2000. The same values may
    be measured again, with the same times if the clock restarts in 1970 at each boot.
    """
    return f"{_process}{next(_number):012x}"


def _content_id(device: Device, readings: _Columns) -> str:
    """A hash of the content, so that a retry of a packet with device times has the same id."""
    content = (device.uuid, readings.sensor_id, readings.value, readings.device_ts)
    return sha256(msgspec.json.encode(content)).hexdigest()[:32]


def _sequence(
    sensor_id: list[int], ts: list[int], said: Sequence[int | None], packet_id: str
) -> list[int]:
    """The `seq` of each reading. With a device time, it is the number of earlier readings with the
    same sensor and time; without one, a number that no other packet uses.

    >>> _sequence([1, 1, 2, 1], [5, 5, 5, 6], [5, 5, 5, 6], "x")
    [0, 1, 0, 0]
    >>> _sequence([1, 1, 1], [5, 9, 5], [5, None, 5], "x") == [0, first_seq("x") + 1, 1]
    True
    """
    if said == ts and len(set(sensor_id)) == len(sensor_id):
        return [0] * len(sensor_id)
    own = first_seq(packet_id)
    if said.count(None) == len(said):
        return list(range(own, own + len(said)))
    seen: Counter[tuple[int, int]] = Counter()
    sequence = []
    for place, (sensor, at, device_ts) in enumerate(zip(sensor_id, ts, said, strict=True)):
        if device_ts == at:
            sequence.append(seen[sensor, at])
            seen[sensor, at] += 1
        else:
            sequence.append(own + place)
    return sequence
