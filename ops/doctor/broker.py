"""The broker and the two topics, as far as it tells."""

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
    """Whether it answers, and whether the topics are as edge and flow need them.

    Raises:
        IotError: no broker is named, or none answers, by cause.
    """
    kafka = kafka_access(settings)
    cluster = cluster_metadata(kafka)
    check_reachable(kafka, cluster, settings.kafka_topic)
    admin = AdminClient(kafka.config())
    count = len(cluster.brokers)
    text = f"{kafka.brokers} answers by {kafka.protocol}, {count} broker{'s' * (count > 1)}"
    yield Finding(State.OK, "broker", text)
    topic = cluster.topics.get(settings.kafka_topic)
    yield from guarded("topic", _topic(settings, topic))
    yield from guarded("partitions", _partitions(settings, topic))
    if topic is not None:
        yield from guarded("partitions", _untaken(kafka, settings.kafka_topic, topic))
    if not _takes_orders(cluster):
        text = "this broker does not tell them; the in-memory one is for a demo, it keeps nothing"
        yield Finding(State.WARN, "topic settings", text)
        return
    if topic is not None:
        yield from guarded("topic settings", _topic_settings(admin, settings.kafka_topic))
        yield from guarded("rights", _rights(admin, settings.kafka_topic, _EDGE_AND_FLOW))
        yield from guarded("rights", _group_rights(admin, f"{settings.kafka_topic}.flow"))
    yield from guarded("dead letters", _dead_letters(admin, settings.dead_letter_topic, cluster))


def _takes_orders(cluster: ClusterMetadata) -> bool:
    return cluster.controller_id in cluster.brokers


def _topic(settings: Settings, topic: TopicMetadata | None) -> Iterator[Finding]:
    name = settings.kafka_topic
    if topic is None:
        text = (
            f"KAFKA_TOPIC: the broker has no topic {name}: edge and flow make it at their start, "
            f"with {PARTITIONS} partitions, where they may"
        )
        yield Finding(State.WARN, "topic", text)
        return
    leaderless = frozenset(n for n, one in topic.partitions.items() if one.leader < 0)
    if leaderless:
        text = f"{name}: no broker leads partition {partitions_text(leaderless)}: start its broker"
        yield Finding(State.FAIL, "topic", text)
    else:
        yield Finding(State.OK, "topic", f"{name} has {len(topic.partitions)} partitions")


def _partitions(settings: Settings, topic: TopicMetadata | None) -> Iterator[Finding]:
    has = frozenset(range(PARTITIONS) if topic is None else topic.partitions)
    wanted = settings.partitions
    if wanted is None:
        yield Finding(State.OK, "partitions", "a flow here takes all of them")
    elif lacking := wanted - has:
        text = (
            f"KAFKA_PARTITIONS: {settings.kafka_topic} has no partition {partitions_text(lacking)}"
            f", it has {partitions_text(has)}: correct the setting"
        )
        yield Finding(State.FAIL, "partitions", text)
    else:
        text = f"a flow here takes {partitions_text(wanted)}; see that others take the rest"
        yield Finding(State.OK, "partitions", text if wanted < has else "a flow here takes all")


def _untaken(kafka: KafkaAccess, name: str, topic: TopicMetadata) -> Iterator[Finding]:
    """Whether there are partitions that no flow takes, where a flow has run at all."""
    consumer = Consumer(kafka.config() | {"group.id": group(name), "enable.auto.commit": False})
    try:
        every = frozenset(topic.partitions)
        found = untaken(consumer, name, every)
    finally:
        consumer.close()
    if found and found != every:
        text = (
            f"no flow takes partition {partitions_text(found)} of {name}, and there are records: "
            "give it to a process (KAFKA_PARTITIONS), or start `iot run` without that setting"
        )
        yield Finding(State.FAIL, "partitions", text)


