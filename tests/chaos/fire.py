"""An edge under attack: how hostile senders affect honest ones."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice, repeat
from multiprocessing import get_context
from pathlib import Path
from random import Random
from time import monotonic
from uuid import UUID

from bench.http_load import request, run_load
from contract.settings import child_environment
from ops.children import Children
from tests.pipeline.conftest import Pipeline
from tests.pipeline.test_edge_fuzz import hostile, post
from tests.pipeline.test_edge_heads import HOSTILE, talk

_HONEST, _EVERY_S = 8, 0.1
"""Honest connections, and how often each of them posts."""
_ALONE_S = 5.0
_HOSTILE = 4
"""Hostile senders at a time."""
_DEVICE, _SENSOR = (str(UUID(int=number)) for number in (0x1, 0x101))


def fire(cases: int, folder: Path, say: Callable[[str], None]) -> dict:
    """Send `cases` hostile requests, bodies and heads, while honest senders post: the latency of
    the honest ones alone and beside them, in milliseconds, and the answers to the others.
    """
    with Children(folder) as children, ProcessPoolExecutor(1, get_context("spawn")) as apart:
        broker = children.start("broker", "ops.broker", env=child_environment({}))
        brokers = broker.process.stdout.readline().strip()
        pipeline = Pipeline(folder, brokers, children, "test.fire")
        pipeline.database.execute("add_device", _DEVICE, "fire", "gateway")
        pipeline.database.execute("add_sensor", _DEVICE, _SENSOR, "temperature", "t", "°C")
        pipeline.start_edge()
        alone = apart.submit(honest, pipeline.port, _ALONE_S).result()
        say(f"alone: {alone}")
        began = monotonic()
        _send(pipeline, cases // 10)
        seconds = (monotonic() - began) * 10  # about as long as all requests take
        beside = apart.submit(honest, pipeline.port, seconds)
        answers = _send(pipeline, cases)
        children.check()
        pipeline.database.close()
        return {
            "hostile": answers.total(),
            "hostile_answers": dict(sorted(answers.items())),
            "seconds": round(monotonic() - began),
            "honest_alone": alone,
            "honest_beside": beside.result(),
        }


def honest(port: int, seconds: float) -> dict[str, float]:
    """What honest senders see, in a separate process."""
    reading = {"sensor_uuid": _SENSOR, "value": 1.5}
    body = json.dumps({"device_uuid": _DEVICE, "readings": [reading]}).encode()
    packet = request("POST", "/ingest/packets", body)
    load = run_load(
        port, lambda _: repeat(packet), connections=_HONEST, seconds=seconds, interval_s=_EVERY_S
    )
    assert set(load.statuses) == {202}, load.statuses
    return {
        "posts": len(load.answers),
        "p50_ms": round(load.percentile_ms(50), 1),
        "p99_ms": round(load.percentile_ms(99), 1),
    }


def _send(pipeline: Pipeline, cases: int) -> Counter[int]:
    """Send bodies and heads in turn. Returns the count of each status."""
    random = Random(cases)
    heads = [name for name, (_, status) in HOSTILE.items() if status >= 400]

    def send(case) -> int:
        number, (_, content, headers) = case
        if number % 4:
            return post(pipeline, content, *headers)[0]
        return int(talk(pipeline.port, HOSTILE[random.choice(heads)][0])[9:12])

    with ThreadPoolExecutor(_HOSTILE) as few:
        return Counter(few.map(send, enumerate(islice(hostile(_DEVICE, _SENSOR), cases))))
