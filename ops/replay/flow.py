"""The flow over a span of the log: the live flow's steps, with other inputs and outputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.outputs import Sink

from contract.columns import PacketColumns
from contract.event import Event
from contract.predictions import Predictions
from contract.rollups import Rollups, StaleRollups
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
    """Sinks for the rows of the span, except events."""

    readings: Sink[tuple[str, PacketColumns | StaleRollups]]
    rollups: Sink[tuple[str, Rollups]]
    predictions: Sink[tuple[str, Predictions]]

    @classmethod
    def into(cls, settings: Settings) -> "RowSinks":
        """Sinks into a database, as the live flow has them."""
        return cls(readings_sink(settings), rollups_sink(settings), predictions_sink(settings))


def span_source(
    settings: Settings,
    parts: Sequence[Part],
    stop: Callable[[], bool],
    progress: Callable[[int, int, int | None], None],
) -> PacketSource:
    """A source that reads the parts and ends. It commits nothing, unlike the live flow."""
    return PacketSource(
        kafka=kafka_access(settings),
        topic=settings.kafka_topic,
        start="earliest",
        stop=stop,
        if_gone=settings.if_offset_gone,  # retention continues while we read
        progress=progress,
        spans={part.partition: part.span for part in parts},
    )


def replay_graph(  # noqa: PLR0917 - one for each choice
    source: PacketSource,
    watch: Watch,
    cut: Cut,
    tally: Tally,
    events: Sink[tuple[str, Event]],
    rows: RowSinks | None,
) -> Dataflow:
    """Build the dataflow.

    All events are stored, because events after the span end some within it. Of the other rows, only
    the selected ones are stored, if `rows` is given. Records that cannot be decoded are only
    counted: the live flow has written them to the dead-letter topic.
    """
    flow = Dataflow(FLOW)
    results = streams(flow, source, watch)
    op.output("tally", op.merge("all_records", results.readings, results.bad), tally)
    op.output("store_events", results.events, events)
    if rows is not None:
        readings = op.map("cut", results.readings, cut.readings)
        stale = op.map("cut_stale", results.stale, cut.stale)
        op.output("store_readings", op.merge("to_store", readings, stale), rows.readings)
        rollups = op.map("cut_rollups", results.rollups, cut.rollups)
        op.output("store_rollups", rollups, rows.rollups)
        predictions = op.map("cut_predictions", results.predictions, cut.predictions)
        op.output("store_predictions", predictions, rows.predictions)
    return flow
