"""The flow's Prometheus metrics. Those of its sinks are in `sinks/metrics.py`."""

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from contract.errors import SettingError

_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60)

LAG_RECORDS = Gauge(
    "iot_flow_lag_records", "Records of the partition that the flow has not read yet", ["partition"]
)
LAG_SECONDS = Gauge(
    "iot_flow_lag_seconds",
    "Age of the last record read from the partition; 0 at its end",
    ["partition"],
)
PARTITIONS_UNTAKEN = Gauge(
    "iot_topic_partitions_untaken", "Partitions with records that no flow reads"
)
BROKER_UP = Gauge("iot_flow_broker_up", "1 while the broker reports where its partitions end")
RECORDS = Counter("iot_flow_records", "Records read from the topic", ["partition"])
READINGS = Counter("iot_flow_readings", "Readings in the records, including repeated ones")
PANES = Counter("iot_flow_panes", "Panes closed")
LATE = Counter("iot_readings_late", "Readings that arrived after their pane closed")
TOO_LATE = Counter("iot_readings_too_late", "Late readings whose late pane had closed too")
FUTURE = Counter("iot_readings_future", "Readings dated more than 5 min after their arrival")
REPEATED = Counter("iot_packets_repeated", "Packets that repeat an earlier one")
DEAD_LETTERS = Counter(
    "iot_flow_dead_letters", "Records that cannot be decoded and go to the dead-letter topic"
)
DEAD_LETTERS_WAITING = Gauge(
    "iot_flow_dead_letters_waiting", "1 while the flow waits for the dead-letter topic"
)
SENSORS = Gauge("iot_flow_sensors", "Sensors by level", ["level"])
UNJUDGED = Gauge(
    "iot_flow_sensors_unjudged",
    "Sensors that the detector cannot report for now: they have used up their false alarms",
)
EVENTS = Counter("iot_flow_events", "Events, by code", ["code"])
EPOCH_SECONDS = Histogram(
    "iot_flow_epoch_seconds", "Time between two snapshots of a partition", buckets=_SECONDS
)
SNAPSHOT_SECONDS = Histogram(
    "iot_flow_snapshot_seconds", "Time to copy a partition's state", buckets=_SECONDS
)
SNAPSHOT_AT = Gauge(
    "iot_flow_snapshot_timestamp_seconds", "Time of the last snapshot, epoch seconds"
)


def serve_metrics(host: str, port: int) -> None:
    """Serve the metrics on `host` and `port`, from a thread.

    Raises:
        SettingError: the port cannot be opened.
    """
    try:
        start_http_server(port, host)
    except OSError as error:
        raise SettingError(
            f"METRICS_PORT: {host}:{port} cannot be used: {error.strerror}"
        ) from error
