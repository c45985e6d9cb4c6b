"""What the flow tells Prometheus; what its sinks tell is in `sinks/metrics.py`."""

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from contract.errors import SettingError

_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60)

LAG_RECORDS = Gauge(
    "iot_flow_lag_records", "Records of the partition that were not taken yet", ["partition"]
)
LAG_SECONDS = Gauge(
    "iot_flow_lag_seconds",
    "Age of the last record taken of the partition; 0 at its end",
    ["partition"],
)
PARTITIONS_UNTAKEN = Gauge(
    "iot_topic_partitions_untaken", "Partitions with records that no flow takes"
)
BROKER_UP = Gauge("iot_flow_broker_up", "Whether the broker told where its partitions end")
RECORDS = Counter("iot_flow_records", "Records taken from the topic", ["partition"])
READINGS = Counter("iot_flow_readings", "Readings in the records, repeated ones too")
PANES = Counter("iot_flow_panes", "Panes closed, each of one sensor")
LATE = Counter("iot_readings_late", "Readings that came after their pane had closed")
FUTURE = Counter("iot_readings_future", "Readings dated more than 5 min after their arrival")
REPEATED = Counter("iot_packets_repeated", "Packets that repeated an earlier one")
DEAD_LETTERS = Counter(
    "iot_flow_dead_letters", "Records that cannot be decoded, see the dead-letter topic"
)
DEAD_LETTERS_WAITING = Gauge(
    "iot_flow_dead_letters_waiting", "1 while the flow waits for the dead-letter topic"
)
SENSORS = Gauge("iot_flow_sensors", "Sensors by level, of those that have one", ["level"])
EVENTS = Counter("iot_flow_events", "Events, by code", ["code"])
EPOCH_SECONDS = Histogram(
    "iot_flow_epoch_seconds", "From one snapshot of a partition to its next", buckets=_SECONDS
)
SNAPSHOT_SECONDS = Histogram(
    "iot_flow_snapshot_seconds", "How long a partition's state takes to copy", buckets=_SECONDS
)
SNAPSHOT_AT = Gauge(
    "iot_flow_snapshot_timestamp_seconds", "When the last snapshot was taken, epoch seconds"
)


def serve_metrics(host: str, port: int) -> None:
    """Answer Prometheus on `port` from now on, from a thread.

    Raises:
        SettingError: the port cannot be had.
    """
    try:
        start_http_server(port, host)
    except OSError as error:
        raise SettingError(
            f"METRICS_PORT: {host}:{port} cannot be listened on: {error.strerror}"
        ) from error
