"""What running processes tell of themselves on their metrics endpoints."""

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
"""After so many ports in a row where no flow answers there are no more."""
_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long something took, by the buckets of a histogram; None where nothing was measured."""

    count: int
    mean: float | None
    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Partition:
    """How far the flow is in a partition of the topic."""

    number: int
    lag_records: int
    lag_seconds: float | None
    """None: nothing was taken since the start, so nobody knows how old what waits is."""
    records: int


@dataclass(frozen=True, slots=True)
class Sink:
    """What a flow writes with one statement."""

    name: str
    waiting_rows: int
    write: Seconds
    """A batch until it is committed."""
    flush: Seconds
    """What a snapshot waits."""
    blocked_seconds: float
    retries: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class Flow:
    """A process of the flow; counts are since its start."""

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
    """By level."""
    epoch: Seconds
    """From one snapshot to the next."""
    snapshot: Seconds
    """Copying the state of a partition."""
    snapshot_age_seconds: float | None
    """None: there was no snapshot yet."""
    partitions: list[Partition]
    sinks: list[Sink]


@dataclass(frozen=True, slots=True)
class EdgeStatus:
    """An HTTP edge; counts are since its start."""

    url: str
    up_seconds: float
    broker_up: bool
    requests: dict[str, int]
    """By status."""
    accepted: int
    refused: int
    clock_skewed: int
    clock_ahead: float
    """Seconds by which its clock is ahead of the broker's, at least; below 0: behind."""
    in_flight: int
    queue_fill: float
    """0 to 1."""
    acknowledged: Seconds


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A prediction service; counts are since its start."""

    url: str
    up_seconds: float
    requests: dict[str, int]
    """By status."""
    answered: Seconds


Process = Flow | EdgeStatus | ServiceStatus


@dataclass(frozen=True, slots=True)
class Status:
    """Who answered, and who ought to have."""

    flows: list[Flow]
    edges: list[EdgeStatus]
    services: list[ServiceStatus]
    silent: list[str]
    """URLs that were given, or lie between two flows that answer, and where nothing of ours
    answers.
    """


def ask(urls: list[str]) -> Status:
    """Ask those that are given, else the processes of this machine by their usual ports.

    Raises:
        UnavailableError: nobody answers.
    """
    found = [(url, asked(url)) for url in urls] if urls else list(_usual())
    processes = [process for _, process in found]
    if not any(processes):
        where = " or ".join(urls) or f"http://127.0.0.1:{METRICS_PORT} (flow) or {EDGE} (edge)"
        raise UnavailableError(
            f"no metrics at {where}: start the flow with `iot run`, or give the URL of a process, "
            "for a flow http://HOST:METRICS_PORT"
        )
    return Status(
        [one for one in processes if isinstance(one, Flow)],
        [one for one in processes if isinstance(one, EdgeStatus)],
        [one for one in processes if isinstance(one, ServiceStatus)],
        [url for url, process in found if process is None],
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
            yield from ((one, None) for one in silent)
            silent.clear()
            yield url, process
        port += 1


def asked(url: str) -> Process | None:
    """What the process there tells; None when nothing of ours answers."""
    url = url.rstrip("/").removesuffix("/metrics")
    url = url if "://" in url else f"http://{url}"
    try:
        answer = httpx.get(f"{url}/metrics", timeout=_TIMEOUT_S, trust_env=False)
        answer.raise_for_status()
        return read_metrics(url, answer.text, time())
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None


def read_metrics(url: str, text: str, now: float) -> Process | None:
    """What a process told at `now`, epoch seconds; None when it is none of ours.

    Raises:
        ValueError: it is not Prometheus's text format.
    """
    told = _Told(text)
    up = max(0.0, now - told.value("process_start_time_seconds"))
    if told.has("iot_flow_broker_up"):
        return _flow(url, told, up, now)
    if told.has("iot_edge_packets_in_flight"):
        return EdgeStatus(
            url,
            up_seconds=up,
            broker_up=bool(told.value("iot_edge_broker_up")),
            requests=told.by("iot_edge_requests_total", "status"),
            accepted=told.count("iot_edge_readings_accepted_total"),
            refused=told.count("iot_edge_readings_refused_total"),
            clock_skewed=told.count("iot_edge_readings_clock_skewed_total"),
            clock_ahead=told.value("iot_edge_clock_ahead_seconds"),
            in_flight=told.count("iot_edge_packets_in_flight"),
            queue_fill=told.value("iot_edge_queue_fill_ratio"),
            acknowledged=told.seconds("iot_edge_acknowledgement_seconds"),
        )
    if told.has("iot_predict_seconds_count"):
        requests = told.by("iot_predict_requests_total", "status")
        return ServiceStatus(url, up, requests, told.seconds("iot_predict_seconds"))
    return None


def _flow(url: str, told: "_Told", up: float, now: float) -> Flow:
    snapshot_at = told.value("iot_flow_snapshot_timestamp_seconds")
    lags = told.labelled("iot_flow_lag_seconds", "partition")
    return Flow(
        url,
        up_seconds=up,
        broker_up=bool(told.value("iot_flow_broker_up")),
        readings=told.count("iot_flow_readings_total"),
        panes=told.count("iot_flow_panes_total"),
        events=told.count("iot_flow_events_total"),
        late=told.count("iot_readings_late_total"),
        clock_skewed=told.count("iot_readings_future_total"),
        repeated=told.count("iot_packets_repeated_total"),
        dead_letters=told.count("iot_flow_dead_letters_total"),
        rules_refused=told.count("iot_rules_refused"),
        sensors=told.by("iot_flow_sensors", "level"),
        epoch=told.seconds("iot_flow_epoch_seconds"),
        snapshot=told.seconds("iot_flow_snapshot_seconds"),
        snapshot_age_seconds=max(0.0, now - snapshot_at) if snapshot_at else None,
        partitions=[
            Partition(
                int(number),
                lag_records=told.count("iot_flow_lag_records", partition=number),
                lag_seconds=None if isnan(lag) else lag,
                records=told.count("iot_flow_records_total", partition=number),
            )
            for number, lag in sorted(lags.items(), key=lambda one: int(one[0]))
        ],
        sinks=[
            Sink(
                name,
                waiting_rows=int(waiting),
                write=told.seconds("iot_sink_write_seconds", sink=name),
                flush=told.seconds("iot_sink_flush_seconds", sink=name),
                blocked_seconds=told.value("iot_sink_blocked_seconds_total", sink=name),
                retries=told.count("iot_sink_retries_total", sink=name),
                dead_letters=told.count("iot_sink_dead_letters_total", sink=name),
            )
            for name, waiting in told.labelled("iot_sink_waiting_rows", "sink").items()
        ],
    )


class _Told:
    """The samples of one answer."""

    def __init__(self, text: str) -> None:
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def has(self, name: str) -> bool:
        return name in self._samples

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of the name that have these labels; 0 when there are none."""
        return sum(value for _, value in self._of(name, labels))

    def count(self, name: str, **labels: str) -> int:
        return int(self.value(name, **labels))

    def labelled(self, name: str, label: str) -> dict[str, float]:
        """The sums by the values of a label."""
        found: dict[str, float] = {}
        for labels, value in self._of(name, {}):
            found[labels[label]] = found.get(labels[label], 0.0) + value
        return found

    def by(self, name: str, label: str) -> dict[str, int]:
        return {one: int(value) for one, value in self.labelled(name, label).items()}

    def seconds(self, name: str, **labels: str) -> Seconds:
        buckets = sorted(
            (float(of["le"]), value) for of, value in self._of(f"{name}_bucket", labels)
        )
        count = self.count(f"{name}_count", **labels)
        mean = self.value(f"{name}_sum", **labels) / count if count else None
        return Seconds(count, mean, quantile(0.5, buckets), quantile(0.99, buckets))

    def _of(self, name: str, labels: dict[str, str]) -> list[tuple[dict[str, str], float]]:
        samples = self._samples.get(name, [])
        return [one for one in samples if labels.items() <= one[0].items()]


def quantile(share: float, buckets: list[tuple[float, float]]) -> float | None:
    """The value below which this share of what was measured lies, as Prometheus reckons it: evenly
    inside a bucket, and the highest bound where it lies beyond. None without measurements.

    `buckets` are (upper bound, how many are at or below it), by bound, the last one infinite.

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
