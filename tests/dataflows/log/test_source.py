"""The source of one partition: its start position, the identity of its log, and heartbeats."""

import pickle
from datetime import UTC, datetime
from time import monotonic, sleep, time
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, Producer

from contract.errors import SetupError, UnavailableError
from dataflows.log.clock import BrokerClock, SetBack
from dataflows.log.position import Position
from dataflows.log.source import PacketSource
from dataflows.startup import FlowStop, StartAgainError, check
from runtime.kafka import KafkaAccess
from runtime.topic import ensure_topic

PARTITION = 1


@pytest.fixture
def topic(brokers):
    name = f"test.{uuid4().hex[:12]}"
    ensure_topic(KafkaAccess(brokers), name)
    return name


@pytest.fixture
def make(brokers, topic):
    """Creates sources of the partition."""
    made = []

    def make(state=None, **more):
        options: dict[str, Any] = {"start": "earliest", "stop": lambda: False} | more
        source = PacketSource(KafkaAccess(brokers), topic, **options)
        made.append(source.build_part("consume", str(PARTITION), state))
        return made[-1]

    yield make
    for part in made:
        part.close()


def produce(brokers, topic, *values):
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
    for value in values:
        producer.produce(topic, value, b"key", partition=PARTITION, headers=[("trace", b"1")])
    assert producer.flush(10) == 0


def take(part, records, seconds=20.0):
    """The values of `records` records; heartbeats between them are left out."""
    values = []
    end = monotonic() + seconds
    while len(values) < records:
        assert monotonic() < end, values
        values += [value for _, batch in part.next_batch() for value in batch.values]
        sleep(0.01)
    return values


def test_a_position_survives_pickling_and_an_offset_alone_is_a_position():
    position = Position(7, "id", 5, b"print")
    assert Position.of(pickle.loads(pickle.dumps(position.state()))) == position  # noqa: S301
    assert Position.of(7) == Position(7)
    with pytest.raises(SetupError, match=r"reads versions 1 and 2 .* new directory"):
        Position.of((3, 7))


def test_a_source_resumes_after_its_last_record_and_reads_nothing_twice(make, brokers, topic):
    produce(brokers, topic, b"a", b"b", b"c")
    first = make()
    assert take(first, 3) == [b"a", b"b", b"c"]
    state = first.snapshot()
    produce(brokers, topic, b"d")
    again = make(state)
    assert again.snapshot() == state  # nothing was read yet
    assert take(again, 1) == [b"d"]
    assert Position.of(again.snapshot()).last == 3
    assert take(make(3), 1) == [b"d"]  # the offset alone, as version 1 has it


def test_a_log_whose_last_record_has_changed_is_not_resumed(make, brokers, topic):
    produce(brokers, topic, b"a", b"b", b"c")
    first = make()
    take(first, 2)
    state = first.snapshot()
    version, following, topic_id, last, _ = state
    other = (version, following, topic_id, last, b"of another log")
    with pytest.raises(SetupError, match=rf"record at offset {last} .*IF_OFFSET_GONE=earliest"):
        take(make(other), 1)
    assert take(make(other, if_gone="earliest"), 3) == [b"a", b"b", b"c"]


def test_a_topic_with_a_different_id_is_not_resumed(make, brokers, topic):
    class Watch:
        topic_id = "new"

    produce(brokers, topic, b"a", b"b")
    state = Position(1, "old").state()
    with pytest.raises(SetupError, match=r"deleted and created again.*IF_OFFSET_GONE=earliest"):
        make(state, watch=Watch())
    assert take(make(state, watch=Watch(), if_gone="earliest"), 2) == [b"a", b"b"]
    watch = Watch()
    live = make(watch=watch)
    assert take(live, 2) == [b"a", b"b"]
    watch.topic_id = "newer"
    with pytest.raises(SetupError, match=r"deleted and created again"):
        live.next_batch()
    assert Position.of(live.snapshot()).topic_id == "new"  # so that the next start sees it too


def test_an_added_partition_begins_at_its_first_record(make, brokers, topic):
    produce(brokers, topic, b"a")
    late = make(start="latest")
    new = make(start="latest", added=frozenset({PARTITION}))
    assert take(new, 1) == [b"a"]
    produce(brokers, topic, b"b")
    assert take(late, 1) == [b"b"]


