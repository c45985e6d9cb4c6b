"""The main flow: `python -m bytewax.run "dataflows.readings:flow()"`."""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from types import FrameType, TracebackType
from typing import Any, TypeGuard

import bytewax.operators as op
import structlog
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource
from bytewax.operators import KeyedStream
from bytewax.outputs import Sink

from contract.columns import PacketColumns
from contract.errors import NO_USE, IotError, SettingError, SetupError, error_of_ours
from contract.event import Event
from contract.partitions import partitions_text
from contract.predictions import Predictions
from contract.rollups import Rollups
from contract.settings import Settings, load_settings
from dataflows.engine.duplicates import DuplicateLogic
from dataflows.engine.engine import Times
from dataflows.engine.partition_step import PartitionLogic, Watch
from dataflows.log.clock import SetBack
from dataflows.log.commits import Commits
from dataflows.log.dead_letters import DEAD_LETTER_CONFIG, DeadLetterSink
from dataflows.log.decode import BadRecord, decode_records
from dataflows.log.ends import ends_of
from dataflows.log.lag import Lag
from dataflows.log.source import PacketSource, Records, group
from dataflows.log.topic_watch import TopicWatch
from dataflows.metrics import serve_metrics
from dataflows.state.claims import Claim, FlowArguments, check_room, claim, store_failure
from dataflows.state.stores import CONSUME, FLOW, MARK, WATCH
from rules.history import LiveRules
from runtime.kafka import kafka_access
from runtime.log import configure_log, say
from runtime.private import keep_private
from runtime.topic import check_dated_by_broker, ensure_topic
from sinks.events import events_sink
from sinks.predictions import predictions_sink
from sinks.progress import StoredProgress
from sinks.readings import readings_sink
from sinks.rollups import rollups_sink
from sql.schema import open_database

_CHECK_S = 1.0
_log = structlog.get_logger("flow")


@dataclass(frozen=True, slots=True)
class Sinks:
    """Where everything goes."""

    readings: Sink[tuple[str, PacketColumns]]
    rollups: Sink[tuple[str, Rollups]]
    predictions: Sink[tuple[str, Predictions]]
    events: Sink[tuple[str, Event]]
    dead_letters: Sink[Any]


@dataclass(frozen=True, slots=True)
class Streams:
    """What the flow makes of its source. The key of every stream is the partition of the topic."""

    bad: KeyedStream[Any]
    """Each a BadRecord."""
    readings: KeyedStream[PacketColumns]
    """As they came, with repetitions marked."""
    events: KeyedStream[Event]
    rollups: KeyedStream[Rollups]
    predictions: KeyedStream[Predictions]


def streams(
    flow: Dataflow, source: FixedPartitionedSource[tuple[str, Records], Any], watch: Watch
) -> Streams:
    """The steps from the source to what is stored."""
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
        events=op.flat_map_value("pick_events", outcomes, lambda outcome: outcome.events),
        rollups=op.map_value("pick_rollups", outcomes, lambda outcome: outcome.rollups),
        predictions=op.map_value("pick_predictions", outcomes, lambda outcome: outcome.predictions),
    )


def graph(
    source: FixedPartitionedSource[tuple[str, Records], Any], watch: Watch, sinks: Sinks
) -> Dataflow:
    """The dataflow: all that `streams` gives, stored."""
    flow = Dataflow(FLOW)
    found = streams(flow, source, watch)
    op.output("bury", found.bad, sinks.dead_letters)
    op.output("store_readings", found.readings, sinks.readings)
    op.output("store_events", found.events, sinks.events)
    op.output("store_rollups", found.rollups, sinks.rollups)
    op.output("store_predictions", found.predictions, sinks.predictions)
    return flow


def _is_packets(
    item: tuple[str, PacketColumns | BadRecord],
) -> TypeGuard[tuple[str, PacketColumns]]:
    return isinstance(item[1], PacketColumns)


