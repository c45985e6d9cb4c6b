"""Everything accepted is stored, once: random posts through edges whose clocks differ, with retries
that are cut otherwise and a flow that is killed; the rows are the identities of what was accepted.
"""

import os
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from time import sleep, time

import httpx
import numpy as np
import pytest

from contract.packet import decode, unpack
from contract.settings import child_environment
from dataflows.engine.duplicates import RECENT
from sinks.times import microseconds_as_text
from tests.ports import free_ports

from .conftest import wait_until
from .test_pipeline import records

KINDS = ("dated", "undated", "mixed", "whole second", "fine", "boot 1970", "ahead")
POSTS = int(os.environ.get("IDENTITY_POSTS", "1000"))
"""`make chaos` posts 3 000."""


def bodies(rig, seed):
    """Packet bodies of the rig, with various kinds of times and some repeated values."""
    rnd = random.Random(seed)
    sensors = list(rig.sensors.values())
    base = time()
    for number in count():
        kind = rnd.choice(KINDS)
        readings = []
        for _ in range(rnd.choice([1, 1, 2, 5, 20])):
            reading = {"sensor_uuid": rnd.choice(sensors), "value": rnd.choice([1, 2, 2.5, number])}
            at = base - rnd.choice([0, 0.5, 1, 30, 600]) + number / 7
            if kind == "dated" or (kind == "mixed" and rnd.random() < 0.5):
                reading["ts"] = round(at, 3)
            elif kind == "whole second":
                reading["ts"] = int(at)
            elif kind == "fine":
                moment = datetime.fromtimestamp(int(at), UTC)
                moment += timedelta(microseconds=rnd.choice([0, 1, 100, 900, 999_999]))
                reading["ts"] = moment.isoformat()
            elif kind == "boot 1970":
                reading["ts"] = rnd.choice([5.0, 6.0])
            elif kind == "ahead":
                reading["ts"] = at + 4_000
            readings.append(reading)
        body = {"device_uuid": rig.uuid, "readings": readings}
        if rnd.random() < 0.3:
            body["packet_id"] = f"{seed}-{number}"
        yield kind, body


def cut(body, rnd):
    """Split the readings of a body into two packets."""
    place = rnd.randrange(1, len(body["readings"]))
    for part in (body["readings"][:place], body["readings"][place:]):
        yield {"device_uuid": body["device_uuid"], "readings": part}


@pytest.fixture
def edges(pipeline):
    """Three edges on one topic: one with a correct clock, one 20 s behind, one 15 s ahead."""
    made = []
    for name, seconds in (("right", 0), ("behind", -20), ("ahead", 15)):
        file, port = pipeline.folder / f"clock.{name}", free_ports()
        file.write_text(str(seconds))
        pipeline.children.start(
            f"edge {name}", "tests.clocks", str(file), "ingest_edge", "--port", str(port),
            env=child_environment(pipeline.values),
        )  # fmt: skip
        made.append(f"http://127.0.0.1:{port}/ingest/packets")
        wait_until(lambda url=made[-1]: answers(url) or pipeline.children.check())
    return made


def answers(url):
    try:
        return httpx.get(url).status_code == 405
    except httpx.HTTPError:
        return False


def accepted_identities(brokers, topic):
    """(sensor, event time, seq, value) of what is on the topic, and how many readings that were.

    A packet that its device sends again under the same id, or where it gives none with the same
    content, repeats its undated readings, as long as it is among the device's last packets.
    """
    identities, readings, seen = set(), 0, dict[tuple[int, str], None]()
    for message in records(brokers, topic):
        packet = unpack(decode(message.value()))
        again = (packet.device_id, packet.packet_id) in seen
        seen[packet.device_id, packet.packet_id] = None
        if len(seen) > RECENT:
            del seen[next(iter(seen))]
        said = packet.device_ts or [None] * len(packet.ts)
        readings += len(packet.ts)
        for sensor, ts, own, seq, value in zip(
            packet.sensor_id, packet.ts, said, packet.seq, packet.value, strict=True
        ):
            if not again or own == ts:
                identities.add((sensor, text(ts), seq, round(value, 5)))
    return identities, readings


def text(us):
    return microseconds_as_text(np.array([us])).item()


@pytest.mark.parametrize("kills", [0, 3])
def test_every_accepted_reading_is_stored_exactly_once(pipeline, brokers, edges, kills):
    rig = pipeline.register()
    if not kills:
        pipeline.values["METRICS_PORT"] = str(pipeline.metrics_port)
    flow = pipeline.start_flow()
    rnd, answers = random.Random(kills), Counter()
    undated = Counter()
    """Readings without an accepted device time, each posted once."""

    def post(body):
        answer = httpx.post(rnd.choice(edges), json=body, timeout=60)
        answers[answer.status_code] += len(body["readings"])
        return answer

    made = bodies(rig, kills)
    with ThreadPoolExecutor(4) as pool:
        for number in range(POSTS):
            kind, body = next(made)
            chosen = [body]
            if rnd.random() < 0.25 and len(body["readings"]) > 1 and kind in ("dated", "fine"):
                chosen += cut(body, rnd)
            elif rnd.random() < 0.25 and ("packet_id" in body or kind == "whole second"):
                chosen += [body]
            elif "packet_id" not in body:
                undated[kind] += len(body["readings"])
            list(pool.map(post, chosen) if rnd.random() < 0.5 else map(post, chosen))
            if kills and number % (POSTS // (kills + 1)) == POSTS // (kills + 1) - 1:
                pipeline.kill(flow)
                flow = pipeline.start_flow()
    assert set(answers) == {202}
    pipeline.wait_taken()
    wanted, readings = accepted_identities(brokers, pipeline.topic)
    assert readings == answers[202]
    wait_until(lambda: pipeline.rows("SELECT count(*) FROM sensor_readings") >= [(len(wanted),)])
    stored = pipeline.rows(
        "SELECT sensor_id, event_timestamp, seq, round(value, 5) FROM sensor_readings"
    )
    assert len(stored) == len(set(stored))
    assert set(stored) == wanted
    ((without_date,),) = pipeline.rows(
        "SELECT count(*) FROM sensor_readings"
        " WHERE device_timestamp IS NULL OR device_timestamp <> event_timestamp"
    )
    assert without_date >= undated["undated"] + undated["boot 1970"]
    if not kills:
        sleep(1.1)
        repeated = pipeline.metrics()["iot_readings_repeated_total"]
        assert repeated == readings - len(wanted)
