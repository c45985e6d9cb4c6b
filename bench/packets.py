"""A topic of readings, as many devices would have sent them; the same each time but for the day."""

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
"""And readings a packet: one of each sensor."""
MEAN, DEVIATION = 20.0, 2.0
"""Of every sensor's values, which are independent and normal."""
_ARRIVAL_MS = 5
"""How long a packet takes from the device to the topic."""
_ANSWER_S = 20.0
_FLUSH_S = 60.0
_SILENT = "it does not answer"


@dataclass(frozen=True, slots=True)
class Shape:
    """How many sensors send how often, and how many readings there are of all."""

    sensors: int
    period_ms: int
    """Between two readings of a sensor."""
    readings: int

    @property
    def span_ms(self) -> int:
        """How much event time the readings take."""
        return self.readings * self.period_ms // self.sensors


def device_packets(
    shape: Shape, start_ms: int, values: Callable[[int], Floats] | None = None
) -> Iterator[Packet]:
    """The packets in the order of their time. A device's sensors are read at the same moment,
    the devices in turn within a period; the devices date their readings.

    `values` gives the next (SENSORS_A_DEVICE,) values of a device; without it they are normal.
    """
    devices = shape.sensors // SENSORS_A_DEVICE
    random = np.random.default_rng(1)
    for number in range(shape.readings // SENSORS_A_DEVICE):
        turn, device = divmod(number, devices)
        ts = (start_ms + turn * shape.period_ms + device * shape.period_ms // devices) * 1000
        if values is None:
            found = random.normal(MEAN, DEVIATION, SENSORS_A_DEVICE)
        else:
            found = values(device)
        value = found.round(3).tolist()
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
    """Create the topic and fill it, with the packets' own times as the records' arrival times.

    Raises:
        SetupError: the broker does not let us, or lost a record.
    """
    new = NewTopic(topic, PARTITIONS, config={"message.timestamp.type": "CreateTime"})
    admin = AdminClient(kafka.config())  # the answers die with it
    try:
        admin.create_topics([new])[topic].result(_ANSWER_S)
    except (KafkaException, TimeoutError) as error:
        raise SetupError(
            f"KAFKA_BOOTSTRAP_SERVERS: the broker at {kafka.brokers} does not create topics for "
            f"us: {str(error) or _SILENT}"
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


def delete_topics(kafka: KafkaAccess, topics: list[str], tell: Callable[[str], None]) -> None:
    """Delete what `make_topic` made, or tell what is left and why."""
    if not topics:
        return
    admin = AdminClient(kafka.config())  # the answers die with it
    for topic, answer in admin.delete_topics(topics).items():
        try:
            answer.result(_ANSWER_S)
        except (KafkaException, TimeoutError) as error:
            tell(f"topic {topic} could not be deleted: {str(error) or _SILENT}")
