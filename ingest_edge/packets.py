"""Requests to packets: which readings are known, what time they have, which id the packet gets."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID, uuid4

import msgspec

from contract.errors import PacketError
from contract.packet import FUTURE_MS, Packet
from ingest_edge.requests import LegacyReading, PacketBody, check_value, time_ms


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


_Reading = tuple[int, float, int | None]
"""sensor_id, value, the device's time"""


def packet_of(body: PacketBody, device: Device, received_at: int) -> Accepted:
    """The packet that `body` is, without the readings of sensors that the device does not have.

    `received_at` is in epoch milliseconds UTC.

    Raises:
        PacketError: 422, a time or a value is wrong, or the device has none of the sensors.
    """
    packet_ts = time_ms(body.ts, "ts")
    known: list[_Reading] = []
    unknown: dict[str, None] = {}
    for index, reading in enumerate(body.readings):
        place = f"readings[{index}]"
        value = check_value(reading.value, f"{place}.value")
        said = time_ms(reading.ts, f"{place}.ts")
        uuid = str(reading.sensor_uuid)
        sensor_id = device.sensors.get(uuid)
        if sensor_id is None:
            unknown[uuid] = None
        else:
            known.append((sensor_id, value, packet_ts if said is None else said))
    if not known:
        raise PacketError("readings: the device has none of these sensors, or they are inactive")
    return Accepted(_packet(device, known, received_at, body.packet_id), list(unknown))


def legacy_readings(readings: Sequence[LegacyReading], prefix: str) -> list[_Reading]:
    """Legacy readings with their values and times checked; `prefix` begins their places' names.

    Raises:
        PacketError: 422, a time or a value is wrong.
    """
    return [
        (
            reading.sensor_id,
            check_value(reading.value, f"{prefix.format(index)}value"),
            time_ms(reading.timestamp, f"{prefix.format(index)}timestamp"),
        )
        for index, reading in enumerate(readings)
    ]


def legacy_packet(device: Device, readings: list[_Reading], received_at: int) -> Packet:
    """The packet of legacy readings that all belong to `device`."""
    return _packet(device, readings, received_at, None)


def _packet(
    device: Device, readings: list[_Reading], received_at: int, packet_id: str | None
) -> Packet:
    sensor_id = [reading[0] for reading in readings]
    value = [reading[1] for reading in readings]
    device_ts = [reading[2] for reading in readings]
    latest = received_at + FUTURE_MS
    ts = [received_at if said is None or said > latest else said for said in device_ts]
    if packet_id is None:
        packet_id = _packet_id(device, sensor_id, value, device_ts)
    return Packet(
        packet_id=packet_id,
        device_id=device.id,
        device_uuid=device.uuid,
        received_at=received_at,
        sensor_id=sensor_id,
        ts=ts,
        device_ts=None if all(said is None for said in device_ts) else device_ts,
        value=value,
        seq=_sequence(sensor_id, ts),
    )


def _packet_id(
    device: Device, sensor_id: list[int], value: list[float], device_ts: list[int | None]
) -> str:
    """A hash of the content where the device dated all of it, so that a retry has the same id;
    else unique, because the same values may well be measured again.
    """
    if None in device_ts:
        return uuid4().hex
    content = msgspec.json.encode((device.uuid, sensor_id, value, device_ts))
    return sha256(content).hexdigest()[:32]


def _sequence(sensor_id: list[int], ts: list[int]) -> list[int]:
    """For each reading, how many before it have the same sensor and time.

    >>> _sequence([1, 1, 2, 1], [5, 5, 5, 6])
    [0, 1, 0, 0]
    """
    seen: Counter[tuple[int, int]] = Counter()
    found = []
    for key in zip(sensor_id, ts, strict=True):
        found.append(seen[key])
        seen[key] += 1
    return found


def sensor_key(uuid: UUID | str) -> str:
    """A uuid as `Device.sensors` has it."""
    return str(uuid).lower()
