"""One process of `python -m bench scale`: the flow over a topic, with sinks that drop their input.

`python -m bench.scale_child PLAN`, a `ScaleRun` as JSON; the last line of its output is a JSON list
of [seconds on the machine's monotonic clock, readings so far].
"""

import sys
from datetime import timedelta
from typing import Any

import msgspec
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main
from confluent_kafka import Consumer, TopicPartition

from bench.dataflow_child import NullSink, watch
from bench.meter import Meter
from contract.columns import NEVER
from contract.errors import IotError
from contract.settings import load_settings
from dataflows.log.source import PacketSource, Span, consumer_config
from dataflows.metrics import READINGS
from dataflows.readings import Sinks, graph
from runtime.kafka import kafka_access
from runtime.log import configure_log


class ScaleRun(msgspec.Struct, frozen=True):
    """The task of a process."""

    brokers: str
    topic: str
    sensors: int
    partitions: tuple[int, ...]
    """The partitions of the process, or of the whole cluster."""
    recovery: str | None = None
    epoch_s: float = 10.0
    process: int | None = None
    addresses: tuple[str, ...] = ()
    """The addresses of all processes of a cluster."""
    workers: int = 1
    """Threads."""
    until: float = 1.0
    """The share of each partition to read."""


def run(plan: ScaleRun) -> list[tuple[float, int]]:
    """Read the partitions to their end."""
    meter = Meter(0)
    spans = {partition: _span(plan, partition) for partition in plan.partitions}
    kafka = kafka_access(load_settings())
    source = PacketSource(kafka, plan.topic, "earliest", lambda: False, spans=spans)
    null = NullSink()
    flow = graph(source, watch(plan.sensors), Sinks(null, _Judged(meter), null, null, null))
    recovery = plan.recovery and RecoveryConfig(plan.recovery, timedelta(0))  # type: ignore[no-untyped-call]
    options: dict[str, Any] = {
        "epoch_interval": timedelta(seconds=plan.epoch_s),
        "workers_per_process": plan.workers,
    }
    if plan.addresses:
        options |= {"process_id": plan.process, "addresses": list(plan.addresses)}
    cli_main(flow, recovery_config=recovery or None, **options)  # type: ignore[no-untyped-call]
    return meter.marks


class _Judged(DynamicSink[Any]):
    """Drops the output of the partition step, and counts the readings that have passed it. In a
    cluster, the readings sink may be far ahead of this step.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def build(
        self, step_id: str, worker_index: int, worker_count: int
    ) -> StatelessSinkPartition[Any]:
        return _JudgedPartition(self._meter)


class _JudgedPartition(StatelessSinkPartition[Any]):
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def write_batch(self, items: list[Any]) -> None:
        (family,) = READINGS.collect()
        before = self._meter.marks[-1][1] if self._meter.marks else 0
        if new := int(family.samples[0].value) - before:
            self._meter.count(new)


def _span(plan: ScaleRun, partition: int) -> Span:
    consumer = Consumer(consumer_config(kafka_access(load_settings()), plan.topic))
    first, end = consumer.get_watermark_offsets(TopicPartition(plan.topic, partition), timeout=10)
    consumer.close()
    return Span(first, first + int((end - first) * plan.until), NEVER)


def main() -> None:
    """Run the plan on the command line."""
    configure_log()
    try:
        marks = run(msgspec.json.decode(sys.argv[1], type=ScaleRun))
    except IotError as error:
        sys.exit(str(error))
    print(msgspec.json.encode(marks).decode())


if __name__ == "__main__":
    main()
