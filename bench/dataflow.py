"""The flow against a bare consumer loop, and against Bytewax's own windows, on the same log.

Each measurement runs in its own process, in turn, `rounds` times. Rates are steady-state rates,
from the batch that completes the first 20 % of the readings to the last batch, so start-up does not
count. Measured are:

- `decode`: one consumer per partition, configured like the flow's source; whole batches are decoded
  by the flow's own function into the same columns, which are dropped;
- `decoder`: that function alone, in nanoseconds per reading;
- `flow`: the flow with its own source and sinks that count and drop, one worker, no recovery; also
  its CPU seconds per million readings, all threads, and its peak memory;
- `..._1`: the same on the same log in version 1 records, the format of earlier releases;
- `builtin`: the same three windows with Bytewax's operators, on the first part of the same log;
- `builtin_still`: the same with a fixed clock: nothing is late, see `bench.builtin`;
- the state: the pickled snapshots of all stateful steps at the end of the log.

Not measured are databases, recovery and several workers. The broker runs on the same machine.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from subprocess import TimeoutExpired
from subprocess import run as run_process
from time import time
from uuid import uuid4

from bench.kafka import access, environment, kafka
from bench.packets import Shape, delete_topics
from contract.errors import SetupError
from runtime.ending import end_of

SENSORS, PERIOD_MS = 2_000, 100
MANY_SENSORS, LONG_PERIOD_MS = 100_000, 1_000
SLICE = 200_000
"""Readings for the baseline; all of them would take minutes."""
_CHILD_S = 600.0


@dataclass(frozen=True, slots=True)
class Result:
    """Medians over the rounds; a ratio is the median of the rounds' ratios."""

    figures: dict[str, float]
    rows: list[tuple[str, str, str, str]]
    """(what, median, minimum - maximum, target)"""


@dataclass(frozen=True, slots=True)
class _LogStart:
    brokers: str
    topic: str
    shape: Shape
    start_ms: int

    def child(self, what: str) -> list[float]:
        """Run a measurement of `bench.dataflow_child`, and return its numbers.

        Raises:
            SetupError: it failed or timed out.
        """
        shape = self.shape
        numbers = (shape.sensors, shape.period_ms, shape.readings, self.start_ms)
        command = [sys.executable, "-m", "bench.dataflow_child", what, self.topic]
        try:
            done = run_process(
                [*command, *map(str, numbers)],
                env=environment(self.brokers),
                capture_output=True,
                text=True,
                timeout=_CHILD_S,
                check=False,
            )
        except TimeoutExpired as error:
            raise SetupError(f"{what} did not end within {_CHILD_S:.0f} s") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no output"]
            raise SetupError(f"{what} {end_of(done.returncode)}: {lines[-1]}")
        return [float(number) for number in done.stdout.splitlines()[-1].split()]


def run(rounds: int, readings: int, progress: Callable[[str], None]) -> Result:
    """Create the topics, and run each measurement in turn, `rounds` times.

    Raises:
        SetupError: there is no broker, or a measurement failed.
    """
    with kafka() as brokers, _logs(brokers, readings, progress) as (log, old, many, part):
        plan = {
            "decode": (log, "decode"),
            "flow": (log, "flow"),
            "decode_1": (old, "decode"),
            "flow_1": (old, "flow"),
            "decoder": (log, "decoder"),
            "decoder_1": (old, "decoder"),
            "builtin": (part, "builtin"),
            "builtin_still": (part, "builtin_still"),
            "flow_100k": (many, "flow"),
        }
        rates: dict[str, list[float]] = {name: [] for name in plan}
        costs: dict[str, list[list[float]]] = {name: [] for name in ("flow", "flow_1")}
        for number in range(rounds):
            for name, (where, what) in plan.items():
                rate, *cost = where.child(what)
                rates[name].append(rate)
                if name in costs:
                    costs[name].append(cost)
                unit = "ns per reading" if what == "decoder" else "readings/s"
                progress(f"round {number + 1}: {name} {rate:,.0f} {unit}")
        (state,) = log.child("state")
        return _result(rates, costs, state, part.shape.readings)


