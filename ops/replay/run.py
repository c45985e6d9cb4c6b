"""A replay from its arguments to its report.

The log is read once, by the live flow's own steps. The resulting events are stored in a database of
the run. At the end they are compared with the live database. Differences are reported and, with
`--into live`, corrected there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from signal import SIGINT, SIGTERM, default_int_handler, signal
from time import time

import structlog
from bytewax.recovery import RecoveryConfig
from bytewax.testing import run_main
from rich.console import Console

from contract.errors import SetupError, error_of_ours
from contract.settings import Settings
from dataflows.engine import Times, Watch
from dataflows.log import TopicWatch, group
from dataflows.state import make_store
from ops.replay.cut import Cut
from ops.replay.difference import Difference, as_corrections, difference
from ops.replay.flow import RowSinks, replay_graph, span_source
from ops.replay.local import local_settings, make_local
from ops.replay.moments import parse_duration, parse_moment
from ops.replay.plan import (
    DRY_RUN,
    LIVE,
    ReplayArguments,
    ReplayPlan,
    Run,
    check_name,
    open_run,
)
from ops.replay.progress import Progressed
from ops.replay.rules import Used, check_stored, given_rules, rule_book, used
from ops.replay.spans import Part, find_parts
from ops.replay.tally import Seen, Tally
from ops.stored_events import StoredEvent, stored_events
from rules.tables import Tables, names_of, rule_tables
from rules.words import Names
from runtime.kafka import kafka_access
from runtime.shell import Stop
from sinks.corrections import write_corrections
from sinks.events import events_sink
from sinks.progress import Covered, StoredProgress, write_progress
from sinks.times import text_of
from sql.database import Database
from sql.schema import open_database
from sql.statements import EVENTS_BETWEEN, NEWEST_EVENT

_SNAPSHOT = timedelta(seconds=10)
_log = structlog.get_logger("replay")


@dataclass(frozen=True, slots=True)
class Request:
    """The options of the command."""

    into: str
    """`dry-run`, `live` or the name of a run."""
    begin: str | None
    end: str | None
    sensors: tuple[int, ...] | None
    rules: Path | None
    margin: str | None
    notify: bool
    directory: Path


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a replay."""

    run_id: str
    folder: Path | None
    """Folder of the run, if it is kept."""
    records: int
    readings: int
    bad: int
    """Undecodable records. These three count everything that was read."""
    records_now: int
    """Records since the last start, like the two fields below."""
    seconds: float
    rate: float
    difference: Difference
    names: Names
    used: Used


class CutOffError(Exception):
    """The replay was stopped before its end. The text says how far it got."""


def replay(request: Request, settings: Settings, console: Console) -> Report:
    """Run a replay, or continue the same replay where it was interrupted.

    Raises:
        IotError: see its subclasses. The same request continues the replay.
        CutOffError: SIGTERM or Ctrl-C. The same request continues the replay.
    """
    with open_database(settings) as database:
        tables, given, with_models = _rules(request, database)
        arguments = _arguments(request, settings, given, with_models=with_models)
        source = used(database, request.rules, given, with_models=with_models)
        _log.info("replaying", rules=source.rules, models=source.models)
        names = names_of(database, settings.iot_lang)
        _check_sensors(request.sensors, names)

        def make() -> ReplayPlan:
            # in this order: no event up to this one comes from a record that we do not read
            (newest,) = database.query(NEWEST_EVENT)
            return ReplayPlan(arguments, newest.id, tuple(_parts(request, settings)), given)

        def prepare(run: Run) -> None:
            make_store(run.recovery)
            for file in (run.events, run.database)[: 2 if arguments.kept else 1]:
                make_local(local_settings(settings, file), database, tables)

        with open_run(request.directory, arguments, make, prepare) as run:
            if run.resumed:
                _log.info("continuing", run=arguments.run_id)
            tally, progress = _run(run, settings, database, console)
            differences = _difference(run, settings, tally.seen)
            _settle(run, settings, differences)
            run.finish()
        return Report(
            run_id=arguments.run_id,
            folder=run.folder if arguments.kept else None,
            records=progress.total,
            readings=tally.readings,
            bad=sum(seen.bad for seen in tally.seen.values()),
            records_now=progress.done_now,
            seconds=progress.seconds,
            rate=progress.rate,
            difference=differences,
            names=names,
            used=source,
        )


def _rules(request: Request, database: Database) -> tuple[Tables, str | None, bool]:
    """The tables with the rules; the rules themselves if a file gives them; and whether it gives
    models.
    """
    if request.rules is None:
        return rule_tables(database), None, False
    tables, rules, with_models = given_rules(database, request.rules)
    if request.into != DRY_RUN:
        check_stored(database, rules.models)
    return tables, rules.encode().decode(), with_models


def _arguments(
    request: Request, settings: Settings, given: str | None, *, with_models: bool
) -> ReplayArguments:
    if request.into not in (LIVE, DRY_RUN):
        check_name(request.into)
    if request.notify and request.into != LIVE:
        raise SetupError("--notify requires --into live: other replays create no notifications")
    if request.margin is not None and request.begin is None and request.end is None:
        raise SetupError("--margin requires --from or --to: without them the whole log is replayed")
    times = Times.of(settings)
    return ReplayArguments(
        into=request.into,
        topic=settings.kafka_topic,
        partitions=settings.kafka_partitions,
        database=settings.database,
        begin=request.begin,
        end=request.end,
        margin=request.margin,
        sensors=request.sensors,
        rules=None if given is None else sha256(given.encode()).hexdigest()[:12],
        models=with_models,
        notify=request.notify,
        times=(times.grace_ms, times.idle_ms, times.predict_ms),
        language=settings.iot_lang,
    )


