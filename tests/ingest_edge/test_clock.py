import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME
from structlog.testing import capture_logs

from ingest_edge.clock import EdgeClock
from ingest_edge.metrics import REGISTRY

BROKER = 1_732_442_400_000
"""When the broker appended the record, epoch milliseconds."""


def ahead():
    return REGISTRY.get_sample_value("iot_edge_clock_ahead_seconds")


def hear(clock, ahead_s, took_s=0.02, kind=TIMESTAMP_LOG_APPEND_TIME):
    """Report a record that was appended halfway between sending and acknowledgement."""
    at = BROKER / 1000 + ahead_s
    clock.heard(at - took_s / 2, kind, BROKER, at + took_s / 2)


@pytest.mark.parametrize(
    ("real", "reported"), [(0, 0), (0.009, 0), (-0.009, 0), (360, 359.989), (-360, -359.99)]
)
def test_delivery_reports_give_the_minimum_clock_offset(real, reported):
    hear(EdgeClock(), real)
    assert ahead() == pytest.approx(reported, abs=1e-5)


def test_a_wrong_clock_is_reported_once_and_again_when_it_is_correct():
    clock = EdgeClock()
    with capture_logs() as log:
        for real in (0, 360, 361, 1.5, 0.5, 0, -5, -5):
            hear(clock, real)
    assert [(line["log_level"], line["seconds_ahead"] > 0) for line in log] == [
        ("warning", True), ("info", True), ("warning", False),
    ]  # fmt: skip


def test_timestamps_set_by_producers_are_ignored():
    clock = EdgeClock()
    hear(clock, 0)
    hear(clock, 360, kind=TIMESTAMP_CREATE_TIME)
    clock.heard(BROKER / 1000, TIMESTAMP_LOG_APPEND_TIME, 0, BROKER / 1000)  # the in-memory broker
    assert ahead() == 0
