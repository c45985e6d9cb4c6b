"""The topic at which the edge and the dataflow meet: reaching it, and creating it when missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic, sleep

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    ClusterMetadata,
    ConfigResource,
    NewTopic,
    TopicMetadata,
)

from contract.errors import SetupError, UnavailableError
from runtime.kafka import KafkaAccess
from runtime.reach import ANSWER_S, check_reachable, cluster_metadata, why_no_answer

PARTITIONS = 12
_LARGEST = 1_000_000
_KNOWN_S = 10.0
"""How long a new topic may take to be known."""
_STARTING_S = 10.0
"""How long brokers may take to register, before which they hold no replicas."""


@dataclass(frozen=True, slots=True)
class Topic:
    """What the broker says of a topic."""

    name: str
    id: str | None
    """None where the broker gives topics no ids, as the in-memory one."""
    partitions: frozenset[int]


def describe_topic(admin: AdminClient, topic: str) -> Topic | None:
    """The topic as it is now; None where there is none. It is not created by the question.

    Raises:
        KafkaException: the broker does not answer, or answers no such question.
    """
    asked = TopicCollection([topic])
    try:
        found = admin.describe_topics(asked, request_timeout=ANSWER_S)[topic].result()
    except KafkaException as error:
        if error.args[0].name() == "UNKNOWN_TOPIC_OR_PART":
            return None
        raise
    partitions = frozenset(partition.id for partition in found.partitions)
    return Topic(topic, None if found.topic_id is None else str(found.topic_id), partitions)


def ensure_topic(kafka: KafkaAccess, topic: str, config: Mapping[str, str] | None = None) -> int:
    """The number of partitions of `topic`, which is created first when it is missing.

    A new topic gets 12 partitions, log-append time and `config` where the broker takes orders; one
    that creates topics on first use only (the in-memory broker does) decides by itself.

    Raises:
        UnavailableError: no broker answered within 6 s, or it does not know yet what it has made.
        SettingError: no broker lets us in; see `cluster_metadata`.
        SetupError: the broker answered and will not give us the topic, or sends us to an address
            that cannot be reached.
    """
    cluster = cluster_metadata(kafka)
    check_reachable(kafka, cluster, topic)
    admin = AdminClient(kafka.config())
    made = False
    try:
        if topic not in cluster.topics and takes_orders(cluster):
            ours = {"message.timestamp.type": "LogAppendTime"}
            _create(admin, NewTopic(topic, PARTITIONS, config=ours | dict(config or {})))
            made = True
        found = _described(admin, topic)
    except KafkaException as error:
        if error.args[0].name().startswith("_"):  # the client's own: it reached nobody
            raise why_no_answer(kafka, topic) from error
        raise SetupError(
            f"KAFKA_TOPIC: the broker at {kafka.brokers} refuses the topic {topic}: "
            f"{error.args[0].str()}"
        ) from error
    if made and found.error is not None and found.error.name() == "UNKNOWN_TOPIC_OR_PART":
        raise UnavailableError(
            f"KAFKA_TOPIC: the broker at {kafka.brokers} has made the topic {topic}, and does "
            "not know it yet; start again"
        )
    if found.error is not None or not found.partitions:
        raise SetupError(
            f"KAFKA_TOPIC: the broker at {kafka.brokers} has no topic {topic}, and does "
            f"not let us create it: {found.error.str() if found.error else 'no partitions'}"
        )
    return len(found.partitions)


def _create(admin: AdminClient, new: NewTopic) -> None:
    """Create the topic unless it is there. Brokers that are starting cannot hold its replicas yet:
    they have some seconds.
    """
    end = monotonic() + _STARTING_S
    while True:
        try:
            admin.create_topics([new], request_timeout=ANSWER_S)[new.topic].result()
        except KafkaException as error:
            name = error.args[0].name()
            if name == "TOPIC_ALREADY_EXISTS":
                return
            if name != "INVALID_REPLICATION_FACTOR" or monotonic() > end:
                raise
            sleep(0.2)
        else:
            return


def takes_orders(cluster: ClusterMetadata) -> bool:
    """The in-memory broker does not: it answers neither questions nor orders of an admin client."""
    return cluster.controller_id in cluster.brokers


def _described(admin: AdminClient, topic: str) -> TopicMetadata:
    """What the broker knows of the topic; one that it has just made takes a moment to be known."""
    end = monotonic() + _KNOWN_S
    while True:
        found = admin.list_topics(topic, timeout=ANSWER_S).topics[topic]
        if found.error is None or monotonic() > end:
            return found
        sleep(0.1)


def check_dated_by_broker(kafka: KafkaAccess, topic: str) -> None:
    """Check that the topic's records have the broker's time, where the broker says so.

    Raises:
        SetupError: they have their producers'.
    """
    kind = _config(kafka, topic, "message.timestamp.type")
    if kind == "CreateTime":
        raise SetupError(
            f"the topic {topic} has message.timestamp.type=CreateTime: its records have the times "
            "of their producers' clocks, and arrival times are wrong where those are. Run "
            f"`kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config "
            "message.timestamp.type=LogAppendTime`, or set IF_CREATE_TIME=accept"
        )


def largest_record(kafka: KafkaAccess, topic: str) -> int:
    """The bytes of the largest batch of records that the topic takes (its `max.message.bytes`);
    the library's own limit of 1 000 000 where the broker does not say.
    """
    found = _config(kafka, topic, "max.message.bytes")
    return int(found) if found is not None and found.isdigit() else _LARGEST


def _config(kafka: KafkaAccess, topic: str, name: str) -> str | None:
    """A topic's setting; None where the broker does not say."""
    admin = AdminClient(kafka.config())
    asked = ConfigResource(ConfigResource.Type.TOPIC, topic)
    try:
        if not takes_orders(admin.list_topics(timeout=ANSWER_S)):
            return None
        found = admin.describe_configs([asked], request_timeout=ANSWER_S)[asked].result()
        return str(found[name].value)
    except (KafkaException, KeyError):
        return None