def _check_sensors(sensors: Iterable[int] | None, names: Names) -> None:
    known = names.sensors or {}
    if unknown := [str(sensor) for sensor in sensors or () if sensor not in known]:
        raise SetupError(f"--sensors: the database has no sensor {', '.join(unknown)}")


def _parts(request: Request, settings: Settings) -> list[Part]:
    begin = None if request.begin is None else parse_moment("--from", request.begin)
    end = None if request.end is None else parse_moment("--to", request.end)
    margin = None if request.margin is None else parse_duration("--margin", request.margin)
    parts = find_parts(settings, begin, end, margin, int(time() * 1000))
    for part in parts:
        if part.truncated:
            _log.warning(
                "the broker no longer has earlier records: levels, windows and silences near the "
                "start may differ from those of the flow; give a later --from",
                partition=part.partition,
                first_offset=part.first,
            )
    return parts


def _run(
    run: Run, settings: Settings, database: Database, console: Console
) -> tuple[Tally, Progressed]:
    """Read the log to its end."""
    plan = run.plan
    tally = Tally(part.partition for part in plan.parts)
    progress = Progressed(plan.parts, lambda: tally.readings, console)
    rows = {DRY_RUN: None, LIVE: settings}.get(
        plan.arguments.into, local_settings(settings, run.database)
    )
    stop = Stop()
    flow = replay_graph(
        span_source(settings, plan.parts, lambda: stop.asked, progress.at),
        Watch(
            rule_book(settings, database, plan.rules, with_models=plan.arguments.models),
            Times.of(settings),
        ),
        _cut(plan),
        tally,
        events_sink(local_settings(settings, run.events)),
        None if rows is None else RowSinks.into(rows),
    )
    try:
        with progress.shown():
            recovery = RecoveryConfig(str(run.recovery))  # type: ignore[no-untyped-call]
            run_main(flow, epoch_interval=_SNAPSHOT, recovery_config=recovery)  # type: ignore[no-untyped-call]
    except Exception as error:
        if (ours := error_of_ours(error)) is not None:
            raise ours from error
        raise
    finally:
        for number in (SIGINT, SIGTERM):
            signal(number, default_int_handler)
    if stop.asked:
        raise CutOffError(
            f"stopped after {progress.done:,} of {progress.total:,} records; "
            "run the same command again to continue"
        )
    return tally, progress


def _cut(plan: ReplayPlan) -> Cut:
    return Cut(plan.parts, plan.arguments.sensors)


def _difference(run: Run, settings: Settings, seen: Mapping[int, Seen]) -> Difference:
    plan = run.plan
    concerns = _concerns(_cut(plan), seen)
    replayed = _events(local_settings(settings, run.events), plan.parts)
    return difference(
        [event for event in replayed if concerns(event)],
        _events(settings, plan.parts),
        concerns,
        plan.newest_event,
        min(part.until for part in plan.parts),
        same_rules=plan.rules is None,
    )


def _events(settings: Settings, parts: Sequence[Part]) -> list[StoredEvent]:
    """The events of all spans, on a new connection: reading may have taken hours."""
    with open_database(settings) as database:
        begin = min(part.rows_from for part in parts)
        end = max(part.rows_to for part in parts)
        rows = database.query(EVENTS_BETWEEN, text_of(begin), text_of(end))
        return stored_events(rows)


def _concerns(cut: Cut, seen: Mapping[int, Seen]) -> Callable[[StoredEvent], bool]:
    """A predicate: whether the replay would produce an event, if it holds.

    True if the log has readings of the event's device from before it, and the event is within the
    span of that device's partition.
    """
    places: dict[int, list[tuple[int, int]]] = {}
    for partition, of_partition in seen.items():
        for device, since in of_partition.since.items():
            places.setdefault(device, []).append((partition, since))

    def concerns(event: StoredEvent) -> bool:
        return any(
            since <= event.at and cut.has(partition, event.at, event.sensor_id)
            for partition, since in places.get(event.device_id, ())
        )

    return concerns


def _cover(settings: Settings, parts: Sequence[Part]) -> None:
    """Record that the database has everything that was read, so that a flow may resume after it."""
    watch = TopicWatch(
        kafka_access(settings), settings.kafka_topic, group(settings.kafka_topic), None
    )
    with open_database(settings) as database:
        stored = StoredProgress(database, settings.kafka_topic)
        covered = {
            part.partition: Covered(settings.kafka_topic, watch.topic_id, part.end - 1)
            for part in parts
            if stored.last(part.partition) < part.end - 1
        }
        if covered:
            write_progress(database.execute, covered)


def _settle(run: Run, settings: Settings, differences: Difference) -> None:
    """Make the events of the target database match the replay."""
    arguments = run.plan.arguments
    if arguments.into == DRY_RUN:
        return
    if arguments.into == LIVE:
        write_corrections(settings, differences.corrections(notify=arguments.notify))
        if arguments.begin is None and arguments.end is None and arguments.sensors is None:
            _cover(settings, run.plan.parts)
        return
    own = local_settings(settings, run.database)
    write_corrections(own, as_corrections(differences.replayed))
