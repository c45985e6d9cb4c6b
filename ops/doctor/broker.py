"""Checks of the broker and the two topics, as far as the broker describes them."""

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import stamina
from confluent_kafka import Consumer, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AclOperation,
    AdminClient,
    ClusterMetadata,
    ConfigResource,
    TopicMetadata,
)

from contract.errors import UnavailableError
from contract.partitions import partitions_text
from contract.settings import Settings
from dataflows.log import group, untaken
from ops.doctor.finding import Finding, State, guarded
from runtime.kafka import KafkaAccess, kafka_access
from runtime.reach import check_reachable, cluster_metadata
from runtime.topic import PARTITIONS

_ANSWER_S = 6.0
_DAY_MS = 86_400_000
_ALTER = "kafka-configs.sh --alter --entity-type topics --entity-name {} --add-config {}"


def check_broker(settings: Settings) -> Iterator[Finding]:
    """Check that the broker answers and that the topics are what edge and flow need.

    Raises:
        IotError: no broker is configured, or none answers. The type depends on the cause.
    """
    kafka = kafka_access(settings)
    cluster = cluster_metadata(kafka)
    check_reachable(kafka, cluster, settings.kafka_topic)
    admin = AdminClient(kafka.config())
    count = len(cluster.brokers)
    text = f"{kafka.brokers} answers over {kafka.protocol}, {count} broker{'s' * (count > 1)}"
    yield Finding(State.OK, "broker", text)
    topic = cluster.topics.get(settings.kafka_topic)
    yield from guarded("topic", _topic(settings, topic))
    yield from guarded("partitions", _partitions(settings, topic))
    if topic is not None:
        yield from guarded("partitions", _untaken(kafka, settings.kafka_topic, topic))
    if not _has_controller(cluster):
        text = "not available from this broker; the in-memory broker is for demos and keeps nothing"
        yield Finding(State.WARN, "topic settings", text)
        return
    if topic is not None:
        yield from guarded("topic settings", _topic_settings(admin, settings.kafka_topic))
        yield from guarded("rights", _rights(admin, settings.kafka_topic, _EDGE_AND_FLOW))
        yield from guarded("rights", _group_rights(admin, f"{settings.kafka_topic}.flow"))
    yield from guarded("dead letters", _dead_letters(admin, settings.dead_letter_topic, cluster))


def _has_controller(cluster: ClusterMetadata) -> bool:
    return cluster.controller_id in cluster.brokers


def _topic(settings: Settings, topic: TopicMetadata | None) -> Iterator[Finding]:
    name = settings.kafka_topic
    if topic is None:
        text = (
            f"KAFKA_TOPIC: the broker has no topic {name}: edge and flow create it on start, with "
            f"{PARTITIONS} partitions, if they are allowed to"
        )
        yield Finding(State.WARN, "topic", text)
        return
    leaderless = frozenset(n for n, partition in topic.partitions.items() if partition.leader < 0)
    if leaderless:
        text = f"{name}: partition {partitions_text(leaderless)} has no leader: start its broker"
        yield Finding(State.FAIL, "topic", text)
    else:
        yield Finding(State.OK, "topic", f"{name} has {len(topic.partitions)} partitions")


def _partitions(settings: Settings, topic: TopicMetadata | None) -> Iterator[Finding]:
    existing = frozenset(range(PARTITIONS) if topic is None else topic.partitions)
    wanted = settings.partitions
    if wanted is None:
        yield Finding(State.OK, "partitions", "a flow here reads all of them")
    elif missing := wanted - existing:
        text = (
            f"KAFKA_PARTITIONS: {settings.kafka_topic} has no partition {partitions_text(missing)}"
            f", it has {partitions_text(existing)}: correct the setting"
        )
        yield Finding(State.FAIL, "partitions", text)
    else:
        text = f"a flow here reads {partitions_text(wanted)}; make sure that others read the rest"
        yield Finding(
            State.OK, "partitions", text if wanted < existing else "a flow here reads all"
        )


def _untaken(kafka: KafkaAccess, name: str, topic: TopicMetadata) -> Iterator[Finding]:
    """Check that a flow reads every partition, if a flow has run at all."""
    consumer = Consumer(kafka.config() | {"group.id": group(name), "enable.auto.commit": False})
    try:
        every = frozenset(topic.partitions)
        unread = untaken(consumer, name, every)
    finally:
        consumer.close()
    if unread and unread != every:
        text = (
            f"no flow reads partition {partitions_text(unread)} of {name}, which has records: "
            "assign it to a process (KAFKA_PARTITIONS), or start `iot run` without that setting"
        )
        yield Finding(State.FAIL, "partitions", text)


