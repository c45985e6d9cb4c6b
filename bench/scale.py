"""The flow in one process, two independent processes, a cluster of two, and one process with two
threads; with and without recovery; and the time to restart it.

All measurements but the last read the same topic, each in new processes, in turn. A rate is
measured from the moment at which all processes together have 20 % of the readings until the last
reading, including the time in which one process works alone after the other has finished. A reading
counts when it has passed all steps.
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
"""Readings per sensor whose state is then recovered."""
_CHILD_S = 600.0
_Marks = list[tuple[float, int]]


@dataclass(frozen=True, slots=True)
class Result:
    """Medians over the rounds; a ratio is the median of the rounds' ratios."""

    figures: dict[str, float]
    rows: list[tuple[str, str, str, str]]
    """(what, median, minimum - maximum, target)"""


def run(rounds: int, readings: int, progress: Callable[[str], None]) -> Result:
    """Create the topic, and run each measurement in turn, `rounds` times.

    Raises:
        SetupError: there is no broker, or a measurement failed.
    """
    with kafka() as brokers, TemporaryDirectory(prefix="bench-scale-") as name:
        folder = Path(name)
        with _topic(brokers, Shape(SENSORS, PERIOD_MS, readings), progress) as topic:
            whole = ScaleRun(brokers, topic, SENSORS, tuple(range(PARTITIONS)))
            rates: dict[str, list[float]] = {}
            for number in range(rounds):
                for what, plans in _plans(whole, folder / str(number)).items():
                    rate = _rate(_together(plans), readings)
                    rates.setdefault(what, []).append(rate)
                    progress(f"round {number + 1}: {what} {rate:,.0f} readings/s")
        restarts = {}
        for what, sensors in RESTARTS.items():
            shape = Shape(sensors, 1000, sensors * _RESTART_READINGS)
            with _topic(brokers, shape, progress) as topic:
                plan = ScaleRun(brokers, topic, sensors, tuple(range(PARTITIONS)))
                restarts[what] = _restarts(plan, folder / what, rounds)
                progress(f"{what}: {', '.join(f'{took_s:.2f}' for took_s in restarts[what])}")
    return _result(rates, restarts)


def _plans(whole: ScaleRun, folder: Path) -> dict[str, list[ScaleRun]]:
    """The measurements, each with its processes."""
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
    """Run the processes in parallel, and return the marks of each.

    Raises:
        SetupError: a process failed or timed out.
    """
    processes = [_child(plan) for plan in plans]
    try:
        marks = []
        for process in processes:
            out, err = process.communicate(timeout=_CHILD_S)
            if process.returncode:
                last = (err.strip().splitlines() or ["no output"])[-1]
                raise SetupError(f"a process {end_of(process.returncode)}: {last}")
            marks.append(msgspec.json.decode(out.splitlines()[-1], type=_Marks))
    except TimeoutExpired as error:
        raise SetupError(f"a process did not end within {_CHILD_S:.0f} s") from error
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return marks


def _child(plan: ScaleRun) -> Popen[str]:
    command = [sys.executable, "-m", "bench.scale_child", msgspec.json.encode(plan).decode()]
    return Popen(command, env=environment(plan.brokers), stdout=PIPE, stderr=PIPE, text=True)


def _rate(marks: list[_Marks], readings: int) -> float:
    steps = sorted(
        (at, now - before)
        for of_process in marks
        for (at, now), (_, before) in zip(of_process, [(0.0, 0), *of_process], strict=False)
    )
    total, begun, begun_with = 0, 0.0, 0
    for at, count in steps:
        total += count
        if not begun and total >= WARM_UP * readings:
            begun, begun_with = at, total
    if total != readings:
        raise SetupError(f"received {total} readings, but the topic has {readings}")
    return (total - begun_with) / (steps[-1][0] - begun)


def _restarts(plan: ScaleRun, folder: Path, rounds: int) -> list[float]:
    """Seconds from the start of a process to the first readings that passed all steps. Before that,
    the process recovers the state of all sensors, which an earlier process has written.
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
def _topic(brokers: str, shape: Shape, progress: Callable[[str], None]) -> Iterator[str]:
    topic = f"bench.{uuid4().hex[:8]}.scale"
    try:
        start_ms = int(time() * 1000) - shape.span_ms
        make_topic(access(brokers), topic, device_packets(shape, start_ms))
        progress(f"topic {topic}: {shape.readings:,} readings of {shape.sensors:,} sensors")
        yield topic
    finally:
        delete_topics(access(brokers), [topic], progress)


def _result(rates: dict[str, list[float]], restarts: dict[str, list[float]]) -> Result:
    alone = rates["one"]
    ratios = {
        f"ratio_{what}": [rate / one for rate, one in zip(rates[what], alone, strict=True)]
        for what in ("independent", "cluster", "threads", "recovery")
    }
    figures: dict[str, float] = {
        f"{what}_readings_per_s": round(median(values)) for what, values in rates.items()
    }
    figures |= {name: round(median(values), 3) for name, values in (ratios | restarts).items()}
    targets = {
        "ratio_independent": "at least 1.5",
        "ratio_recovery": "at least 0.9",
        "restart_s_10k": "at most 5",
    }
    rows = [_row(f"readings/s: {what}", values, 0) for what, values in rates.items()]
    rows += [
        _row(name, values, 2, targets.get(name, "")) for name, values in (ratios | restarts).items()
    ]
    return Result(figures, rows)


def _row(
    what: str, values: list[float], digits: int, target: str = ""
) -> tuple[str, str, str, str]:
    low, middle, high = (f"{of(values):,.{digits}f}" for of in (min, median, max))
    return what, middle, f"{low} - {high}", target
