"""Requests to packets: which readings are known, what time they have, which id the packet gets."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from typing import cast
from uuid import uuid4

import msgspec

from contract.errors import PacketError
from contract.packet import FUTURE_MS, Packet
from ingest_edge.requests import LegacyReading, PacketBody, check_values, time_ms, uuid_text


@dataclass(frozen=True, slots=True)
class Device:
    """A device and its active sensors."""

    id: int
    uuid: str
    sensors: Mapping[str, int]
    """sensor_uuid, in lower case -> sensor_id."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A packet to be made durable, and what is said about it."""

    packet: Packet
    unknown_sensors: list[str]
    skewed: int
    """Readings whose time lies too far ahead to be believed."""


def packet_of(body: PacketBody, device: Device, received_at: int) -> Accepted:
    """The packet that `body` is, without the readings of sensors that the device does not have.

    `received_at` is in epoch milliseconds UTC.

    Raises:
        PacketError: 422, a uuid, a time or a value is wrong, or the device has none of the
            sensors.
    """
    readings = body.readings
    value = [reading.value for reading in readings]
    check_values(value, "readings[{}].value")
    packet_ts = time_ms(body.ts, "ts")
    said = [reading.ts for reading in readings]
    device_ts: list[int | None]
    if said.count(None) == len(said):
        device_ts = [packet_ts] * len(said)
    else:
        device_ts = [
            packet_ts if when is None else time_ms(when, f"readings[{index}].ts")
            for index, when in enumerate(said)
        ]
    known = device.sensors.get
    sensor_id = [known(reading.sensor_uuid) for reading in readings]
    unknown: dict[str, None] = {}
    if None in sensor_id:
        for index, reading in enumerate(readings):
            if sensor_id[index] is None:
                uuid = uuid_text(reading.sensor_uuid, f"readings[{index}].sensor_uuid")
                sensor_id[index] = known(uuid)
                if sensor_id[index] is None:
                    unknown[uuid] = None
        stay = [index for index, number in enumerate(sensor_id) if number is not None]
        if not stay:
            raise PacketError(
                "readings: the device has none of these sensors, or they are inactive",
                reason="unknown_sensor",
            )
        sensor_id = [sensor_id[index] for index in stay]
        value = [value[index] for index in stay]
        device_ts = [device_ts[index] for index in stay]
    columns = _Columns(cast(list[int], sensor_id), value, device_ts)
    return _accepted(device, columns, received_at, body.packet_id, list(unknown))


def missing(device: Device, body: PacketBody) -> list[str]:
    """The sensors in `body`, in lower case, that `device` is not known to have."""
    sensors = device.sensors
    return [
        reading.sensor_uuid.lower()
        for reading in body.readings
        if reading.sensor_uuid not in sensors and reading.sensor_uuid.lower() not in sensors
    ]


_Reading = tuple[int, float, int | None]
"""sensor_id, value, the device's time"""


def legacy_readings(readings: Sequence[LegacyReading], prefix: str) -> list[_Reading]:
    """Legacy readings with their values and times checked; `prefix` begins their places' names.

    Raises:
        PacketError: 422, a time or a value is wrong.
    """
    check_values([reading.value for reading in readings], f"{prefix}value")
    return [
        (
            reading.sensor_id,
            reading.value,
            time_ms(reading.timestamp, f"{prefix.format(index)}timestamp"),
        )
        for index, reading in enumerate(readings)
    ]


def legacy_packet(device: Device, readings: list[_Reading], received_at: int) -> Accepted:
    """The packet of legacy readings that all belong to `device`."""
    columns = _Columns(
        [reading[0] for reading in readings],
        [reading[1] for reading in readings],
        [reading[2] for reading in readings],
    )
    return _accepted(device, columns, received_at, None, [])


@dataclass(frozen=True, slots=True)
class _Columns:
    sensor_id: list[int]
    value: list[float]
    device_ts: list[int | None]


def _accepted(
    device: Device,
    readings: _Columns,
    received_at: int,
    packet_id: str | None,
    unknown: list[str],
) -> Accepted:
    said = readings.device_ts
    number = len(said)
    undated = said.count(None)
    skewed = 0
    if undated == number:
        ts = [received_at] * number
    else:
        latest = received_at + FUTURE_MS
        skewed = sum(when is not None and when > latest for when in said)
        ts = [received_at if when is None or when > latest else when for when in said]
    packet = Packet(
        packet_id=packet_id or (_unique_id() if undated else _content_id(device, readings)),
        device_id=device.id,
        device_uuid=device.uuid,
        received_at=received_at,
        sensor_id=readings.sensor_id,
        ts=ts,
        device_ts=None if undated == number else said,
        value=readings.value,
        seq=_sequence(readings.sensor_id, ts),
    )
    return Accepted(packet, unknown, skewed)


_process = uuid4().hex[:20]
_number = count(1)


def _unique_id() -> str:
    """For a packet that the device dated in part or not at all: the same values may well be
    measured again.
    """
    return f"{_process}{next(_number):012x}"


def _content_id(device: Device, readings: _Columns) -> str:
    """A hash of the content, so that a retry of a packet that the device dated has the same id."""
    content = (device.uuid, readings.sensor_id, readings.value, readings.device_ts)
    return sha256(msgspec.json.encode(content)).hexdigest()[:32]


def _sequence(sensor_id: list[int], ts: list[int]) -> list[int]:
    """For each reading, how many before it have the same sensor and time.

    >>> _sequence([1, 1, 2, 1], [5, 5, 5, 6])
    [0, 1, 0, 0]
    """
    if len(set(sensor_id)) == len(sensor_id):
        return [0] * len(sensor_id)
    seen: Counter[tuple[int, int]] = Counter()
    found = []
    for key in zip(sensor_id, ts, strict=True):
        found.append(seen[key])
        seen[key] += 1
    return found
