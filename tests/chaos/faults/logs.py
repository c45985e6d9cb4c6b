"""The log is not the one that the flow has read, or has changed its shape."""

from collections import Counter
from shutil import copytree, rmtree
from time import time_ns

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from msgspec.structs import replace

from contract.packet import Packet, decode, encode, unpack
from ops.devices import SensorSpec, register
from runtime.kafka import kafka_access
from tests.chaos.kafka import Kafka
from tests.chaos.proof import (
    begin,
    check_calm,
    check_stored,
    finish,
    start_client,
    until_load,
    until_posted,
)
from tests.chaos.rig import PARTITIONS, DifferenceError, Rig
from tests.pipeline.conftest import create_topic, wait_until

_KEPT = 10
"""Records of each partition that the broker does not delete."""
_READINGS = "SELECT sensor_id, value FROM sensor_readings"
_BEFORE = 12
"""Packets of each device that come before the log is another one; the rest passes its end."""
_MORE = 12
"""Partitions of a topic that has grown: devices are spread over all."""
_NOTICED_S = 30.0
_TOLD_S = 60.0


def offset_gone(kafka: Kafka, rig: Rig) -> None:
    """While the flow is down, the broker deletes records that it has not seen: it refuses to go on,
    says what to do, and with IF_OFFSET_GONE=earliest does so with all that is there.
    """
    begin(rig, 3)
    rig.start_flow("0-3")
    rig.start_edge()
    client = start_client(rig, 0.1)
    until_load(rig)
    rig.stop("flow 0-3")
    seen = set(rig.pipeline.rows(_READINGS))
    until_posted(rig, client)
    rig.end_log()
    topic = rig.pipeline.topic
    last = [TopicPartition(topic, number, end - _KEPT) for number, end in enumerate(rig.ends())]
    kafka.forget({(topic, place.partition): place.offset for place in last})

    rig.start_flow("0-3")
    _follow(rig, rig.refusal("flow 0-3"))
    rig.until(rig.taken, "what is there is taken")
    rig.stop()
    consumer = Consumer(kafka_access(rig.pipeline.settings).config() | {"group.id": "looks"})
    consumer.assign(last)
    kept = [unpack(decode(message.value())) for message in consumer.consume(_KEPT * len(last), 10)]
    consumer.close()
    wanted = {pair for packet in kept for pair in zip(packet.sensor_id, packet.value, strict=True)}
    stored = Counter(rig.pipeline.rows(_READINGS))
    if len(kept) != _KEPT * len(last) or not wanted or stored != Counter(seen | wanted):
        raise DifferenceError(
            f"{stored.total()} readings are stored, of {len(seen)} that were before and "
            f"{len(wanted)} in the {len(kept)} records that the broker still has"
        )


def _follow(rig: Rig, said: str) -> None:
    """Do what a flow that refused to continue says: start it with IF_OFFSET_GONE=earliest."""
    if "IF_OFFSET_GONE=earliest" not in said:
        raise DifferenceError(f"the flow has said: {said}")
    rig.forget_committed()
    rig.start_flow("0-3", values={"IF_OFFSET_GONE": "earliest"})


def topic_recreated_while_the_flow_was_down(kafka: Kafka, rig: Rig) -> None:
    """The topic is deleted and created again while the flow is down, and grows past the offset at
    which the flow was: it does not go on from there.
    """
    begin(rig, 7)
    _first_part(rig)
    rig.stop("flow 0-3")
    _recreate(rig)
    client = start_client(rig, 0.05, slice(_BEFORE, None))
    until_posted(rig, client)
    rig.start_flow("0-3")
    _follow(rig, rig.refusal("flow 0-3"))
    finish(rig, client, calm=False)


def topic_recreated_beneath_the_flow(kafka: Kafka, rig: Rig) -> None:
    """The topic is deleted and recreated while the flow is running."""
    begin(rig, 8)
    _first_part(rig)
    _recreate(rig)
    client = start_client(rig, 0.05, slice(_BEFORE, None))
    _follow(rig, rig.refusal("flow 0-3"))
    finish(rig, client, calm=False)


