"""What devices post in a run: a minute and a half of event time, which they send in three seconds.

Values swing beyond both ranges and back, some readings come late, one device does not date its
readings. Every sensor has a type of its own, so that what the batch runner thinks of one does not
depend on which others are due with it. Every value and every time is there once.
"""

import json
from random import Random
from time import time

from ops.devices import SensorSpec
from ops.post import iso

DEVICES, SENSORS, PACKETS = 8, 3, 40
UNDATED = 7
"""This device does not date its readings."""
_RANGES = {"warning": (10.0, 36.0), "critical": (5.0, 42.0)}
_PACKET_MS, _READING_MS = 2_000, 200
_LATE_MS = 1_537


def specs(device):
    return [
        SensorSpec(f"sensor {number}", f"type {device}.{number}", "°C", _RANGES)
        for number in range(SENSORS)
    ]


def posts(seed, devices):
    """Each device's packets, in the order in which it posts them."""
    random = Random(seed)
    start = (int(time()) - 300) * 1000
    return [
        [
            _packet(random, seed, number, device, turn, start + turn * _PACKET_MS)
            for turn in range(PACKETS)
        ]
        for number, device in enumerate(devices)
    ]


def _packet(random, seed, number, device, turn, begin):
    dated = number != UNDATED
    far = (0.0, 12.0, 0.0, 20.0, -15.0)[(turn // 4 + number) % 5]
    readings = []
    for step in range(_PACKET_MS // _READING_MS if dated else 1):
        for place, sensor in enumerate(device.sensors.values()):
            unique = (turn * 10 + step) * 1e-5
            value = round(20 + far + place + random.randrange(100) / 20, 2) + unique
            reading = {"sensor_uuid": sensor, "value": round(value, 5)}
            if dated:
                late = random.choice([0, 0, 0, 0, 0, _LATE_MS])
                reading["ts"] = iso(begin + step * _READING_MS - late)
            readings.append(reading)
    return {
        "device_uuid": device.uuid,
        "packet_id": f"{seed}.{number}.{turn}",
        "readings": readings,
    }


def write_posts(path, devices):
    path.write_text(json.dumps(devices))


def read_posts(path):
    return json.loads(path.read_text())
