"""What the sinks tell Prometheus, each by the name of its statement."""

from prometheus_client import Counter, Gauge, Histogram

BATCH_ROWS = Histogram(
    "iot_sink_batch_rows", "rows a batch", ["sink"], buckets=(1, 10, 100, 1000, 5000, 20_000)
)
WRITE_SECONDS = Histogram("iot_sink_write_seconds", "seconds until a batch is committed", ["sink"])
FLUSH_SECONDS = Histogram(
    "iot_sink_flush_seconds",
    "seconds a snapshot waits until all rows are committed",
    ["sink"],
    buckets=(0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
RETRIES = Counter(
    "iot_sink_retries", "batches sent again: database away, or another writer faster", ["sink"]
)
BLOCKED_SECONDS = Counter(
    "iot_sink_blocked_seconds", "seconds the flow has waited for a full queue", ["sink"]
)
WAITING_ROWS = Gauge("iot_sink_waiting_rows", "rows that are not committed yet", ["sink"])
REPEATED = Counter(
    "iot_readings_repeated", "readings that were there already: sent again, or taken again"
)
DEAD_LETTERS = Counter("iot_sink_dead_letters", "rows refused, see sink_dead_letters", ["sink"])


def begin(sink: str) -> None:
    """Show all figures of a sink at 0: a counter that appears with its first 1 has not risen, in
    the eyes of Prometheus, and nobody is told.
    """
    for metric in (BATCH_ROWS, WRITE_SECONDS, FLUSH_SECONDS, RETRIES, BLOCKED_SECONDS):
        metric.labels(sink)
    WAITING_ROWS.labels(sink)
    DEAD_LETTERS.labels(sink)
