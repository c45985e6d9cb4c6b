from math import inf, nan
from time import time

import pytest
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from ops.status import quantile, read_metrics


def test_another_program_on_the_port_is_not_mistaken_for_ours():
    assert read_metrics("there", "go_goroutines 7\n", time()) is None
    with pytest.raises(ValueError, match=r".*"):
        read_metrics("there", "<html>busy</html>", time())


def test_unknown_values_are_none():
    registry = CollectorRegistry()
    for name in ("iot_flow_broker_up", "iot_flow_snapshot_timestamp_seconds"):
        Gauge(name, "", registry=registry)
    for name in ("records", "seconds"):
        lag = Gauge(f"iot_flow_lag_{name}", "", ["partition"], registry=registry)
        lag.labels("3").set(nan if name == "seconds" else 9)
    Histogram("iot_flow_epoch_seconds", "", registry=registry)
    flow = read_metrics("there", generate_latest(registry).decode(), time())
    assert flow.snapshot_age_seconds is None
    assert flow.partitions[0].lag_seconds is None
    assert flow.partitions[0].lag_records == 9
    assert (flow.epoch.count, flow.epoch.mean, flow.epoch.p50) == (0, None, None)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.1, 0.2), (0.5, 1.0), (0.625, 3.0), (0.9, 4.6), (1.0, 5.0)]
)
def test_a_quantile_is_interpolated_inside_its_bucket(share, expected):
    buckets = [(1.0, 10.0), (2.0, 10.0), (4.0, 15.0), (5.0, 20.0), (inf, 20.0)]
    assert quantile(share, buckets) == pytest.approx(expected)


def test_a_quantile_beyond_the_highest_bound_is_that_bound():
    assert quantile(0.99, [(1.0, 10.0), (inf, 20.0)]) == 1.0
