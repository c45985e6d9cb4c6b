"""The ends of partitions while brokers stop and start."""

import ctypes
import glob
import signal
from itertools import pairwise
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import confluent_kafka
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from structlog.testing import capture_logs

from dataflows.log.ends import Ends
from dataflows.log.lag import Lag
from dataflows.metrics import BROKER_UP, LAG_RECORDS
from runtime.kafka import KafkaAccess
from runtime.topic import ensure_topic
from tests.pipeline.conftest import wait_until
from tests.pipeline.test_edge_faults import kafka  # noqa: F401 - a fixture


def new_ends(address, partitions):
    topic = f"test.{uuid4().hex[:12]}"
    ensure_topic(KafkaAccess(address), topic)
    ends = Ends(KafkaAccess(address), topic, "group")
    for partition in partitions:
        ends.watch(partition)
    return topic, ends


def produce(address, topic, partition):
    producer = Producer({"bootstrap.servers": address})
    producer.produce(topic, b"x", partition=partition)
    assert producer.flush(10) == 0


def offsets(ends, partitions):
    """The offsets of the latest answers; None for a partition without an answer."""
    answers = [ends.latest(partition) for partition in partitions]
    return [answer and answer.offset for answer in answers]


def test_an_answer_has_the_time_before_its_request_and_is_renewed_every_second(brokers):
    topic, ends = new_ends(brokers, (0, 3))
    wait_until(lambda: ends.complete)
    seen = []
    before = monotonic()
    produce(brokers, topic, 3)
    produced = monotonic()
    while monotonic() < produced + 4:
        if (answer := ends.latest(3)) is not None and answer not in seen:
            seen.append(answer)
        sleep(0.01)
    assert {answer.offset for answer in seen if answer.asked_at > produced} == {1}
    assert {answer.offset for answer in seen if answer.asked_at < before} == {0}
    times = [answer.asked_at for answer in seen]
    assert all(later - earlier > 0.9 for earlier, later in pairwise(times))
    assert offsets(ends, (0, 1, 3)) == [0, None, 1]


def test_the_lag_is_the_distance_between_the_source_and_the_end(brokers):
    topic, ends = new_ends(brokers, ())
    for _ in range(3):
        produce(brokers, topic, 1)
    lag = Lag(ends)
    lag.at(1, 0, None)
    records = LAG_RECORDS.labels("1")
    wait_until(lambda: records.collect()[0].samples[0].value == 3)
    lag.at(1, 2, 1)
    assert records.collect()[0].samples[0].value == 1
    assert BROKER_UP.collect()[0].samples[0].value == 1


def test_a_frozen_broker_has_no_end_and_is_found_again(kafka):  # noqa: F811
    """With an outdated end, a heartbeat could overtake waiting records."""
    with capture_logs() as log:
        _, ends = new_ends(kafka.address, (0, 1))
        wait_until(lambda: offsets(ends, (0, 1)) == [0, 0])
        kafka.signal(signal.SIGSTOP)
        wait_until(lambda: offsets(ends, (0, 1)) == [None, None])
        assert not ends.complete
        sleep(5)
        assert said(log) == ["away"]
        kafka.signal(signal.SIGCONT)
        wait_until(lambda: offsets(ends, (0, 1)) == [0, 0])
        kafka.kill()
        wait_until(lambda: offsets(ends, (0, 1)) == [None, None])
        kafka.start()
        wait_until(lambda: offsets(ends, (0, 1)) == [0, 0])
        assert ends.complete
    assert said(log) == ["away", "back"] * (
        len(said(log)) // 2
    )  # partitions may come back one by one


def said(log):
    """Each report that the broker is away or back, in order."""
    names = {"broker unreachable, waiting for it": "away", "broker back": "back"}
    return [names[line["event"]] for line in log if line["event"] in names]


@pytest.fixture
def cluster():
    """Three in-memory brokers: their addresses, and a function that switches one off or on."""
    owner = Producer({"test.mock.num.brokers": 3, "log_level": 0})
    addresses = ",".join(f"{b.host}:{b.port}" for b in owner.list_topics().brokers.values())
    place = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    library = ctypes.CDLL(glob.glob(str(place / "librdkafka*"))[0])
    client = ctypes.c_void_p.from_address(id(owner) + object.__basicsize__)
    library.rd_kafka_handle_mock_cluster.restype = ctypes.c_void_p
    mock = ctypes.c_void_p(library.rd_kafka_handle_mock_cluster(client))

    def switch(broker, *, up):
        way = library.rd_kafka_mock_broker_set_up if up else library.rd_kafka_mock_broker_set_down
        assert way(mock, broker) == 0

    yield addresses, switch
    del owner  # the brokers live as long as `owner`


def test_partitions_of_other_brokers_have_answers_while_one_broker_is_down(cluster):
    addresses, switch = cluster
    topic, ends = new_ends(addresses, range(4))
    wait_until(lambda: ends.complete)
    description = AdminClient({"bootstrap.servers": addresses}).list_topics(topic, 10).topics[topic]
    leaders = {number: partition.leader for number, partition in description.partitions.items()}
    gone = leaders[0]
    switch(gone, up=False)
    wanted = [None if leaders[number] == gone else 0 for number in range(4)]
    assert 0 in wanted
    wait_until(lambda: offsets(ends, range(4)) == wanted)
    switch(gone, up=True)
    wait_until(lambda: ends.complete)