def flow() -> Dataflow:
    """The dataflow of this installation, by its settings.

    Checks settings, database, broker and the recovery directory first; what is wrong ends the
    process with one line, and exit code 78 where starting it again will not help, else 1. SIGTERM
    and Ctrl-C end the flow after the batch in hand, with a snapshot.
    """
    configure_log()
    keep_private()
    sys.excepthook = _tell
    os.environ["RUST_BACKTRACE"] = "0"  # of Bytewax's own panics; `_tell` says what they mean
    settings = load_settings()
    kafka = kafka_access(settings)
    book = LiveRules(settings)
    rules = book.load()
    ensure_topic(kafka, settings.kafka_topic)
    if settings.if_create_time == "stop":
        check_dated_by_broker(kafka, settings.kafka_topic)
    watch = TopicWatch(
        kafka, settings.kafka_topic, group(settings.kafka_topic), settings.partitions
    )
    partitions = settings.partitions or watch.partitions
    ensure_topic(kafka, settings.dead_letter_topic, DEAD_LETTER_CONFIG)
    arguments = FlowArguments.of(sys.argv[1:])
    stop = Stop(partial(check, arguments.directory, watch, SetBack()))
    ours = Claim(settings.kafka_topic, partitions_text(partitions))
    added = frozenset[int]()
    if arguments.directory is None:
        _log.warning("no recovery directory (-r): a restart begins at START_FROM again")
    else:
        added = claim(arguments.directory, ours, cluster=arguments.cluster)
        check_room(arguments.directory)
    if settings.metrics_port is not None:
        serve_metrics(settings.metrics_host, settings.metrics_port)
    source = PacketSource(
        kafka,
        settings.kafka_topic,
        settings.start_from,
        stop.asked,
        settings.partitions,
        settings.if_offset_gone,
        added,
        Lag(ends_of(kafka, settings.kafka_topic, group(settings.kafka_topic))).at,
        commits=Commits(kafka, settings.kafka_topic, group(settings.kafka_topic)),
        stored=_stored(settings),
        watch=watch,
    )
    source.list_parts()  # what is wrong with them is told before Bytewax starts
    _log.info(
        "flow starts",
        topic=settings.kafka_topic,
        partitions=ours.partitions,
        database=settings.database,
        rules=len(rules),
    )
    atexit.register(_end, stop)
    settle_memory()
    times = Times(settings.grace_ms, settings.idle_close_ms, settings.predict_every_seconds * 1000)
    return graph(
        source,
        Watch(book, times),
        Sinks(
            readings=readings_sink(settings, watch.topic_id, progress=True),
            rollups=rollups_sink(settings),
            predictions=predictions_sink(settings),
            events=events_sink(settings),
            dead_letters=DeadLetterSink(kafka, settings.dead_letter_topic, stop.asked),
        ),
    )


def _stored(settings: Settings) -> StoredProgress:
    with open_database(settings) as database:
        return StoredProgress(database, settings.kafka_topic)


class StartAgainError(IotError):
    """The process is to become its own successor, which begins with what has changed."""


def check(directory: Path | None, watch: TopicWatch, set_back: SetBack) -> None:
    """What the flow looks at once a second.

    Raises:
        IotError: why it cannot go on as it is.
    """
    if watch.grown:
        raise StartAgainError("the topic has new partitions")
    if set_back:
        raise StartAgainError("this machine's clock was set back")
    if directory is not None:
        check_room(directory)


def settle_memory() -> None:
    """Keep the collector away from what lives as long as the process, and from the many short-lived
    objects that need none: it was a quarter of the flow's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def _end(stop: "Stop") -> None:
    """At the end of the process: start again where that was the reason, else say what was."""
    if isinstance(stop.error, StartAgainError):
        _log.warning("the flow starts again", why=str(stop.error))
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - as we were started
    if stop.error is not None:
        say(str(stop.error))
        os._exit(1)


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Instead of a traceback: what of ours is at the bottom of an error, in one line."""
    cause = error_of_ours(error) or store_failure(error)
    if isinstance(error, KeyboardInterrupt):
        sys.exit(130)
    if cause is None:
        sys.__excepthook__(kind, error, trace)
        return
    say(str(cause))
    sys.exit(NO_USE if isinstance(cause, SetupError | SettingError) else 1)


class Stop:
    """The first SIGTERM or SIGINT asks the source to end; a second one ends the process. So does
    what `check`, called once a second, raises.
    """

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self._asked = False
        self._check = check
        self._check_at = 0.0
        self.error: IotError | None = None
        """What it was that `check` raised."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def asked(self) -> bool:
        """Whether the source is to end."""
        if monotonic() >= self._check_at:
            self._check_at = monotonic() + _CHECK_S
            try:
                self._check()
            except IotError as error:
                self.error = error
        return self._asked or self.error is not None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            os._exit(128 + number)
        self._asked = True
        _log.info("flow stops after the batch in hand, with a snapshot")
