"""The status of running processes, read from their metrics endpoints."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isnan
from time import time

import httpx
from prometheus_client.parser import text_string_to_metric_families

from contract.errors import UnavailableError
from ops.run import METRICS_PORT

EDGE, PREDICT = "http://127.0.0.1:8001", "http://127.0.0.1:8002"
_GAP = 4
"""Ports in a row without an answer after which the search for flows ends."""
_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long something took, from a histogram. None if nothing was measured."""

    count: int
    mean: float | None
    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Partition:
    """Progress of the flow in a partition of the topic."""

    number: int
    lag_records: int
    lag_seconds: float | None
    """None: no record was read since the start, so the age of the backlog is unknown."""
    records: int


@dataclass(frozen=True, slots=True)
class Sink:
    """What a flow writes with one statement."""

    name: str
    waiting_rows: int
    write: Seconds
    """Time until a batch is committed."""
    flush: Seconds
    """Time that a snapshot waits."""
    blocked_seconds: float
    retries: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class Flow:
    """A process of the flow. Counts are since its start."""

    url: str
    up_seconds: float
    broker_up: bool
    readings: int
    panes: int
    events: int
    late: int
    clock_skewed: int
    repeated: int
    dead_letters: int
    rules_refused: int
    sensors: dict[str, int]
    """Level -> number of sensors."""
    unjudged: int
    """Sensors that the detector cannot report for now."""
    epoch: Seconds
    """Time from one snapshot to the next."""
    snapshot: Seconds
    """Time to copy the state of a partition."""
    snapshot_age_seconds: float | None
    """None: no snapshot was taken yet."""
    partitions: list[Partition]
    sinks: list[Sink]


