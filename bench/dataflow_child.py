"""One measurement of `python -m bench dataflow`, in its own process.

`python -m bench.dataflow_child WHAT BROKERS TOPIC SENSORS PERIOD_MS READINGS START_MS`; the last
line of its output has the numbers.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pickle import dumps
from time import perf_counter, sleep
from typing import Any

from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from confluent_kafka import Consumer, KafkaException, TopicPartition

from bench.builtin import builtin_flow
from bench.meter import Meter, peak_mb
from bench.packets import DEVIATION, MEAN, Shape, device_packets, make_topic
from contract.columns import PacketColumns
from contract.errors import IotError, SetupError
from contract.packet import encode_version_1
from contract.settings import load_settings
from dataflows.engine.duplicates import DuplicateLogic
from dataflows.engine.engine import Times
from dataflows.engine.partition_step import PartitionLogic, Watch
from dataflows.log.decode import decode_records
from dataflows.log.source import PacketSource, Records, consumer_config
from dataflows.readings import Sinks, graph
from dataflows.startup import settle_memory
from rules.columns import Rules
from rules.history import OneEdition
from rules.tables import make_rules
from rules.words import Names
from runtime.kafka import KafkaAccess, kafka_access
from runtime.log import configure_log
from runtime.topic import PARTITIONS

Numbers = tuple[float, ...]
_FAR = 5 * DEVIATION
"""Distance of a threshold from the mean: one reading in 1 700 000 crosses it."""


def our_flow(source: PacketSource, sensors: int, readings: "NullSink") -> Dataflow:
    """The flow as in production, except for its sinks and the source of its rules."""
    null = NullSink()
    return graph(source, watch(sensors), Sinks(readings, null, null, null, null))


def watch(sensors: int) -> Watch:
    """A WARN threshold on every second sensor, hardly ever crossed; otherwise the defaults."""
    rows = [
        {
            "sensor_id": number,
            "condition_type": "out_of_range",
            "threshold_value_min": MEAN - _FAR,
            "threshold_value_max": MEAN + _FAR,
            "severity": "warning",
        }
        for number in range(0, sensors, 2)
    ]
    rules, refused = make_rules({"alert_thresholds": rows})
    assert not refused
    return Watch(OneEdition(Rules(rules), Names()), Times())


def state_bytes(watch: Watch, pieces: Iterable[PacketColumns]) -> int:
    """Size of the pickled snapshots of all stateful steps of a partition after these pieces."""
    duplicates, partition = DuplicateLogic(None), PartitionLogic(watch, None)
    for piece in pieces:
        marked, _ = duplicates.on_batch([piece])
        partition.on_batch(list(marked))
    return len(dumps(duplicates.snapshot())) + len(dumps(partition.snapshot()))


class NullSink(DynamicSink[Any]):
    """Drops all items; counts their readings if there is a meter."""

    def __init__(self, meter: Meter | None = None) -> None:
        self._meter = meter

    def build(
        self, step_id: str, worker_index: int, worker_count: int
    ) -> StatelessSinkPartition[Any]:
        """Nothing to open."""
        return _NullPartition(self._meter)


class _NullPartition(StatelessSinkPartition[Any]):
    def __init__(self, meter: Meter | None) -> None:
        self._meter = meter

    def write_batch(self, items: Sequence[tuple[str, PacketColumns]]) -> None:
        if self._meter:
            readings = sum(len(columns.readings.ts) for _, columns in items)
            if readings:  # else these are heartbeats
                self._meter.count(readings)


def _fill(kafka: KafkaAccess, topic: str, shape: Shape, start_ms: int) -> Numbers:
    make_topic(kafka, topic, device_packets(shape, start_ms))
    return (shape.readings,)


def _fill_1(kafka: KafkaAccess, topic: str, shape: Shape, start_ms: int) -> Numbers:
    """The same in version 1 records."""
    make_topic(kafka, topic, device_packets(shape, start_ms), encode_version_1)
    return (shape.readings,)


def _decode(kafka: KafkaAccess, topic: str, shape: Shape, start_ms: int) -> Numbers:
    """The bare loop: one consumer per partition, whole batches, decoded into columns, dropped."""
    meter = Meter(shape.readings)
    for _, columns in _decoded(kafka, topic, meter):
        meter.count(len(columns.readings.ts))
    return (meter.rate(),)


def _decoder(kafka: KafkaAccess, topic: str, shape: Shape, start_ms: int) -> Numbers:
    """Nanoseconds per reading of the decoder alone, over the whole log."""
    meter, took_s = Meter(shape.readings), 0.0
    for records in _batches(kafka, topic, meter):
        began = perf_counter()
        (columns,) = decode_records(records)
        took_s += perf_counter() - began
        assert isinstance(columns, PacketColumns)
        meter.count(len(columns.readings.ts))
    return (took_s / shape.readings * 1e9,)


def _flow(kafka: KafkaAccess, topic: str, shape: Shape, start_ms: int) -> Numbers:
    """Our flow, one worker, without recovery, until all readings have reached the sink.

    Returns the rate, the CPU seconds per million readings, and the peak memory in MB.
    """
    meter = Meter(shape.readings)
    settle_memory()
    source = PacketSource(kafka, topic, "earliest", meter.full)
    run_main(our_flow(source, shape.sensors, NullSink(meter)))  # type: ignore[no-untyped-call]
    return meter.rate(), meter.cpu_s_per_million(), peak_mb()


def _builtin(kafka: KafkaAccess, topic: str, shape: Shape, start_ms: int) -> Numbers:
    """The baseline with its usual clock, one worker, without recovery, to the end of the topic."""
    return _baseline(kafka, topic, shape, lambda: datetime.now(UTC))


def _builtin_still(kafka: KafkaAccess, topic: str, shape: Shape, start_ms: int) -> Numbers:
    """The baseline with a fixed clock, so that nothing is late."""
    now = datetime.now(UTC)
    return _baseline(kafka, topic, shape, lambda: now)


def _baseline(kafka: KafkaAccess, topic: str, shape: Shape, now: Callable[[], datetime]) -> Numbers:
    meter = Meter(shape.readings)
    run_main(builtin_flow(kafka, topic, meter, NullSink(), now))  # type: ignore[no-untyped-call]
    return (meter.rate(),)


def _state(kafka: KafkaAccess, topic: str, shape: Shape, start_ms: int) -> Numbers:
    """Bytes of state per sensor, after our steps have processed the whole topic."""
    meter = Meter(shape.readings)
    pieces: dict[int, list[PacketColumns]] = {}
    for partition, columns in _decoded(kafka, topic, meter):
        pieces.setdefault(partition, []).append(columns)
        meter.count(len(columns.readings.ts))
    rules = watch(shape.sensors)
    return (
        sum(state_bytes(rules, of_partition) for of_partition in pieces.values()) / shape.sensors,
    )


def _decoded(kafka: KafkaAccess, topic: str, meter: Meter) -> Iterator[tuple[int, PacketColumns]]:
    """(partition, columns) until the meter is full."""
    for records in _batches(kafka, topic, meter):
        for columns in decode_records(records):
            if not isinstance(columns, PacketColumns):
                raise SetupError(f"a record cannot be decoded: {columns.error}")
            yield records.partition, columns


def _batches(kafka: KafkaAccess, topic: str, meter: Meter) -> Iterator[Records]:
    """Records until the meter is full, with the clients and batches of `PacketSource`."""
    consumers = []
    for partition in range(PARTITIONS):
        consumer = Consumer(consumer_config(kafka, topic))
        consumer.assign([TopicPartition(topic, partition, 0)])
        consumers.append(consumer)
    while not meter.full():
        idle = True
        for partition, consumer in enumerate(consumers):
            messages = consumer.consume(1_000, 0)
            if not messages:
                continue
            idle = False
            offsets, arrivals, values = [], [], []
            for message in messages:
                error = message.error()
                if error is not None:
                    raise KafkaException(error)
                offsets.append(message.offset() or 0)
                arrivals.append(message.timestamp()[1])
                values.append(message.value())
            yield Records(topic, partition, offsets, arrivals, values)
        if idle:
            sleep(0.001)
    for consumer in consumers:
        consumer.close()


_WHAT = {
    "fill": _fill,
    "fill_1": _fill_1,
    "decoder": _decoder,
    "decode": _decode,
    "flow": _flow,
    "builtin": _builtin,
    "builtin_still": _builtin_still,
    "state": _state,
}


def main() -> None:
    """Run the measurement that the command line names."""
    configure_log()
    what, topic, *numbers = sys.argv[1:]
    sensors, period_ms, readings, start_ms = map(int, numbers)
    try:
        shape = Shape(sensors, period_ms, readings)
        print(*_WHAT[what](kafka_access(load_settings()), topic, shape, start_ms))
    except IotError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
