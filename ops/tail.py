"""Print the records on the topic, of both record versions, in a readable form."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, TopicPartition

from contract.errors import RecordError, SetupError
from contract.packet import decode, unpack
from contract.settings import Settings
from runtime.kafka import kafka_access
from runtime.reach import cluster_metadata, why_no_answer

_POLL_S = 0.2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Line = dict[str, Any]
"""A reading, or a record that is not a packet, as `--json` prints it."""


def tail_readings(
    settings: Settings, *, begin: bool, limit: int | None, wait_s: float | None
) -> Iterator[Line]:
    """Yield the readings on the topic as they arrive.

    Starts now or, with `begin`, at the oldest record. Ends after `limit` lines, or after `wait_s`
    seconds without a record. No offsets are committed, so flows are not affected.

    Raises:
        IotError: no broker answers (the type depends on the cause), or the topic does not exist.
    """
    kafka, topic = kafka_access(settings), settings.kafka_topic
    partitions = cluster_metadata(kafka, topic).topics[topic].partitions
    if not partitions:
        raise SetupError(f"KAFKA_TOPIC: the broker has no topic {topic}")
    consumer = Consumer(
        kafka.config() | {"group.id": f"iot-tail-{uuid4().hex}", "enable.auto.commit": False}
    )
    start = OFFSET_BEGINNING if begin else OFFSET_END
    consumer.assign([TopicPartition(topic, number, start) for number in sorted(partitions)])
    try:
        yield from _taken(consumer, limit, wait_s)
    except KafkaException as error:
        raise why_no_answer(kafka, topic) from error
    finally:
        consumer.close()


def _taken(consumer: Consumer, limit: int | None, wait_s: float | None) -> Iterator[Line]:
    count, since = 0, monotonic()
    while wait_s is None or monotonic() - since < wait_s:
        message = consumer.poll(_POLL_S)
        if message is None:
            continue
        if (error := message.error()) is not None:
            if not error.retriable():
                raise KafkaException(error)
            continue
        since = monotonic()
        where = {"partition": message.partition(), "offset": message.offset()}
        for line in _lines(message.value(), message.timestamp()[1]):
            yield line | where
            count += 1
            if count == limit:
                return


def _lines(value: bytes | None, arrival: int) -> Iterator[Line]:
    try:
        record = decode(value)
        packet = unpack(record)
    except RecordError as error:
        yield {"arrival": _text(arrival * 1000), "error": f"not a packet: {error}"}
        return
    for index, sensor in enumerate(packet.sensor_id):
        said = packet.device_ts[index] if packet.device_ts else None
        yield {
            "ts": _text(packet.ts[index]),
            "device_id": packet.device_id,
            "sensor_id": sensor,
            "value": packet.value[index],
            "seq": packet.seq[index],
            "device_ts": None if said is None else _text(said),
            "received_at": _text(packet.received_at),
            "arrival": _text(arrival * 1000),
            "packet_id": packet.packet_id,
            "v": record.v,
        }


def _text(us: int) -> str:
    try:
        moment = _EPOCH + timedelta(microseconds=us)
    except OverflowError:
        return f"{us} us"
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def reading_text(line: Line) -> str:
    """Format a line for a terminal.

    >>> reading_text({"error": "not a packet: empty", "arrival": "A", "partition": 1, "offset": 7})
    'A  not a packet: empty  (1:7)'
    """
    place = f"({line['partition']}:{line['offset']})"
    if "error" in line:
        return f"{line['arrival']}  {line['error']}  {place}"
    dated = "" if line["device_ts"] == line["ts"] else "  undated"
    if line["device_ts"] is not None and dated:
        dated = f"  device said {line['device_ts']}"
    return (
        f"{line['ts']}  device {line['device_id']}  sensor {line['sensor_id']}  "
        f"{line['value']:g}{dated}  {place}"
    )