@pytest.mark.parametrize(
    ("grown", "set_back", "why"),
    [
        (True, False, "the topic has new partitions"),
        (False, True, "this machine's clock was set back"),
    ],
)
def test_a_flow_ends_with_a_restart_when_something_has_changed(monkeypatch, grown, set_back, why):
    monkeypatch.setattr("runtime.shell.signal.signal", lambda *_: None)

    watch: Any = SimpleNamespace(grown=grown)
    clock: Any = set_back
    stop = FlowStop(lambda: check(None, watch, clock))
    assert stop.check()
    assert isinstance(stop.error, StartAgainError)
    assert str(stop.error) == why
    watch.grown, clock = False, False
    assert not FlowStop(lambda: check(None, watch, clock)).check()


def test_a_clock_that_is_set_back_is_detected_even_after_it_was_set_forward(monkeypatch):
    now = [1_000.0, 5_000.0]
    monkeypatch.setattr("dataflows.log.clock.monotonic", lambda: now[0])
    monkeypatch.setattr("dataflows.log.clock.time", lambda: now[1])
    set_back = SetBack()
    for monotonic_s, wall_s, noticed in [
        (1_010, 5_010, False),
        (1_020, 5_015, False),  # five seconds back only make an epoch longer
        (1_030, 8_620, False),
        (1_040, 5_030, True),
    ]:
        now[:] = monotonic_s, wall_s
        assert bool(set_back) == noticed


def test_a_partition_is_always_due_and_pauses_when_none_has_records(make, brokers, topic):
    part = make()
    assert part.next_awake() < datetime(2000, 1, 1, tzinfo=UTC)
    began, calls = monotonic(), 0
    while monotonic() < began + 0.5:
        part.next_batch()
        calls += 1
    assert calls <= 60


def test_records_keep_their_keys_and_headers(make, brokers, topic):
    produce(brokers, topic, b"a")
    part = make()
    batches = []
    while not any(batch.values for _, batch in batches):
        batches += part.next_batch()
        sleep(0.01)
    (message,) = batches[-1][1].messages
    assert (message.key(), message.headers()) == (b"key", [("trace", b"1")])


def test_the_brokers_clock_advances_by_monotonic_time_regardless_of_this_machines_clock(
    monkeypatch,
):
    clock, now = BrokerClock(), [1_000.0, 5_000.0]
    monkeypatch.setattr("dataflows.log.clock.monotonic", lambda: now[0])
    monkeypatch.setattr("dataflows.log.clock.time", lambda: now[1])
    assert clock.at(1_000.0) == 5_000_000  # no record yet: this machine's clock
    clock.heard(TIMESTAMP_LOG_APPEND_TIME, 9_000_000)
    now[1] -= 3_600
    assert clock.at(1_010.0) == 9_010_000
    now[0], now[1] = 1_020.0, 99_999.0
    clock.heard(TIMESTAMP_LOG_APPEND_TIME, 9_001_000)  # an old record, read late
    assert clock.at(1_020.0) == 9_020_000
    clock.heard(TIMESTAMP_LOG_APPEND_TIME, 9_020_300)
    assert clock.at(1_020.0) == 9_020_300


def test_a_producers_clock_that_is_ahead_is_ignored(monkeypatch):
    clock = BrokerClock()
    monkeypatch.setattr("dataflows.log.clock.monotonic", lambda: 1_000.0)
    monkeypatch.setattr("dataflows.log.clock.time", lambda: 5_000.0)
    clock.heard(TIMESTAMP_CREATE_TIME, 10**15)
    assert clock.at(1_000.0) == 5_000_000


def test_a_heartbeat_is_earlier_than_every_later_record(make, brokers, topic):
    part = make()
    for _ in range(3):
        beats = []
        while not beats:
            beats = [batch for _, batch in part.next_batch() if not batch.values]
            sleep(0.01)
        produce(brokers, topic, b"a")
        batches = []
        while not batches:
            batches = [batch for _, batch in part.next_batch() if batch.values]
            sleep(0.01)
        ((beat,), (record, *_)) = beats[-1].arrivals, batches[0].arrivals
        assert beat < record
        assert record - beat < (time() - record / 1000) * 1000 + 30_000


def test_an_error_of_a_check_ends_the_source_and_is_kept(monkeypatch):
    monkeypatch.setattr("runtime.shell.signal.signal", lambda *_: None)
    calls = []

    def check():
        calls.append(None)
        raise UnavailableError("no room")

    stop = FlowStop(check)
    assert stop.check()
    assert stop.check()
    assert (str(stop.error), len(calls)) == ("no room", 1)
    assert not FlowStop().check()
