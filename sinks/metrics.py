"""Metrics of the sinks, for Prometheus, labelled by the name of the statement."""

from prometheus_client import Counter, Gauge, Histogram

BATCH_ROWS = Histogram(
    "iot_sink_batch_rows", "Rows per batch.", ["sink"], buckets=(1, 10, 100, 1000, 5000, 20_000)
)
WRITE_SECONDS = Histogram("iot_sink_write_seconds", "Seconds to commit a batch.", ["sink"])
FLUSH_SECONDS = Histogram(
    "iot_sink_flush_seconds",
    "Seconds that a snapshot waits until all rows are committed.",
    ["sink"],
    buckets=(0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
RETRIES = Counter(
    "iot_sink_retries",
    "Batches retried: database unavailable, or conflict with another writer.",
    ["sink"],
)
BLOCKED_SECONDS = Counter(
    "iot_sink_blocked_seconds", "Seconds that the flow was blocked by a full queue.", ["sink"]
)
WAITING_ROWS = Gauge("iot_sink_waiting_rows", "Rows that are not committed yet.", ["sink"])
REPEATED = Counter(
    "iot_readings_repeated", "Readings that were already stored: sent or read again."
)
DEAD_LETTERS = Counter(
    "iot_sink_dead_letters", "Rows refused by the database, see sink_dead_letters.", ["sink"]
)


def begin(sink: str) -> None:
    """Export all metrics of a sink as 0. Prometheus sees no increase in a counter that first
    appears as 1, so no alert would fire.
    """
    for metric in (BATCH_ROWS, WRITE_SECONDS, FLUSH_SECONDS, RETRIES, BLOCKED_SECONDS):
        metric.labels(sink)
    WAITING_ROWS.labels(sink)
    DEAD_LETTERS.labels(sink)
