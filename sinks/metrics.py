"""What the sinks tell Prometheus, each by the name of its statement."""

from prometheus_client import Counter, Gauge, Histogram

BATCH_ROWS = Histogram(
    "iot_sink_batch_rows", "rows a batch", ["sink"], buckets=(1, 10, 100, 1000, 5000, 20_000)
)
WRITE_SECONDS = Histogram("iot_sink_write_seconds", "seconds until a batch is committed", ["sink"])
RETRIES = Counter(
    "iot_sink_retries", "batches sent again: database away, or another writer faster", ["sink"]
)
BLOCKED_SECONDS = Counter(
    "iot_sink_blocked_seconds", "seconds the flow has waited for a full queue", ["sink"]
)
WAITING_ROWS = Gauge("iot_sink_waiting_rows", "rows that are not committed yet", ["sink"])
DEAD_LETTERS = Counter("iot_sink_dead_letters", "rows refused, see sink_dead_letters", ["sink"])
