"""Metrics of the edge, for Prometheus. No label value comes from a sender.

With several workers, each worker keeps its values in files that all workers can read, and the
worker that is scraped adds them up. Values that only the worker itself can read (packets in flight,
memory) are written there once a second. When a worker dies, its counters stay and its gauges go.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import ValueClass

from runtime.log import LINES_LOST

disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each, which nobody uses
REGISTRY = CollectorRegistry()
_SHARED = bool(ValueClass._multiprocess)
"""Whether there are other workers, which share their values in files."""
_REFRESH_S = 1.0


class _LiveGauge(Gauge):
    """A gauge that is read from a function; with several workers, once a second."""

    def set_function(self, f: Callable[[], float]) -> None:
        if _SHARED:
            _asked[self] = f
        else:
            super().set_function(f)


_asked: dict[Gauge, Callable[[], float]] = {}

if not _SHARED:
    ProcessCollector(registry=REGISTRY)
    GCCollector(registry=REGISTRY)
    REGISTRY.register(LINES_LOST)

REQUESTS = Counter("iot_edge_requests", "Responses sent.", ["path", "status"], registry=REGISTRY)
ACCEPTED = Counter(
    "iot_edge_readings_accepted",
    "Readings that Kafka has acknowledged.",
    registry=REGISTRY,
)
READINGS_REFUSED = Counter(
    "iot_edge_readings_refused",
    "Readings refused, by reason. Bodies that could not be parsed are not counted.",
    ["reason"],
    registry=REGISTRY,
)
SKEWED = Counter(
    "iot_edge_readings_clock_skewed",
    "Readings whose time was too far ahead, or before 2000, and was replaced by the arrival time.",
    registry=REGISTRY,
)
ACKNOWLEDGED = Histogram(
    "iot_edge_acknowledgement_seconds",
    "From handing a packet to the Kafka client to the broker's acknowledgement.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
IN_FLIGHT = _LiveGauge(
    "iot_edge_packets_in_flight",
    "Packets that wait for an acknowledgement.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
QUEUE_FILL = _LiveGauge(
    "iot_edge_queue_fill_ratio",
    "Packets in flight as a share of the limit, in the fullest worker. At 1 the edge answers 503.",
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
BROKER_UP = Gauge(
    "iot_edge_broker_up",
    "1 if every partition of the topic has a leader; checked on each scrape.",
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
CLOCK_AHEAD = Gauge(
    "iot_edge_clock_ahead_seconds",
    "How far at least this machine's clock is ahead of the broker's; negative: behind.",
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)
PRODUCERS = Counter(
    "iot_edge_producer_replaced", "Kafka producers replaced after a fatal error.", registry=REGISTRY
)

_lookups = Counter(
    "iot_edge_directory_lookups",
    "Lookups of devices and sensors: cached (hit), queried from the database (miss), known not to "
    "exist (unknown), expired but used because the database is unavailable (stale).",
    ["result"],
    registry=REGISTRY,
)


@dataclass(frozen=True, slots=True)
class _Lookups:
    hit: Counter
    miss: Counter
    unknown: Counter
    stale: Counter


LOOKUPS = _Lookups(*(_lookups.labels(name) for name in ("hit", "miss", "unknown", "stale")))


def exposition() -> bytes:
    """All metrics, summed over all workers."""
    if not _SHARED:
        return generate_latest(REGISTRY)
    _refresh()
    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return generate_latest(together)


@contextmanager
def kept_current() -> Iterator[None]:
    """Publish the live values of this process once a second, for the other workers."""
    if not _SHARED:
        yield
        return
    task = asyncio.create_task(_keep_current())
    try:
        yield
    finally:
        task.cancel()


async def _keep_current() -> None:
    while True:
        _refresh()
        await asyncio.sleep(_REFRESH_S)


def _refresh() -> None:
    for gauge, function in _asked.items():
        gauge.set(function())
    cpu_s = _process_value("process_cpu_seconds_total")
    _cpu.inc(cpu_s - _cpu_counted.seconds)
    _cpu_counted.seconds = cpu_s


@dataclass(slots=True)
class _Counted:
    seconds: float = 0.0


def _process_value(name: str) -> float:
    return _process.get_sample_value(name) or 0.0


if _SHARED:  # the metrics of `ProcessCollector`, summed over the workers
    _process = CollectorRegistry()
    ProcessCollector(registry=_process)
    _cpu_counted = _Counted()
    _cpu = Counter(
        "process_cpu_seconds", "Total user and system CPU time spent in seconds.", registry=REGISTRY
    )
    for _name, _mode, _text in (
        ("process_resident_memory_bytes", "livesum", "Resident memory size in bytes."),
        ("process_virtual_memory_bytes", "livesum", "Virtual memory size in bytes."),
        ("process_open_fds", "livesum", "Number of open file descriptors."),
        ("process_max_fds", "livemin", "Maximum number of open file descriptors of a worker."),
        ("process_start_time_seconds", "livemax", "When the youngest worker started, Unix time."),
    ):
        _LiveGauge(_name, _text, registry=REGISTRY, multiprocess_mode=_mode).set_function(  # type: ignore[arg-type]
            partial(_process_value, _name)
        )
