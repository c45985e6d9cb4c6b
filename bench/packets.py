"""Fills a topic with readings of many devices; the same readings each time, except for the date."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from contract.columns import Floats
from contract.errors import SetupError
from contract.packet import Packet, encode
from runtime.kafka import KafkaAccess
from runtime.topic import PARTITIONS

SENSORS_A_DEVICE = 10
"""Also the readings per packet: one of each sensor."""
MEAN, DEVIATION = 20.0, 2.0
"""Of every sensor's values, which are independent and normally distributed."""
_ARRIVAL_MS = 5
"""Time from the device to the topic."""
_ANSWER_S = 20.0
_FLUSH_S = 60.0
_SILENT = "no response"


@dataclass(frozen=True, slots=True)
class Shape:
    """The number of sensors, their period, and the total number of readings."""

    sensors: int
    period_ms: int
    """Time between two readings of a sensor."""
    readings: int

    @property
    def span_ms(self) -> int:
        """The event time that the readings span."""
        return self.readings * self.period_ms // self.sensors


def device_packets(
    shape: Shape, start_ms: int, values: Callable[[int], Floats] | None = None
) -> Iterator[Packet]:
    """The packets, ordered by time. The sensors of a device are read at the same moment, and the
    devices are spread over the period. Readings have device timestamps.

    `values` returns the next (SENSORS_A_DEVICE,) values of a device; by default they are normally
    distributed.
    """
    devices = shape.sensors // SENSORS_A_DEVICE
    random = np.random.default_rng(1)
    for number in range(shape.readings // SENSORS_A_DEVICE):
        turn, device = divmod(number, devices)
        ts = (start_ms + turn * shape.period_ms + device * shape.period_ms // devices) * 1000
        if values is None:
            drawn = random.normal(MEAN, DEVIATION, SENSORS_A_DEVICE)
        else:
            drawn = values(device)
        value = drawn.round(3).tolist()
        first = device * SENSORS_A_DEVICE
        yield Packet(
            packet_id=f"{number:032x}",
            device_id=device,
            device_uuid=str(UUID(int=(0xBE << 100) + device)),
            received_at=ts + _ARRIVAL_MS * 1000,
            sensor_id=list(range(first, first + SENSORS_A_DEVICE)),
            ts=[ts] * SENSORS_A_DEVICE,
            device_ts=[ts] * SENSORS_A_DEVICE,
            value=value,
            seq=[0] * SENSORS_A_DEVICE,
        )


def make_topic(
    kafka: KafkaAccess,
    topic: str,
    packets: Iterable[Packet],
    encode: Callable[[Packet], bytes] = encode,
) -> None:
    """Create and fill the topic, with the packets' own times as the arrival times of the records.

    Raises:
        SetupError: the broker refused, or lost a record.
    """
    new = NewTopic(topic, PARTITIONS, config={"message.timestamp.type": "CreateTime"})
    admin = AdminClient(kafka.config())  # keep a reference: its futures need it
    try:
        admin.create_topics([new])[topic].result(_ANSWER_S)
    except (KafkaException, TimeoutError) as error:
        raise SetupError(
            f"KAFKA_BOOTSTRAP_SERVERS: the broker at {kafka.brokers} did not create the topic: "
            f"{str(error) or _SILENT}"
        ) from error
    lost: list[KafkaError] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            lost.append(error)

    producer = Producer(
        kafka.config()
        | {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 20,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "on_delivery": delivered,
        }
    )
    for packet in packets:
        arguments = (topic, encode(packet), packet.device_uuid)
        while True:
            try:
                producer.produce(*arguments, timestamp=packet.received_at // 1000)
                break
            except BufferError:  # the client's queue is full
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(_FLUSH_S) or lost:
        raise SetupError(f"the broker at {kafka.brokers} lost records: {lost[:1] or _SILENT}")


def delete_topics(kafka: KafkaAccess, topics: list[str], progress: Callable[[str], None]) -> None:
    """Delete the topics of `make_topic`, and report those that could not be deleted."""
    if not topics:
        return
    admin = AdminClient(kafka.config())  # keep a reference: its futures need it
    for topic, answer in admin.delete_topics(topics).items():
        try:
            answer.result(_ANSWER_S)
        except (KafkaException, TimeoutError) as error:
            progress(f"topic {topic} could not be deleted: {str(error) or _SILENT}")