@dataclass(frozen=True, slots=True)
class EdgeStatus:
    """An HTTP edge. Counts are since its start."""

    url: str
    up_seconds: float
    broker_up: bool
    requests: dict[str, int]
    """Status -> number of requests."""
    accepted: int
    refused: int
    clock_skewed: int
    clock_ahead: float
    """Seconds by which its clock is at least ahead of the broker's. Below 0: behind."""
    in_flight: int
    queue_fill: float
    """0 to 1."""
    acknowledged: Seconds


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A prediction service. Counts are since its start."""

    url: str
    up_seconds: float
    requests: dict[str, int]
    """Status -> number of requests."""
    answered: Seconds


Process = Flow | EdgeStatus | ServiceStatus


@dataclass(frozen=True, slots=True)
class Status:
    """The processes that answered, and those that should have."""

    flows: list[Flow]
    edges: list[EdgeStatus]
    services: list[ServiceStatus]
    silent: list[str]
    """URLs without an answer that were given, or lie between two flows that answer."""


def ask(urls: list[str]) -> Status:
    """Query the given URLs, or the processes of this machine on their usual ports.

    Raises:
        UnavailableError: no process answers.
    """
    answers = [(url, asked(url)) for url in urls] if urls else list(_usual())
    processes = [process for _, process in answers]
    if not any(processes):
        where = " or ".join(urls) or f"http://127.0.0.1:{METRICS_PORT} (flow) or {EDGE} (edge)"
        raise UnavailableError(
            f"no metrics at {where}: start the flow with `iot run`, or give the URL of a process, "
            "for a flow http://HOST:METRICS_PORT"
        )
    return Status(
        [process for process in processes if isinstance(process, Flow)],
        [process for process in processes if isinstance(process, EdgeStatus)],
        [process for process in processes if isinstance(process, ServiceStatus)],
        [url for url, process in answers if process is None],
    )


def _usual() -> Iterator[tuple[str, Process | None]]:
    for url in (EDGE, PREDICT):
        if (process := asked(url)) is not None:
            yield url, process
    silent: list[str] = []
    port = METRICS_PORT
    while len(silent) < _GAP:
        url = f"http://127.0.0.1:{port}"
        process = asked(url)
        if process is None:
            silent.append(url)
        else:
            yield from ((missed, None) for missed in silent)
            silent.clear()
            yield url, process
        port += 1


def asked(url: str) -> Process | None:
    """The status of the process at `url`. None if no process of ours answers."""
    url = url.rstrip("/").removesuffix("/metrics")
    url = url if "://" in url else f"http://{url}"
    try:
        answer = httpx.get(f"{url}/metrics", timeout=_TIMEOUT_S, trust_env=False)
        answer.raise_for_status()
        return read_metrics(url, answer.text, time())
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None


def read_metrics(url: str, text: str, now: float) -> Process | None:
    """Parse the metrics of a process at `now`, in epoch seconds. None if it is not one of ours.

    Raises:
        ValueError: `text` is not in Prometheus's text format.
    """
    samples = _Samples(text)
    up = max(0.0, now - samples.value("process_start_time_seconds"))
    if samples.has("iot_flow_broker_up"):
        return _flow(url, samples, up, now)
    if samples.has("iot_edge_packets_in_flight"):
        return EdgeStatus(
            url,
            up_seconds=up,
            broker_up=bool(samples.value("iot_edge_broker_up")),
            requests=samples.by("iot_edge_requests_total", "status"),
            accepted=samples.count("iot_edge_readings_accepted_total"),
            refused=samples.count("iot_edge_readings_refused_total"),
            clock_skewed=samples.count("iot_edge_readings_clock_skewed_total"),
            clock_ahead=samples.value("iot_edge_clock_ahead_seconds"),
            in_flight=samples.count("iot_edge_packets_in_flight"),
            queue_fill=samples.value("iot_edge_queue_fill_ratio"),
            acknowledged=samples.seconds("iot_edge_acknowledgement_seconds"),
        )
    if samples.has("iot_predict_seconds_count"):
        requests = samples.by("iot_predict_requests_total", "status")
        return ServiceStatus(url, up, requests, samples.seconds("iot_predict_seconds"))
    return None


def _flow(url: str, samples: "_Samples", up: float, now: float) -> Flow:
    snapshot_at = samples.value("iot_flow_snapshot_timestamp_seconds")
    lags = samples.labelled("iot_flow_lag_seconds", "partition")
    return Flow(
        url,
        up_seconds=up,
        broker_up=bool(samples.value("iot_flow_broker_up")),
        readings=samples.count("iot_flow_readings_total"),
        panes=samples.count("iot_flow_panes_total"),
        events=samples.count("iot_flow_events_total"),
        late=samples.count("iot_readings_late_total"),
        clock_skewed=samples.count("iot_readings_future_total"),
        repeated=samples.count("iot_packets_repeated_total"),
        dead_letters=samples.count("iot_flow_dead_letters_total"),
        rules_refused=samples.count("iot_rules_refused"),
        sensors=samples.by("iot_flow_sensors", "level"),
        unjudged=samples.count("iot_flow_sensors_unjudged"),
        epoch=samples.seconds("iot_flow_epoch_seconds"),
        snapshot=samples.seconds("iot_flow_snapshot_seconds"),
        snapshot_age_seconds=max(0.0, now - snapshot_at) if snapshot_at else None,
        partitions=[
            Partition(
                int(number),
                lag_records=samples.count("iot_flow_lag_records", partition=number),
                lag_seconds=None if isnan(lag) else lag,
                records=samples.count("iot_flow_records_total", partition=number),
            )
            for number, lag in sorted(lags.items(), key=lambda lag: int(lag[0]))
        ],
        sinks=[
            Sink(
                name,
                waiting_rows=int(waiting),
                write=samples.seconds("iot_sink_write_seconds", sink=name),
                flush=samples.seconds("iot_sink_flush_seconds", sink=name),
                blocked_seconds=samples.value("iot_sink_blocked_seconds_total", sink=name),
                retries=samples.count("iot_sink_retries_total", sink=name),
                dead_letters=samples.count("iot_sink_dead_letters_total", sink=name),
            )
            for name, waiting in samples.labelled("iot_sink_waiting_rows", "sink").items()
        ],
    )


class _Samples:
    """The samples of one response."""

    def __init__(self, text: str) -> None:
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def has(self, name: str) -> bool:
        return name in self._samples

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of `name` with these labels. 0 if there are none."""
        return sum(value for _, value in self._of(name, labels))

    def count(self, name: str, **labels: str) -> int:
        return int(self.value(name, **labels))

    def labelled(self, name: str, label: str) -> dict[str, float]:
        """Value of `label` -> sum of the samples with it."""
        sums: dict[str, float] = {}
        for labels, value in self._of(name, {}):
            sums[labels[label]] = sums.get(labels[label], 0.0) + value
        return sums

    def by(self, name: str, label: str) -> dict[str, int]:
        return {labelled: int(value) for labelled, value in self.labelled(name, label).items()}

    def seconds(self, name: str, **labels: str) -> Seconds:
        buckets = sorted(
            (float(of["le"]), value) for of, value in self._of(f"{name}_bucket", labels)
        )
        count = self.count(f"{name}_count", **labels)
        mean = self.value(f"{name}_sum", **labels) / count if count else None
        return Seconds(count, mean, quantile(0.5, buckets), quantile(0.99, buckets))

    def _of(self, name: str, labels: dict[str, str]) -> list[tuple[dict[str, str], float]]:
        samples = self._samples.get(name, [])
        return [sample for sample in samples if labels.items() <= sample[0].items()]


def quantile(share: float, buckets: list[tuple[float, float]]) -> float | None:
    """The value below which this share of the measurements lies, computed like Prometheus does.

    Interpolates linearly inside a bucket, and returns the highest bound for a value beyond it.
    None without measurements. `buckets` are (upper bound, count at or below it), sorted by bound,
    the last bound infinite.

    >>> quantile(0.5, [(1.0, 0.0), (3.0, 4.0), (float("inf"), 4.0)])
    2.0
    >>> quantile(0.99, [(1.0, 0.0), (float("inf"), 4.0)])
    1.0
    """
    rank = share * buckets[-1][1] if buckets else 0.0
    if not rank:
        return None
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            return low if bound == inf else low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, count
    return low
