"""Which part of each partition a replay reads."""

from contextlib import ExitStack
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from contract.errors import SetupError, UnavailableError
from contract.packet import MAX_TIME_MS
from contract.settings import Settings
from ops.replay.moments import Offset
from ops.replay.spans import Part, find_parts
from tests.chaos.kafka import Kafka, why_not
from tests.pipeline.conftest import create_topic
from tests.servers import missing

AT = 1732442400000
NOW = AT + 60_000


@pytest.fixture
def topic(brokers):
    return new_topic(brokers)


def new_topic(brokers):
    """Ten records a second apart on partition 1, one on partition 2, none elsewhere."""
    name = f"test.{uuid4().hex[:12]}"
    create_topic(brokers, name, 4, "CreateTime")
    fill(brokers, name, 1, 10, b"x")
    fill(brokers, name, 2, 1, b"x")
    return Settings(kafka_bootstrap_servers=brokers, kafka_topic=name)


def fill(brokers, topic, partition, count, value):
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
    for number in range(count):
        producer.produce(topic, value, partition=partition, timestamp=AT + 1000 * number)
    assert producer.flush(10) == 0


def spans(parts):
    return {part.partition: (part.first, part.end, part.rows_from, part.rows_to) for part in parts}


def test_without_bounds_it_is_everything_up_to_now(topic):
    assert find_parts(topic, None, None, None, NOW) == [
        Part(1, 0, 10, NOW - 2_000, 0, MAX_TIME_MS, truncated=False),
        Part(2, 0, 1, NOW - 2_000, 0, MAX_TIME_MS, truncated=False),
    ]


def test_bounds_select_rows_and_the_whole_log_is_read(topic):
    assert spans(find_parts(topic, AT + 3_000, AT + 5_500, None, NOW)) == {
        1: (0, 10, AT + 3_000, AT + 5_500),
        2: (0, 1, AT + 3_000, AT + 5_500),
    }


def test_an_offset_is_a_different_time_in_each_partition(topic):
    assert spans(find_parts(topic, Offset(0), Offset(7), None, NOW)) == {
        1: (0, 10, AT, AT + 7_000),
        2: (0, 1, AT, MAX_TIME_MS),
    }
    assert spans(find_parts(topic, Offset(1), None, None, NOW)) == {
        1: (0, 10, AT + 1_000, MAX_TIME_MS)
    }
    with pytest.raises(SetupError, match="has no records in this span: nothing to replay"):
        find_parts(topic, Offset(10), None, None, NOW)
    with pytest.raises(SetupError, match="has no records in this span: nothing to replay"):
        find_parts(topic, AT + 5_000, AT + 4_000, None, NOW)


def test_a_margin_limits_what_is_read_by_arrival_time(topic, given_brokers):
    if given_brokers is None:
        with pytest.raises(SetupError, match="--margin: this broker cannot look up offsets"):
            find_parts(topic, AT + 5_000, None, 2_000, NOW)
        return
    parts = find_parts(topic, AT + 5_000, AT + 6_000, 2_000, NOW)
    assert spans(parts) == {1: (3, 8, AT + 5_000, AT + 6_000)}
    assert [part.until for part in parts] == [AT + 8_000]
    assert spans(find_parts(topic, AT + 5_000, None, 90_000, NOW))[1][:2] == (0, 10)


def test_only_the_partitions_of_the_setting_are_read(topic):
    some = topic.model_copy(update={"kafka_partitions": "0-1"})
    assert list(spans(find_parts(some, None, None, None, NOW))) == [1]
    lacking = topic.model_copy(update={"kafka_partitions": "1,77"})
    with pytest.raises(SetupError, match=r"has no partition 77"):
        find_parts(lacking, None, None, None, NOW)


@pytest.mark.xdist_group("a Kafka of its own")
def test_a_log_whose_beginning_is_lost_is_detected(tmp_path, brokers, given_brokers):
    with ExitStack() as stack:
        if given_brokers is None:
            topic = new_topic(brokers)
            fill(brokers, topic.kafka_topic, 1, 100, b"x" * 100_000)  # it keeps some 5 MB
        elif why_not():
            pytest.skip(missing("Java or Maven"))
        else:
            kafka = stack.enter_context(Kafka(tmp_path / "kafka"))
            topic = new_topic(kafka.start())
            kafka.forget({(topic.kafka_topic, 1): 4})
        first, second = find_parts(topic, None, None, None, NOW)
    assert first.truncated
    assert first.first > 0
    assert not second.truncated


def test_a_broker_that_does_not_answer_is_told(monkeypatch):
    monkeypatch.setattr("ops.replay.spans._ANSWER_S", 0.5)
    away = Settings(kafka_bootstrap_servers="127.0.0.1:1")
    with pytest.raises(UnavailableError, match=r"no Kafka broker answers at 127\.0\.0\.1:1"):
        find_parts(away, None, None, None, NOW)
