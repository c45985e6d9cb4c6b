"""The flow over a span of the log: the live one's steps, cut and stored otherwise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.outputs import Sink

from contract.columns import PacketColumns
from contract.event import Event
from contract.predictions import Predictions
from contract.rollups import Rollups
from contract.settings import Settings
from dataflows.engine import Watch
from dataflows.log import PacketSource
from dataflows.readings import streams
from dataflows.state import FLOW
from ops.replay.cut import Cut
from ops.replay.spans import Part
from ops.replay.tally import Tally
from runtime.kafka import kafka_access
from sinks.predictions import predictions_sink
from sinks.readings import readings_sink
from sinks.rollups import rollups_sink


@dataclass(frozen=True, slots=True)
class RowSinks:
    """Where the rows of the span go, besides events."""

    readings: Sink[tuple[str, PacketColumns]]
    rollups: Sink[tuple[str, Rollups]]
    predictions: Sink[tuple[str, Predictions]]

    @classmethod
    def into(cls, settings: Settings) -> "RowSinks":
        """A database, as the live flow writes it."""
        return cls(readings_sink(settings), rollups_sink(settings), predictions_sink(settings))


def span_source(
    settings: Settings,
    parts: Sequence[Part],
    stop: Callable[[], bool],
    progress: Callable[[int, int, int | None], None],
) -> PacketSource:
    """Reads the parts and ends; nothing is committed, so the live flow does not notice."""
    return PacketSource(
        kafka=kafka_access(settings),
        topic=settings.kafka_topic,
        start="earliest",
        stop=stop,
        if_gone=settings.if_offset_gone,  # retention goes on while we read
        progress=progress,
        spans={part.partition: part.span for part in parts},
    )


def replay_graph(  # noqa: PLR0917 - one for each thing that is chosen
    source: PacketSource,
    watch: Watch,
    cut: Cut,
    tally: Tally,
    events: Sink[tuple[str, Event]],
    rows: RowSinks | None,
) -> Dataflow:
    """The dataflow. All events are stored, as those after the span end some within; of the rows
    those that count, where there is a place for them. Records that cannot be decoded are counted:
    the live flow has buried them.
    """
    flow = Dataflow(FLOW)
    found = streams(flow, source, watch)
    op.output("tally", op.merge("all_records", found.readings, found.bad), tally)
    op.output("store_events", found.events, events)
    if rows is not None:
        op.output("store_readings", op.map("cut", found.readings, cut.readings), rows.readings)
        rollups = op.map("cut_rollups", found.rollups, cut.rollups)
        op.output("store_rollups", rollups, rows.rollups)
        predictions = op.map("cut_predictions", found.predictions, cut.predictions)
        op.output("store_predictions", predictions, rows.predictions)
    return flow