def _topic_settings(admin: AdminClient, topic: str) -> Iterator[Finding]:
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    futures = admin.describe_configs([resource], request_timeout=_ANSWER_S)
    values = {name: entry.value for name, entry in _answer(futures[resource], topic).items()}
    kind = values["message.timestamp.type"]
    if kind == "LogAppendTime":
        yield Finding(State.OK, "timestamps", f"{topic} records the broker's arrival time")
    else:
        text = (
            f"{topic} has message.timestamp.type={kind}: arrival times come from the senders' "
            "clocks, and a replay may produce different events. Run "
            + _ALTER.format(topic, "message.timestamp.type=LogAppendTime")
        )
        yield Finding(State.FAIL, "timestamps", text)
    if "compact" in values["cleanup.policy"]:
        text = (
            f"{topic} has cleanup.policy={values['cleanup.policy']}, which keeps only the newest "
            "record of each device. Run " + _ALTER.format(topic, "cleanup.policy=delete")
        )
        yield Finding(State.FAIL, "retention", text)
        return
    yield _retention(topic, int(values["retention.ms"]), int(values["retention.bytes"]))


def _retention(topic: str, ms: int, size: int) -> Finding:
    hours = ms / 3_600_000
    time = "forever" if ms < 0 else f"for {hours / 24:.3g} days"
    text = f"{topic} keeps records {time if ms < 0 or ms >= _DAY_MS else f'for {hours:.3g} hours'}"
    if size >= 0:
        text += f", up to {size / 2**20:.3g} MiB per partition"
    if 0 <= ms < _DAY_MS:
        text += (
            "; a flow that is down for longer loses the records in between. Run "
            + _ALTER.format(topic, "retention.ms=604800000")
        )
        return Finding(State.WARN, "retention", text)
    return Finding(State.OK, "retention", text)


_EDGE_AND_FLOW = (AclOperation.READ, AclOperation.WRITE)


def _rights(admin: AdminClient, topic: str, needed: tuple[AclOperation, ...]) -> Iterator[Finding]:
    futures = admin.describe_topics(
        TopicCollection([topic]), include_authorized_operations=True, request_timeout=_ANSWER_S
    )
    allowed = _answer(futures[topic], topic).authorized_operations
    yield _judged(f"the topic {topic}", allowed, needed)


def _group_rights(admin: AdminClient, group: str) -> Iterator[Finding]:
    for attempt in stamina.retry_context(on=UnavailableError, timeout=_ANSWER_S):
        with attempt:  # on the first request the broker creates the topic of all groups
            futures = admin.describe_consumer_groups(
                [group], include_authorized_operations=True, request_timeout=_ANSWER_S
            )
            allowed = _answer(futures[group], group).authorized_operations
    yield _judged(f"the consumer group {group}", allowed, (AclOperation.READ,))


def _judged(
    what: str, allowed: list[AclOperation] | None, needed: tuple[AclOperation, ...]
) -> Finding:
    names = " and ".join(right.name for right in needed)
    if not allowed:
        return Finding(State.OK, "rights", f"{what}: the broker does not report our permissions")
    if missing := [right.name for right in needed if right not in allowed]:
        text = (
            f"{what}: this user does not have {' and '.join(missing)}: grant it with kafka-acls.sh"
        )
        return Finding(State.FAIL, "rights", text)
    return Finding(State.OK, "rights", f"{what}: we have {names}")


def _dead_letters(admin: AdminClient, topic: str, cluster: ClusterMetadata) -> Iterator[Finding]:
    if topic not in cluster.topics:
        text = f"{topic} is missing: the flow creates it on start, if it is allowed to"
        yield Finding(State.WARN, "dead letters", text)
        return
    yield Finding(State.OK, "dead letters", f"the topic {topic} exists")
    yield from _rights(admin, topic, (AclOperation.WRITE,))


def _answer(future: Future[Any], what: str) -> Any:
    """Return what the broker answers about `what`.

    Raises:
        UnavailableError: the broker refuses, or does not answer in time.
    """
    try:
        return future.result(_ANSWER_S + 1)
    except KafkaException as error:
        raise UnavailableError(
            f"{what}: the broker does not describe it: {error.args[0].name()} "
            f"{error.args[0].str()}; try again, or grant this user DESCRIBE"
        ) from error
