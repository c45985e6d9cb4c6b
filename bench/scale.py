"""The flow in one process and in two, independent and as a cluster, in one with two threads, with
recovery and without; and how long it takes until a flow that was started again is at work.

All measurements but the last read the same topic, each in new processes, in turn. A rate counts
from the moment at which all processes together have 20 % of the readings until the last reading:
what one process does alone while the other has finished counts as well. Readings count when they
have gone through all steps.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from subprocess import PIPE, Popen, TimeoutExpired
from tempfile import TemporaryDirectory
from time import monotonic, time
from uuid import uuid4

import msgspec

from bench.kafka import access, environment, kafka
from bench.meter import WARM_UP
from bench.packets import Shape, delete_topics, device_packets, make_topic
from bench.scale_child import ScaleRun
from contract.errors import SetupError
from dataflows.state.stores import make_store
from ops.run import free_ports, split
from runtime.ending import end_of
from runtime.topic import PARTITIONS

SENSORS, PERIOD_MS = 10_000, 100
RESTARTS = {"restart_s_10k": 10_000, "restart_s_100k": 100_000}
_RESTART_READINGS = 10
"""Of each sensor, whose state is then recovered."""
_CHILD_S = 600.0
_Marks = list[tuple[float, int]]


@dataclass(frozen=True, slots=True)
class Result:
    """Medians over the rounds; a ratio is the median of each round's ratio."""

    figures: dict[str, float]
    rows: list[tuple[str, str, str, str]]
    """(what, median, lowest - highest, wanted)"""


def run(rounds: int, readings: int, tell: Callable[[str], None]) -> Result:
    """Make the topic, and measure each thing in turn, `rounds` times; `tell` is told of progress.

    Raises:
        SetupError: there is no broker, or a measurement failed.
    """
    with kafka() as brokers, TemporaryDirectory(prefix="bench-scale-") as name:
        folder = Path(name)
        with _topic(brokers, Shape(SENSORS, PERIOD_MS, readings), tell) as topic:
            whole = ScaleRun(brokers, topic, SENSORS, tuple(range(PARTITIONS)))
            rates: dict[str, list[float]] = {}
            for number in range(rounds):
                for what, plans in _plans(whole, folder / str(number)).items():
                    rate = _rate(_together(plans), readings)
                    rates.setdefault(what, []).append(rate)
                    tell(f"round {number + 1}: {what} {rate:,.0f} readings/s")
        restarts = {}
        for what, sensors in RESTARTS.items():
            shape = Shape(sensors, 1000, sensors * _RESTART_READINGS)
            with _topic(brokers, shape, tell) as topic:
                plan = ScaleRun(brokers, topic, sensors, tuple(range(PARTITIONS)))
                restarts[what] = _restarts(plan, folder / what, rounds)
                tell(f"{what}: {', '.join(f'{one:.2f}' for one in restarts[what])}")
    return _result(rates, restarts)


def _plans(whole: ScaleRun, folder: Path) -> dict[str, list[ScaleRun]]:
    """What is measured: the processes of each."""
    make_store(folder)
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(2))
    shares = split(frozenset(whole.partitions), 2)
    change = msgspec.structs.replace
    return {
        "one": [whole],
        "threads": [change(whole, workers=2)],
        "recovery": [change(whole, recovery=str(folder))],
        "independent": [change(whole, partitions=tuple(sorted(share))) for share in shares],
        "cluster": [change(whole, process=index, addresses=addresses) for index in range(2)],
    }


def _together(plans: list[ScaleRun]) -> list[_Marks]:
    """Run the processes beside each other; what each has counted.

    Raises:
        SetupError: one failed, or took too long.
    """
    processes = [_child(plan) for plan in plans]
    try:
        found = []
        for process in processes:
            out, err = process.communicate(timeout=_CHILD_S)
            if process.returncode:
                said = (err.strip().splitlines() or ["it said nothing"])[-1]
                raise SetupError(f"a process {end_of(process.returncode)}: {said}")
            found.append(msgspec.json.decode(out.splitlines()[-1], type=_Marks))
    except TimeoutExpired as error:
        raise SetupError(f"a process did not end within {_CHILD_S:.0f} s") from error
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return found


def _child(plan: ScaleRun) -> Popen[str]:
    command = [sys.executable, "-m", "bench.scale_child", msgspec.json.encode(plan).decode()]
    return Popen(command, env=environment(plan.brokers), stdout=PIPE, stderr=PIPE, text=True)


def _rate(marks: list[_Marks], readings: int) -> float:
    steps = sorted(
        (at, now - before)
        for one in marks
        for (at, now), (_, before) in zip(one, [(0.0, 0), *one], strict=False)
    )
    total, begun, begun_with = 0, 0.0, 0
    for at, count in steps:
        total += count
        if not begun and total >= WARM_UP * readings:
            begun, begun_with = at, total
    if total != readings:
        raise SetupError(f"{total} readings came, the topic has {readings}")
    return (total - begun_with) / (steps[-1][0] - begun)


def _restarts(plan: ScaleRun, folder: Path, rounds: int) -> list[float]:
    """Seconds from the start of a process to the first readings that went through all steps, where
    there is a state of all sensors to recover first; what was read before has led to it.
    """
    make_store(folder)
    change = msgspec.structs.replace
    took = []
    for number in range(rounds):
        until = 0.5 + 0.4 * number / rounds
        _together([change(plan, recovery=str(folder), until=until)])
        began = monotonic()
        ((first, *_),) = _together([change(plan, recovery=str(folder), until=until + 0.05)])
        took.append(first[0] - began)
    return took


@contextmanager
def _topic(brokers: str, shape: Shape, tell: Callable[[str], None]) -> Iterator[str]:
    topic = f"bench.{uuid4().hex[:8]}.scale"
    try:
        start_ms = int(time() * 1000) - shape.span_ms
        make_topic(access(brokers), topic, device_packets(shape, start_ms))
        tell(f"topic {topic}: {shape.readings:,} readings of {shape.sensors:,} sensors")
        yield topic
    finally:
        delete_topics(access(brokers), [topic], tell)


def _result(rates: dict[str, list[float]], restarts: dict[str, list[float]]) -> Result:
    one = rates["one"]
    ratios = {
        f"ratio_{what}": [ours / alone for ours, alone in zip(rates[what], one, strict=True)]
        for what in ("independent", "cluster", "threads", "recovery")
    }
    figures: dict[str, float] = {
        f"{what}_readings_per_s": round(median(found)) for what, found in rates.items()
    }
    figures |= {name: round(median(found), 3) for name, found in (ratios | restarts).items()}
    wanted = {
        "ratio_independent": "at least 1.5",
        "ratio_recovery": "at least 0.9",
        "restart_s_10k": "at most 5",
    }
    rows = [_row(f"readings/s: {what}", found, 0) for what, found in rates.items()]
    rows += [
        _row(name, found, 2, wanted.get(name, "")) for name, found in (ratios | restarts).items()
    ]
    return Result(figures, rows)


def _row(what: str, found: list[float], digits: int, wanted: str = "") -> tuple[str, str, str, str]:
    low, middle, high = (f"{of(found):,.{digits}f}" for of in (min, median, max))
    return what, middle, f"{low} - {high}", wanted