@contextmanager
def _logs(
    brokers: str, readings: int, progress: Callable[[str], None]
) -> Iterator[tuple[_LogStart, _LogStart, _LogStart, _LogStart]]:
    """The log, the same log in version 1, one with many sensors, and the first part of the log."""
    few = Shape(SENSORS, PERIOD_MS, _whole(readings, SENSORS))
    many = Shape(MANY_SENSORS, LONG_PERIOD_MS, _whole(readings, MANY_SENSORS))
    run_id = uuid4().hex[:8]
    now_ms = int(time() * 1000)
    logs = []
    try:
        for name, shape, span_ms, fill in (
            ("few", few, few.span_ms, "fill"),
            ("old", few, few.span_ms, "fill_1"),
            ("many", many, many.span_ms, "fill"),
            ("part", replace(few, readings=min(SLICE, few.readings)), few.span_ms, "fill"),
        ):
            log = _LogStart(brokers, f"bench.{run_id}.{name}", shape, now_ms - span_ms)
            logs.append(log)
            log.child(fill)
            progress(
                f"topic {log.topic}: {shape.readings:,} readings of {shape.sensors:,} sensors, "
                f"{shape.span_ms / 1000:.0f} s of event time"
            )
        yield logs[0], logs[1], logs[2], logs[3]
    finally:
        delete_topics(access(brokers), [log.topic for log in logs], progress)


def _whole(readings: int, sensors: int) -> int:
    """Round down to the same number of readings for each sensor."""
    return max(readings // sensors, 1) * sensors


def _result(
    rates: dict[str, list[float]], costs: dict[str, list[list[float]]], state: float, part: int
) -> Result:
    rate = {name: median(of_rounds) for name, of_rounds in rates.items()}
    to_decode = _ratios(rates["flow"], rates["decode"])
    to_decode_1 = _ratios(rates["flow"], rates["decode_1"])
    to_builtin = _ratios(rates["flow"], rates["builtin"])
    to_still = _ratios(rates["flow"], rates["builtin_still"])
    many = _ratios(rates["flow"], rates["flow_100k"])
    faster = _ratios(rates["decoder_1"], rates["decoder"])
    cpu, rss = ([cost[place] for cost in costs["flow"]] for place in range(2))
    cpu_1, rss_1 = ([cost[place] for cost in costs["flow_1"]] for place in range(2))
    figures = {
        "decode_readings_per_s": round(rate["decode"]),
        "flow_readings_per_s": round(rate["flow"]),
        "cpu_s_per_million": round(median(cpu), 3),
        "rss_mb": round(median(rss), 1),
        "decode_1_readings_per_s": round(rate["decode_1"]),
        "flow_1_readings_per_s": round(rate["flow_1"]),
        "cpu_s_per_million_1": round(median(cpu_1), 3),
        "rss_mb_1": round(median(rss_1), 1),
        "decoder_ns": round(rate["decoder"], 1),
        "decoder_1_ns": round(rate["decoder_1"], 1),
        "ratio_of_decoders": round(median(faster), 2),
        "builtin_readings_per_s": round(rate["builtin"]),
        "builtin_still_readings_per_s": round(rate["builtin_still"]),
        "builtin_slice_readings": part,
        "flow_readings_per_s_100k": round(rate["flow_100k"]),
        "ratio_to_decode": round(median(to_decode), 3),
        "ratio_to_decode_1": round(median(to_decode_1), 3),
        "ratio_to_builtin": round(median(to_builtin), 1),
        "ratio_to_builtin_still": round(median(to_still), 1),
        "cost_ratio_100k": round(median(many), 3),
        "bytes_per_sensor": round(state),
    }
    rows = [
        _row("readings/s: consume and decode", rates["decode"], 0),
        _row("flow", rates["flow"], 0),
        _row("flow, 100 000 sensors", rates["flow_100k"], 0),
        _row("flow, records of version 1", rates["flow_1"], 0),
        _row("flow: CPU s per million readings", cpu, 2, "at most 1.1"),
        _row("version 1", cpu_1, 2),
        _row("flow: peak MB", rss, 0, "at most 300"),
        _row("version 1", rss_1, 0),
        _row("decoder: ns per reading", rates["decoder"], 0),
        _row("version 1", rates["decoder_1"], 0),
        _row("version 1 / version 2", faster, 1, "at least 3"),
        _row(f"builtin, slice of {part:,}", rates["builtin"], 0),
        _row("the same, nothing late", rates["builtin_still"], 0),
        _row("ratios: flow / decode", to_decode, 2),
        _row("flow / decode of version 1", to_decode_1, 2, "at least 0.53"),
        _row("flow / builtin", to_builtin, 1, "at least 25"),
        _row("flow / builtin, nothing late", to_still, 1),
        _row("cost at 100 000 / 2 000 sensors", many, 2, "at most 2"),
        ("state: bytes per sensor", f"{state:,.0f}", "", "at most 2,048"),
    ]
    return Result(figures, rows)


def _ratios(rates: list[float], others: list[float]) -> list[float]:
    return [rate / other for rate, other in zip(rates, others, strict=True)]


def _row(
    what: str, values: list[float], digits: int, target: str = ""
) -> tuple[str, str, str, str]:
    low, middle, high = (f"{of(values):,.{digits}f}" for of in (min, median, max))
    return what, middle, f"{low} - {high}", target
