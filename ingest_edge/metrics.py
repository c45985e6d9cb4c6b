"""What the edge counts, for Prometheus. No label has a value that a sender chose."""

from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each, that nobody looks at
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

REQUESTS = Counter("iot_edge_requests", "Requests answered.", ["path", "status"], registry=REGISTRY)
ACCEPTED = Counter(
    "iot_edge_readings_accepted",
    "Readings that are in Kafka, acknowledged.",
    registry=REGISTRY,
)
READINGS_REFUSED = Counter(
    "iot_edge_readings_refused",
    "Readings not accepted, by reason; those of a body that could not be read are not known.",
    ["reason"],
    registry=REGISTRY,
)
SKEWED = Counter(
    "iot_edge_readings_clock_skewed",
    "Readings whose time was too far ahead, or before 2000, and was not believed; they have the "
    "arrival time.",
    registry=REGISTRY,
)
ACKNOWLEDGED = Histogram(
    "iot_edge_acknowledgement_seconds",
    "From handing a packet to the Kafka client to the broker's acknowledgement.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
IN_FLIGHT = Gauge(
    "iot_edge_packets_in_flight", "Packets that wait for their acknowledgement.", registry=REGISTRY
)
QUEUE_FILL = Gauge(
    "iot_edge_queue_fill_ratio",
    "Packets in flight, as a share of how many there may be before 503.",
    registry=REGISTRY,
)
BROKER_UP = Gauge(
    "iot_edge_broker_up",
    "Whether brokers lead every partition of the topic, asked for each scrape.",
    registry=REGISTRY,
)
PRODUCERS = Counter(
    "iot_edge_producer_replaced", "Kafka producers given up after a fatal error.", registry=REGISTRY
)

_lookups = Counter(
    "iot_edge_directory_lookups",
    "Devices and sensors looked up: found in memory (hit), asked of the database (miss), "
    "known not to be there (unknown), too old but the database is away (stale).",
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