def log_restored_from_an_older_copy(kafka: Kafka, rig: Rig) -> None:
    """The broker gets an older copy of its data, and the log grows past the offset at which the
    flow was: other records are before it.
    """
    begin(rig, 9)
    _first_part(rig)
    _on_stopped(kafka, lambda: copytree(kafka.data, kafka.data.with_name("copy")))
    client = start_client(rig, 0.05, slice(_BEFORE, _BEFORE + 4))
    until_posted(rig, client)
    rig.until(rig.taken, "the log is taken")
    rig.stop("flow 0-3")

    def restore() -> None:
        rmtree(kafka.data)
        kafka.data.with_name("copy").rename(kafka.data)

    _on_stopped(kafka, restore)
    client = start_client(rig, 0.05, slice(_BEFORE + 4, None))
    until_posted(rig, client)
    rig.start_flow("0-3")
    _follow(rig, rig.refusal("flow 0-3"))
    finish(rig, client, calm=False)


def _first_part(rig: Rig) -> None:
    """Edge and flow run, and have stored what the devices post before the log is another one."""
    rig.start_flow("0-3")
    rig.start_edge()
    until_posted(rig, start_client(rig, 0.05, slice(_BEFORE)))
    rig.until(rig.taken, "the log is taken")


def _on_stopped(kafka: Kafka, work) -> None:
    kafka.stop()
    work()
    kafka.start()


def _admin(rig: Rig) -> AdminClient:
    return AdminClient(kafka_access(rig.pipeline.settings).config())


def _recreate(rig: Rig) -> None:
    topic, admin = rig.pipeline.topic, _admin(rig)
    admin.delete_topics([topic])[topic].result()

    def created() -> bool:
        """The broker forgets a topic some time after it has answered that it is deleted."""
        create_topic(rig.pipeline.values["KAFKA_BOOTSTRAP_SERVERS"], topic, PARTITIONS, kind)
        metadata = admin.list_topics(topic, timeout=10).topics[topic]
        return metadata.error is None and len(metadata.partitions) == PARTITIONS

    kind = "LogAppendTime"
    wait_until(created, _NOTICED_S, "the topic could not be created again")


def partitions_added(kafka: Kafka, rig: Rig) -> None:
    """The topic gets more partitions beneath a flow that takes all: it takes the new ones too."""
    begin(rig, 10)
    rig.start_flow("")
    rig.start_edge()
    client = start_client(rig, 0.5)
    until_load(rig)
    _add_partitions(rig)
    finish(rig, client, calm=False)
    _check_spread(rig)


def partitions_added_to_a_fleet(kafka: Kafka, rig: Rig) -> None:
    """The same where each flow has a range: they say that nobody takes the new ones, and what to
    do; another flow takes them from their beginning.
    """
    begin(rig, 11)
    rig.start_flow("0-1")
    flow = rig.start_flow("2-3")
    rig.start_edge()
    client = start_client(rig, 0.5)
    until_load(rig)
    _add_partitions(rig)
    rig.until(
        lambda: "no flow takes these partitions" in flow.child.log.read_text(),
        "a flow reports that no flow reads the new partitions",
        _TOLD_S,
    )
    doctor = rig.pipeline.iot("doctor")
    if doctor.returncode == 0 or "KAFKA_PARTITIONS" not in doctor.stdout:
        raise DifferenceError(f"iot doctor did not report it: {doctor.stdout}")
    rig.start_flow(f"{PARTITIONS}-{_MORE - 1}")
    finish(rig, client, calm=False)
    _check_spread(rig)


def _add_partitions(rig: Rig) -> None:
    topic, admin = rig.pipeline.topic, _admin(rig)
    admin.create_partitions([NewPartitions(topic, _MORE)])[topic].result()
    rig.partitions = _MORE
    rig.stop("edge")
    rig.start_edge()  # else it would know them only some minutes later


def _check_spread(rig: Rig) -> None:
    """Raise DifferenceError unless devices have posted to the new partitions."""
    if max(rig.ends()[PARTITIONS:]) < 2:  # the last record of a log is one
        raise DifferenceError("nothing was posted to the new partitions")


