"""Startup and shutdown of the flow, around the graph.

Settings, database, broker and recovery directory are checked in this order. An error ends the
process with one line. The exit code is 78 if a restart cannot help, else 1. On SIGTERM or Ctrl-C,
the flow finishes the current batch, takes a snapshot and ends.
"""

import atexit
import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import structlog
from bytewax.inputs import FixedPartitionedSource

from contract.errors import IotError, error_of_ours
from contract.partitions import partitions_text
from contract.settings import Settings, load_settings
from contract.version import VERSION
from dataflows.engine.engine import Times
from dataflows.engine.partition_step import Watch
from dataflows.log.clock import SetBack
from dataflows.log.commits import Commits
from dataflows.log.dead_letters import DEAD_LETTER_CONFIG
from dataflows.log.ends import ends_of
from dataflows.log.lag import Lag
from dataflows.log.source import PacketSource, Records, group
from dataflows.log.topic_watch import TopicWatch
from dataflows.metrics import serve_metrics
from dataflows.state.claims import Claim, FlowArguments, check_room, claim, store_failure
from rules.history import LiveRules
from runtime.kafka import KafkaAccess, kafka_access
from runtime.log import say
from runtime.shell import Stop, begin, report_uncaught
from runtime.topic import check_dated_by_broker, ensure_topic
from sinks.progress import StoredProgress
from sql.schema import open_database

_CHECK_S = 1.0
_log = structlog.get_logger("flow")


class StartAgainError(IotError):
    """The process must restart to pick up a change."""


class FlowStop(Stop):
    """Ends the source on a signal, or when `healthy`, which is called once a second, raises."""

    def __init__(self, healthy: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._healthy = healthy
        self._check_at = 0.0
        self.error: IotError | None = None
        """The error that `healthy` raised."""

    def check(self) -> bool:
        """Whether the source should end."""
        if monotonic() >= self._check_at:
            self._check_at = monotonic() + _CHECK_S
            try:
                self._healthy()
            except IotError as error:
                self.error = error
        return self.asked or self.error is not None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        super()._on_signal(number, frame)
        _log.info("flow stops after the current batch and a snapshot")


@dataclass(frozen=True, slots=True)
class Installation:
    """The checked and opened parts that the graph is built from."""

    settings: Settings
    kafka: KafkaAccess
    source: FixedPartitionedSource[tuple[str, Records], Any]
    watch: Watch
    topic_id: str | None
    """The broker's id of the topic; None if the broker has none."""
    stop: FlowStop


def open_installation() -> Installation:
    """Check and open what the settings name. Called once per process."""
    begin()
    report_uncaught(lambda error: error_of_ours(error) or store_failure(error))
    os.environ["RUST_BACKTRACE"] = "0"  # Bytewax panics are reported in one line instead
    settings = load_settings()
    kafka = kafka_access(settings)
    book = LiveRules(settings)
    rules = book.load()
    ensure_topic(kafka, settings.kafka_topic)
    if settings.if_create_time == "stop":
        check_dated_by_broker(kafka, settings.kafka_topic)
    topic = TopicWatch(
        kafka, settings.kafka_topic, group(settings.kafka_topic), settings.partitions
    )
    ensure_topic(kafka, settings.dead_letter_topic, DEAD_LETTER_CONFIG)
    arguments = FlowArguments.of(sys.argv[1:])
    stop = FlowStop(partial(check, arguments.directory, topic, SetBack()))
    partitions = partitions_text(settings.partitions or topic.partitions)
    added = _claimed(arguments, settings.kafka_topic, partitions)
    if settings.metrics_port is not None:
        serve_metrics(settings.metrics_host, settings.metrics_port)
    source = _source(settings, kafka, topic, stop, added)
    source.list_parts()  # report wrong partitions before Bytewax starts
    _log.info(
        "flow starts",
        version=VERSION,
        topic=settings.kafka_topic,
        partitions=partitions,
        database=settings.database,
        rules=len(rules),
    )
    atexit.register(_end, stop)
    settle_memory()
    times = Times.of(settings)
    return Installation(settings, kafka, source, Watch(book, times), topic.topic_id, stop)


def _claimed(arguments: FlowArguments, topic: str, partitions: str) -> frozenset[int]:
    """Claim the recovery directory; return the partitions added after its first start."""
    if arguments.directory is None:
        _log.warning("no recovery directory (-r): each restart begins at START_FROM")
        return frozenset()
    ours = Claim(topic, partitions)
    added = claim(arguments.directory, ours, cluster=arguments.cluster)
    check_room(arguments.directory)
    return added


def _source(
    settings: Settings,
    kafka: KafkaAccess,
    topic: TopicWatch,
    stop: FlowStop,
    added: frozenset[int],
) -> PacketSource:
    name = settings.kafka_topic
    with open_database(settings) as database:
        stored = StoredProgress(database, name)
    return PacketSource(
        kafka,
        name,
        settings.start_from,
        stop.check,
        settings.partitions,
        settings.if_offset_gone,
        added,
        Lag(ends_of(kafka, name, group(name))).at,
        commits=Commits(kafka, name, group(name)),
        stored=stored,
        watch=topic,
    )


def check(directory: Path | None, topic: TopicWatch, set_back: SetBack) -> None:
    """The checks that the flow makes once a second.

    Raises:
        IotError: the flow cannot continue.
    """
    if topic.grown:
        raise StartAgainError("the topic has new partitions")
    if set_back:
        raise StartAgainError("this machine's clock was set back")
    if directory is not None:
        check_room(directory)


def settle_memory() -> None:
    """Exclude the objects that live as long as the process from garbage collection, and collect
    less often: collection took a quarter of the flow's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def _end(stop: FlowStop) -> None:
    """At the end of the process: restart if that is why it ends, else report the error."""
    if isinstance(stop.error, StartAgainError):
        _log.warning("the flow restarts", why=str(stop.error))
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the original command line
    if stop.error is not None:
        say(str(stop.error))
        os._exit(1)
