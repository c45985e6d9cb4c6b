"""The topic between edge and flow: describe it, and create it if it is missing."""

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
"""How long a broker may take to know a new topic."""
_STARTING_S = 10.0
"""How long brokers may take to register. Until then they cannot hold replicas."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the broker describes it."""

    name: str
    id: str | None
    """None if the broker has no topic ids, like the in-memory broker."""
    partitions: frozenset[int]


def describe_topic(admin: AdminClient, topic: str) -> Topic | None:
    """Describe the topic as it is now, without creating it. None if it does not exist.

    Raises:
        KafkaException: the broker does not answer, or does not support the request.
    """
    query = TopicCollection([topic])
    try:
        description = admin.describe_topics(query, request_timeout=ANSWER_S)[topic].result()
    except KafkaException as error:
        if error.args[0].name() == "UNKNOWN_TOPIC_OR_PART":
            return None
        raise
    partitions = frozenset(partition.id for partition in description.partitions)
    return Topic(
        topic, None if description.topic_id is None else str(description.topic_id), partitions
    )


def ensure_topic(kafka: KafkaAccess, topic: str, config: Mapping[str, str] | None = None) -> int:
    """Create `topic` if it is missing, and return its number of partitions.

    A new topic gets 12 partitions, log-append time and `config`, if the broker accepts admin
    requests. A broker that only creates topics on first use, like the in-memory one, uses its own
    defaults.

    Raises:
        UnavailableError: no broker answered within 6 s, or it does not know the new topic yet.
        SettingError: no broker accepts us, see `cluster_metadata`.
        SetupError: the broker refuses the topic, or redirects us to an address that cannot be
            reached.
    """
    cluster = cluster_metadata(kafka)
    check_reachable(kafka, cluster, topic)
    admin = AdminClient(kafka.config())
    created = False
    try:
        if topic not in cluster.topics and takes_orders(cluster):
            ours = {"message.timestamp.type": "LogAppendTime"}
            _create(admin, NewTopic(topic, PARTITIONS, config=ours | dict(config or {})))
            created = True
        metadata = _described(admin, topic)
    except KafkaException as error:
        if error.args[0].name().startswith("_"):  # an error of the client: it reached no broker
            raise why_no_answer(kafka, topic) from error
        raise SetupError(
            f"KAFKA_TOPIC: the broker at {kafka.brokers} refuses the topic {topic}: "
            f"{error.args[0].str()}"
        ) from error
    if created and metadata.error is not None and metadata.error.name() == "UNKNOWN_TOPIC_OR_PART":
        raise UnavailableError(
            f"KAFKA_TOPIC: the broker at {kafka.brokers} has created the topic {topic}, but "
            "does not know it yet; start again"
        )
    if metadata.error is not None or not metadata.partitions:
        raise SetupError(
            f"KAFKA_TOPIC: the broker at {kafka.brokers} has no topic {topic}, and does "
            f"not let us create it: {metadata.error.str() if metadata.error else 'no partitions'}"
        )
    return len(metadata.partitions)


def _create(admin: AdminClient, new: NewTopic) -> None:
    """Create the topic if it does not exist.

    Retries for some seconds, because starting brokers cannot hold replicas yet.
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
    """Whether the broker accepts admin requests. The in-memory broker does not."""
    return cluster.controller_id in cluster.brokers


def _described(admin: AdminClient, topic: str) -> TopicMetadata:
    """Fetch the topic's metadata. A broker needs a moment to know a new topic."""
    end = monotonic() + _KNOWN_S
    while True:
        metadata = admin.list_topics(topic, timeout=ANSWER_S).topics[topic]
        if metadata.error is None or monotonic() > end:
            return metadata
        sleep(0.1)


def check_dated_by_broker(kafka: KafkaAccess, topic: str) -> None:
    """Check that the topic's records have the broker's time, if the broker reports it.

    Raises:
        SetupError: the records have their producers' times.
    """
    kind = _config(kafka, topic, "message.timestamp.type")
    if kind == "CreateTime":
        raise SetupError(
            f"the topic {topic} has message.timestamp.type=CreateTime: arrival times come from the "
            "producers' clocks, and are wrong if those are wrong. Run "
            f"`kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config "
            "message.timestamp.type=LogAppendTime`, or set IF_CREATE_TIME=accept"
        )


def largest_record(kafka: KafkaAccess, topic: str) -> int:
    """Size of the largest record batch that the topic accepts (`max.message.bytes`), in bytes.

    The library's limit of 1 000 000 if the broker does not report it.
    """
    limit = _config(kafka, topic, "max.message.bytes")
    return int(limit) if limit is not None and limit.isdigit() else _LARGEST


def _config(kafka: KafkaAccess, topic: str, name: str) -> str | None:
    """A setting of the topic. None if the broker does not report it."""
    admin = AdminClient(kafka.config())
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    try:
        if not takes_orders(admin.list_topics(timeout=ANSWER_S)):
            return None
        values = admin.describe_configs([resource], request_timeout=ANSWER_S)[resource].result()
        return str(values[name].value)
    except (KafkaException, KeyError):
        return None
