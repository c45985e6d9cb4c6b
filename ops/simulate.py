"""Demo devices: what they measure, and how they post it."""

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from time import time
from typing import Any
from uuid import uuid4

from ops.devices import RegisteredDevice, SensorSpec, register
from ops.post import EdgeClient, iso
from sql.database import Database

DEVICES = 20
_READINGS = 4
"""Readings of each sensor in a packet. A device sends one packet a second."""
_SPIKE_EVERY_S = 7.0
_SPIKE_S = 3.0

_SENSORS = (
    SensorSpec("temperature", "temperature", "°C", {"warning": (10, 32), "critical": (5, 38)}),
    SensorSpec("humidity", "humidity", "%", {"warning": (25, 75), "critical": (15, 85)}),
    SensorSpec("voltage", "voltage", "V", {"warning": (215, 245), "critical": (205, 255)}),
)
_MIDDLE = {"temperature": (21.0, 4.0), "humidity": (50.0, 12.0), "voltage": (230.0, 3.0)}
"""sensor -> (middle, swing)"""


def register_demo(database: Database, devices: int = DEVICES) -> list[RegisteredDevice]:
    """Register the demo devices, `demo-01` and so on, each with three sensors and thresholds."""
    return [register(database, f"demo-{index:02}", _SENSORS) for index in range(1, devices + 1)]


def measure(device: int, sensor: str, at_s: float, noise: random.Random) -> float:
    """The value of a sensor of the `device`-th device (from 0), `at_s` seconds after the start.

    A sine with noise. The humidity of every tenth device drifts out of its range. Every 7 s the
    temperature of another device leaves its range for 3 s.
    """
    middle, swing = _MIDDLE[sensor]
    value = middle + swing * math.sin(at_s / 30 + device) + noise.gauss(0, swing / 20)
    if sensor == "humidity" and device % 10 == 9:
        value += at_s * 0.15
    since = at_s - _SPIKE_S
    turn = int(since // _SPIKE_EVERY_S)
    if sensor == "temperature" and since % _SPIKE_EVERY_S < _SPIKE_S and turn % DEVICES == device:
        value += 25.0 if turn >= 0 else 0.0
    return round(value, 3)


async def simulate(
    client: EdgeClient,
    devices: Sequence[RegisteredDevice],
    seconds: float,
    accepted: Callable[[int], None],
) -> None:
    """Post from each device once a second, spread over the second, for `seconds` (0: forever).

    `accepted` is called with the number of readings in each packet that the edge accepted.
    """
    start = time()
    tasks = [
        _post(client, index=index, device=device, start=start, seconds=seconds, accepted=accepted)
        for index, device in enumerate(devices)
    ]
    await asyncio.gather(*tasks)


async def _post(
    client: EdgeClient,
    *,
    index: int,
    device: RegisteredDevice,
    start: float,
    seconds: float,
    accepted: Callable[[int], None],
) -> None:
    noise = random.Random(index)  # noqa: S311 - must be reproducible
    turn = (index % DEVICES) / DEVICES
    while True:
        turn += 1
        if seconds and turn > seconds:
            return
        await asyncio.sleep(max(0.0, start + turn - time()))
        accepted(await client.post(_packet(index, device, start, turn, noise)))


def _packet(
    index: int, device: RegisteredDevice, start: float, turn: float, noise: random.Random
) -> dict[str, Any]:
    moments = [turn - 1 + (step + 1) / _READINGS for step in range(_READINGS)]
    readings = [
        {
            "sensor_uuid": uuid,
            "value": measure(index, sensor, moment, noise),
            "ts": iso(int((start + moment) * 1000)),
        }
        for moment in moments
        for sensor, uuid in device.sensors.items()
    ]
    return {"device_uuid": device.uuid, "packet_id": uuid4().hex, "readings": readings}
