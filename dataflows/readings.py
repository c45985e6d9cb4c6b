"""The main flow: `python -m bytewax.run "dataflows.readings:flow()"`."""

import os
import signal
import sys
from functools import partial
from types import FrameType
from typing import Any, TypeGuard

import bytewax.operators as op
import structlog
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource
from bytewax.outputs import Sink

from contract.columns import PacketColumns
from contract.errors import IotError
from contract.event import Event
from contract.log import configure_log
from contract.settings import load_settings
from contract.topic import ensure_topic
from dataflows.dead_letters import DeadLetterSink
from dataflows.decode import BadRecord, decode_records
from dataflows.duplicates import DuplicateLogic
from dataflows.rules import load_rules
from dataflows.source import PacketSource, Records
from dataflows.watch import PartitionLogic, Watch
from sinks.events import events_sink
from sinks.readings import readings_sink

_log = structlog.get_logger("flow")


def graph(
    source: FixedPartitionedSource[tuple[str, Records], int],
    watch: Watch,
    readings: Sink[tuple[str, PacketColumns]],
    events: Sink[tuple[str, Event]],
    dead_letters: Sink[Any],
) -> Dataflow:
    """The dataflow. The key of every stream is the partition of the topic."""
    flow = Dataflow("readings")
    records = op.input("consume", flow, source)
    # (partition, Records)
    decoded = op.flat_map_value("decode", records, decode_records)
    # (partition, PacketColumns | BadRecord)
    split = op.branch("sort_out", decoded, _is_packets)
    # trues: (partition, PacketColumns), falses: (partition, BadRecord)
    op.output("bury", split.falses, dead_letters)
    packets = op.stateful_batch("mark_duplicates", split.trues, DuplicateLogic)
    # (partition, PacketColumns)
    op.output("store_readings", packets, readings)
    changes = op.stateful_batch("watch", packets, partial(PartitionLogic, watch))
    # (partition, Event)
    op.output("store_events", changes, events)
    return flow


def _is_packets(
    item: tuple[str, PacketColumns | BadRecord],
) -> TypeGuard[tuple[str, PacketColumns]]:
    return isinstance(item[1], PacketColumns)


def flow() -> Dataflow:
    """The dataflow of this installation, by its settings.

    Checks settings, database and broker first; what is wrong ends the process with one line and
    exit code 1. SIGTERM and Ctrl-C end the flow after the batch in hand, with a snapshot.
    """
    configure_log()
    try:
        settings = load_settings()
        brokers = settings.brokers
        rules = load_rules(settings)
        partitions = ensure_topic(brokers, settings.kafka_topic)
        ensure_topic(brokers, settings.dead_letter_topic, {"max.message.bytes": "4194304"})
    except IotError as error:
        sys.exit(str(error))
    stopping = _Stop()
    _log.info(
        "flow starts",
        topic=settings.kafka_topic,
        partitions=partitions,
        database=settings.database,
        rules=len(rules.rule),
    )
    return graph(
        PacketSource(brokers, settings.kafka_topic, settings.start_from, stopping.asked),
        Watch(rules, settings.grace_ms, settings.idle_close_ms, settings.iot_lang),
        readings_sink(settings),
        events_sink(settings),
        DeadLetterSink(brokers, settings.dead_letter_topic),
    )


class _Stop:
    """The first SIGTERM or SIGINT asks the source to end; a second one ends the process."""

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def asked(self) -> bool:
        return self._asked

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            os._exit(128 + number)
        self._asked = True
        _log.info("flow stops after the batch in hand, with a snapshot")
