"""Flows that start and stop hundreds of times, and flows that idle while the broker comes and goes:
none may crash.

What crashes is the Kafka client, in a race that shows under load, so busy processes run beside.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from signal import SIGCONT, SIGSTOP, SIGTERM
from time import monotonic, sleep

from ops.children import Children, end_of
from tests.chaos.kafka import Kafka
from tests.pipeline.conftest import Pipeline, wait_until

_AWAY_S = 20.0
"""How long the broker is away each time: long enough that clients report it."""
_RUNS_FOR_S = 8.0
"""How long a started flow runs at most before it is stopped: some ends of partitions are asked."""


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Processes that take all the time they get, while the block lasts."""
    running = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)
    ]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def starts(folder: Path, brokers: str, runs: int, together: int) -> Counter[str]:
    """Start a flow and stop it, `runs` times, `together` at a time; how they ended."""

    def repeat(number: int, share: int) -> Counter[str]:
        random, ends = Random(number), Counter[str]()
        place = folder / str(number)
        place.mkdir()
        with Children(place) as children:
            pipeline = Pipeline(place, brokers, children, f"test.starts.{folder.name}.{number}")
            for _ in range(share):
                flow = pipeline.start_flow()
                log = place / "flow.log"
                begin = log.stat().st_size
                wait_until(
                    lambda: "flow starts" in log.read_text()[begin:] or flow.process.poll()  # noqa: B023
                )
                sleep(random.uniform(0, _RUNS_FOR_S))
                flow.process.send_signal(SIGTERM)
                ends[end_of(flow.process.wait(120))] += 1
                children.stop(flow)
            pipeline.database.close()
        return ends

    shares = [runs // together + (number < runs % together) for number in range(together)]
    with ThreadPoolExecutor(together) as pool:
        return sum(pool.map(repeat, range(together), shares), Counter())


def idle(folder: Path, flows: int, seconds: float) -> Counter[str]:
    """Let flows idle, with a Kafka of our own that is frozen for a while and killed for a while;
    then each must still store what is posted. How they ended.
    """
    with Kafka(folder / "kafka") as kafka, Children(folder) as children:
        address, pipelines = kafka.start(), []
        for number in range(flows):
            place = folder / str(number)
            place.mkdir()
            pipelines.append(Pipeline(place, address, children, f"test.idle.{number}"))
        running = [pipeline.start_flow() for pipeline in pipelines]
        third = seconds / 3
        _rest(children, third)
        _signal(kafka, SIGSTOP)
        sleep(_AWAY_S)
        _signal(kafka, SIGCONT)
        _rest(children, third - _AWAY_S)
        kafka.stop()
        sleep(_AWAY_S)
        kafka.start()
        _rest(children, third - _AWAY_S)
        for pipeline in pipelines:
            rig = pipeline.register()
            pipeline.start_edge()
            reading = {"sensor_uuid": rig.sensors["pump"], "value": 1.5}
            answer = pipeline.post({"device_uuid": rig.uuid, "readings": [reading]})
            assert answer.status_code == 202, answer.text
        for pipeline in pipelines:
            pipeline.wait_stored(1)
            pipeline.database.close()
        ends = Counter[str]()
        for flow in running:
            flow.process.send_signal(SIGTERM)
            ends[end_of(flow.process.wait(120))] += 1
        return ends


def _rest(children: Children, seconds: float) -> None:
    end = monotonic() + seconds
    while monotonic() < end:
        children.check()
        sleep(1)


def _signal(kafka: Kafka, number: int) -> None:
    os.kill(kafka.pid, number)
