"""`python -m tests.chaos.load PORT PLAN SECONDS SENT`: devices that send without a rest, so many
packets a second, each reading with its number.

A value is a whole number of degrees, which says something, and its reading's number in hundred-
thousandths, which says which reading of its sensor it is.
"""

import json
import sys
from pathlib import Path
from random import Random
from time import time

import msgspec
import numpy as np

from bench.http_load import request, run_load

PACKETS_A_SECOND, READINGS_A_SENSOR = 5, 2
"""Of each device; in each packet."""
MOST = 100_000
"""So many numbers has a sensor."""
_FAR_EVERY, _FAR = 600, 30
"""A sensor leaves its range for the last 30 of 600 packets."""


def number_of(value):
    """Which reading of its sensor has this value."""
    return round(value * MOST) % MOST


def requests(device, seed):
    """What a device sends: packet k has the readings 2k and 2k + 1 of each of its sensors, with
    times that no other reading of the sensor has.
    """
    random, last = Random(seed), 0
    for packet in range(MOST // READINGS_A_SENSOR):
        last = max(int(time() * 1000), last + READINGS_A_SENSOR)
        readings = []
        for place, sensor in enumerate(device["sensors"]):
            far = (packet + 97 * place + 13 * seed) % _FAR_EVERY >= _FAR_EVERY - _FAR
            for step in range(READINGS_A_SENSOR):
                degrees = (60 if far else 20) + random.randrange(5)
                number = packet * READINGS_A_SENSOR + step
                at = (last - READINGS_A_SENSOR + 1 + step) / 1000
                value = round(degrees + number / MOST, 5)
                readings.append({"sensor_uuid": sensor, "value": value, "ts": at})
        body = {"device_uuid": device["uuid"], "readings": readings}
        yield request("POST", "/ingest/packets", msgspec.json.encode(body))


def main(port, plan, seconds, sent):
    devices = json.loads(Path(plan).read_text())
    load = run_load(
        int(port),
        lambda number: requests(devices[number], number),
        connections=len(devices),
        seconds=float(seconds),
        interval_s=1 / PACKETS_A_SECOND,
    )
    answers = np.array(
        [(answer.connection, answer.number, answer.status) for answer in load.answers]
    )
    latency = np.array([answer.latency_ms for answer in load.answers])
    with Path(sent).open("wb") as file:
        np.savez(file, answers=answers, latency_ms=latency)


if __name__ == "__main__":
    main(*sys.argv[1:])