def _topic_settings(admin: AdminClient, topic: str) -> Iterator[Finding]:
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    asked = admin.describe_configs([resource], request_timeout=_ANSWER_S)
    values = {name: entry.value for name, entry in _answer(asked[resource], topic).items()}
    kind = values["message.timestamp.type"]
    if kind == "LogAppendTime":
        yield Finding(State.OK, "timestamps", f"{topic} has the broker's time of arrival")
    else:
        text = (
            f"{topic} has message.timestamp.type={kind}, so that a clock of a sender stands in for "
            "the time of arrival, and a replay may lead to other events: "
            + _ALTER.format(topic, "message.timestamp.type=LogAppendTime")
        )
        yield Finding(State.FAIL, "timestamps", text)
    if "compact" in values["cleanup.policy"]:
        text = (
            f"{topic} has cleanup.policy={values['cleanup.policy']}, which throws records of a "
            "device away for its newest: " + _ALTER.format(topic, "cleanup.policy=delete")
        )
        yield Finding(State.FAIL, "retention", text)
        return
    yield _retention(topic, int(values["retention.ms"]), int(values["retention.bytes"]))


def _retention(topic: str, ms: int, size: int) -> Finding:
    hours = ms / 3_600_000
    time = "for ever" if ms < 0 else f"for {hours / 24:.3g} days"
    text = f"{topic} keeps records {time if ms < 0 or ms >= _DAY_MS else f'for {hours:.3g} hours'}"
    if size >= 0:
        text += f", and {size / 2**20:.3g} MiB a partition at most"
    if 0 <= ms < _DAY_MS:
        text += "; a flow that stands still for longer loses what came meanwhile: " + _ALTER.format(
            topic, "retention.ms=604800000"
        )
        return Finding(State.WARN, "retention", text)
    return Finding(State.OK, "retention", text)


_EDGE_AND_FLOW = (AclOperation.READ, AclOperation.WRITE)


def _rights(admin: AdminClient, topic: str, needed: tuple[AclOperation, ...]) -> Iterator[Finding]:
    asked = admin.describe_topics(
        TopicCollection([topic]), include_authorized_operations=True, request_timeout=_ANSWER_S
    )
    found = _answer(asked[topic], topic).authorized_operations
    yield _judged(f"the topic {topic}", found, needed)


def _group_rights(admin: AdminClient, group: str) -> Iterator[Finding]:
    for attempt in stamina.retry_context(on=UnavailableError, timeout=_ANSWER_S):
        with attempt:  # the first question about any group has the broker make their topic
            asked = admin.describe_consumer_groups(
                [group], include_authorized_operations=True, request_timeout=_ANSWER_S
            )
            found = _answer(asked[group], group).authorized_operations
    yield _judged(f"the consumer group {group}", found, (AclOperation.READ,))


def _judged(
    what: str, found: list[AclOperation] | None, needed: tuple[AclOperation, ...]
) -> Finding:
    names = " and ".join(one.name for one in needed)
    if not found:
        return Finding(State.OK, "rights", f"{what}: the broker does not tell what we may do")
    if lacking := [one.name for one in needed if one not in found]:
        text = f"{what}: this user lacks {' and '.join(lacking)}: grant it with kafka-acls.sh"
        return Finding(State.FAIL, "rights", text)
    return Finding(State.OK, "rights", f"{what}: we have {names}")


def _dead_letters(admin: AdminClient, topic: str, cluster: ClusterMetadata) -> Iterator[Finding]:
    if topic not in cluster.topics:
        text = f"{topic} is missing: the flow makes it at its start, where it may"
        yield Finding(State.WARN, "dead letters", text)
        return
    yield Finding(State.OK, "dead letters", f"the topic {topic} is there")
    yield from _rights(admin, topic, (AclOperation.WRITE,))


def _answer(asked: Future[Any], what: str) -> Any:
    """What the broker says.

    Raises:
        UnavailableError: it says nothing, or not now.
    """
    try:
        return asked.result(_ANSWER_S + 1)
    except KafkaException as error:
        raise UnavailableError(
            f"{what}: the broker does not describe it: {error.args[0].name()} "
            f"{error.args[0].str()}; ask again, or see that this user may DESCRIBE it"
        ) from error
