"""Prometheus metrics of the prediction service."""

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from runtime.log import LINES_LOST

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
REGISTRY.register(LINES_LOST)

REQUESTS = Counter("iot_predict_requests", "Forecast requests.", ["status"], registry=REGISTRY)
SECONDS = Histogram(
    "iot_predict_seconds",
    "From the head of a request to the end of its response.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
