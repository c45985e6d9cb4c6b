"""The main flow: `python -m bytewax.run "dataflows.readings:flow()"`."""

from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource
from bytewax.operators import KeyedStream
from bytewax.outputs import Sink

from contract.columns import PacketColumns
from contract.event import Event
from contract.predictions import Predictions
from contract.rollups import Rollups, StaleRollups
from dataflows.engine.duplicates import DuplicateLogic
from dataflows.engine.engine import Outcome
from dataflows.engine.partition_step import PartitionLogic, Watch
from dataflows.log.dead_letters import DeadLetterSink
from dataflows.log.decode import BadRecord, decode_records
from dataflows.log.source import Records
from dataflows.startup import open_installation
from dataflows.state.stores import CONSUME, FLOW, MARK, WATCH
from sinks.events import events_sink
from sinks.predictions import predictions_sink
from sinks.readings import readings_sink
from sinks.rollups import rollups_sink


@dataclass(frozen=True, slots=True)
class Sinks:
    """The sinks of the flow's streams."""

    readings: Sink[tuple[str, PacketColumns | StaleRollups]]
    rollups: Sink[tuple[str, Rollups]]
    predictions: Sink[tuple[str, Predictions]]
    events: Sink[tuple[str, Event]]
    dead_letters: Sink[Any]


@dataclass(frozen=True, slots=True)
class Streams:
    """The flow's streams. The key of every stream is the partition of the topic."""

    bad: KeyedStream[Any]
    """Items are BadRecord."""
    readings: KeyedStream[PacketColumns]
    """The decoded packets, with duplicates marked."""
    stale: KeyedStream[StaleRollups]
    """Computed again once the readings are stored."""
    events: KeyedStream[Event]
    rollups: KeyedStream[Rollups]
    predictions: KeyedStream[Predictions]


def streams(
    flow: Dataflow, source: FixedPartitionedSource[tuple[str, Records], Any], watch: Watch
) -> Streams:
    """The steps from the source to the streams that are stored."""
    records = op.input(CONSUME, flow, source)
    # (partition, Records)
    decoded = op.flat_map_value("decode", records, decode_records)
    # (partition, PacketColumns | BadRecord)
    split = op.branch("sort_out", decoded, _is_packets)
    # trues: (partition, PacketColumns), falses: (partition, BadRecord)
    packets = op.stateful_batch(MARK, split.trues, DuplicateLogic)
    # (partition, PacketColumns)
    outcomes = op.stateful_batch(WATCH, packets, partial(PartitionLogic, watch))
    # (partition, Outcome)
    return Streams(
        bad=split.falses,
        readings=packets,
        stale=op.filter_map_value("pick_stale", outcomes, _stale),
        events=op.flat_map_value("pick_events", outcomes, lambda outcome: outcome.events),
        rollups=op.map_value("pick_rollups", outcomes, lambda outcome: outcome.rollups),
        predictions=op.map_value("pick_predictions", outcomes, lambda outcome: outcome.predictions),
    )


def graph(
    source: FixedPartitionedSource[tuple[str, Records], Any], watch: Watch, sinks: Sinks
) -> Dataflow:
    """The dataflow: `streams`, each with its sink."""
    flow = Dataflow(FLOW)
    made = streams(flow, source, watch)
    op.output("bury", made.bad, sinks.dead_letters)
    op.output("store_readings", op.merge("to_store", made.readings, made.stale), sinks.readings)
    op.output("store_events", made.events, sinks.events)
    op.output("store_rollups", made.rollups, sinks.rollups)
    op.output("store_predictions", made.predictions, sinks.predictions)
    return flow


def _stale(outcome: Outcome) -> StaleRollups | None:
    return outcome.stale if len(outcome.stale) else None


def _is_packets(
    item: tuple[str, PacketColumns | BadRecord],
) -> TypeGuard[tuple[str, PacketColumns]]:
    return isinstance(item[1], PacketColumns)


def flow() -> Dataflow:
    """The dataflow of this installation, from its settings. See `dataflows.startup` for the checks
    before it runs and for how it ends.
    """
    here = open_installation()
    return graph(
        here.source,
        here.watch,
        Sinks(
            readings=readings_sink(here.settings, here.topic_id, progress=True),
            rollups=rollups_sink(here.settings),
            predictions=predictions_sink(here.settings),
            events=events_sink(here.settings),
            dead_letters=DeadLetterSink(
                here.kafka, here.settings.dead_letter_topic, here.stop.check
            ),
        ),
    )