def transaction_markers(kafka: Kafka, rig: Rig) -> None:
    """Partitions end with the markers of transactions: the flow sees their end, judges what came
    last, and all is committed.
    """
    ranges = {"warning": (0, 80), "critical": (-10, 90)}
    spec = SensorSpec("last", "temperature", "°C", ranges)
    device = register(rig.pipeline.database, "last", [spec])
    begin(rig, 12)
    rig.start_flow("0-3")
    rig.start_edge()
    until_posted(rig, start_client(rig, 0.05))
    ((sensor, number),) = rig.pipeline.rows("SELECT id, device_id FROM sensors WHERE name = 'last'")
    now = time_ns() // 1000
    moments: list[int] = [now - 100_000 * before for before in range(60, 0, -1)]
    far = Packet(
        packet_id="far", device_id=number, device_uuid=device.uuid, received_at=now,
        sensor_id=[sensor] * len(moments), ts=moments, device_ts=list(moments),
        value=[95.0] * len(moments), seq=[0] * len(moments),
    )  # fmt: skip
    _transactions(rig, far)
    rig.until(rig.taken, "the markers are taken for the end", _TOLD_S)
    rig.until(
        lambda: bool(rig.pipeline.rows(f"SELECT 1 FROM ml_events WHERE sensor_id = {sensor}")),
        "what came last is judged",
        _TOLD_S,
    )
    rig.end_log()
    rig.until(rig.taken, "the log is taken")
    rig.stop()
    check_calm(rig)
    stored = f"FROM sensor_readings WHERE sensor_id = {sensor}"
    if rig.pipeline.rows(f"SELECT count(*) {stored}") != [(len(moments),)]:
        raise DifferenceError("the readings of the transaction are not stored once")
    rig.pipeline.rows(f"DELETE {stored}")
    check_stored(rig)


def _transactions(rig: Rig, packet: Packet) -> None:
    """Put the packet on partition 0, in a transaction that is committed and reaches all partitions;
    and nothing but markers, in one that is aborted.
    """
    nothing = replace(
        packet, packet_id="aborted", sensor_id=[], ts=[], device_ts=None, value=[], seq=[]
    )
    access = kafka_access(rig.pipeline.settings)
    producer = Producer(access.config() | {"transactional.id": rig.pipeline.topic})
    producer.init_transactions(30)
    for packets in ([packet], []):
        producer.begin_transaction()
        for partition in range(PARTITIONS):
            for sent in packets if partition == 0 else [nothing]:
                producer.produce(rig.pipeline.topic, encode(sent), partition=partition)
        assert producer.flush(30) == 0
        if packets:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)


def dead_letter_topic_deleted(kafka: Kafka, rig: Rig) -> None:
    """The dead-letter topic is deleted beneath the flow, and a record comes that is no packet: the
    topic is made again, the record is there with key and headers, and nothing else waits for long.
    """
    begin(rig, 13)
    rig.start_flow("0-3")
    rig.start_edge()
    client = start_client(rig, 0.3)
    until_load(rig)
    settings = rig.pipeline.settings
    dead = settings.dead_letter_topic
    admin = _admin(rig)
    admin.delete_topics([dead])[dead].result()
    producer = Producer(kafka_access(settings).config())
    value, key = b"\xc1 no packet", b"a key"
    trace: list[tuple[str, str | bytes | None]] = [("trace", b"1")]
    for partition in range(PARTITIONS):
        producer.produce(rig.pipeline.topic, value, key, partition, headers=trace)
    assert producer.flush(30) == 0
    finish(rig, client)
    consumer = Consumer(
        kafka_access(settings).config() | {"group.id": "looks", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([dead])
    messages = consumer.consume(PARTITIONS, 20)
    consumer.close()
    for message in messages:
        headers = list(message.headers() or ())
        if (message.value(), message.key()) != (value, key) or trace[0] not in headers:
            raise DifferenceError(f"a dead letter has changed: {message.value()!r}")
    if len(messages) < PARTITIONS:
        raise DifferenceError(f"{len(messages)} of {PARTITIONS} bad records are dead letters")
