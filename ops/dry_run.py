"""Run the engine on a file of records, without a broker or a database.

The results are the same as the flow's.
"""

import heapq
from codecs import BOM_UTF8
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import structlog

from contract.columns import PacketColumns, ReadingColumns, concatenate, taken
from contract.errors import RecordError, SetupError
from contract.event import Event
from contract.packet import MAX_TIME_MS, PacketRecord, decode
from contract.rollups import ROLLUP_MS
from contract.settings import Settings
from dataflows.engine import DuplicateLogic, Engine, Outcome, Times
from dataflows.log import record_columns
from dataflows.segments import begins
from ml.online import PartitionDetector
from rules.columns import Rules
from rules.panes import WINDOWS, Window
from rules.tables import Tables, make_rules, sources
from rules.words import Named, Names
from sinks.decimals import rounded

ROLLUPS = dict(zip(ROLLUP_MS, ("1m", "5m", "1h"), strict=True))
_TABLES = {"sensors", "devices", *(source.table for source in sources())}
_CELLS = ("count", "mean", "min", "max", "std", "first", "last", "trend")
_log = structlog.get_logger("rules")

_LATE, _WINDOW, _EVENT, _PREDICTION, _ROLLUP, _DEAD = range(6)
"""Kinds of lines, in output order for equal time and sensor."""

_Key = tuple[int, int, int, str]
"""Time, sensor (-1 if there is none), kind, and a tie-breaker."""


class LogLine(msgspec.Struct, frozen=True):
    """A line of the input: a record of the topic, or a heartbeat, which has no value."""

    arrival: int
    """The record's timestamp, epoch milliseconds UTC."""
    partition: int = 0
    offset: int | None = None
    value: msgspec.Raw = msgspec.Raw()
    line: int = 0


@dataclass(slots=True)
class DryRunSummary:
    """Counts of the input and the output."""

    records: int = 0
    heartbeats: int = 0
    readings: int = 0
    duplicates: int = 0
    repeated: int = 0
    late: int = 0
    too_late: int = 0
    future: int = 0
    dead_letters: int = 0
    panes: int = 0
    events: int = 0
    rollups: int = 0
    predictions: int = 0
    rules: int = 0
    models: int = 0
    """Models of the rules file; without the table `ml_models` there are none."""
    rules_refused: int = 0
    rules_version: str = ""


def read_records(lines: Iterable[bytes], source: str) -> Iterator[LogLine]:
    """Read the records in `lines`, one per line. Empty lines are skipped.

    Raises:
        SetupError: a line is not a record. The text names `source` and the line number.
    """
    decoder = msgspec.json.Decoder(LogLine)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = decoder.decode(line.removeprefix(BOM_UTF8))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SetupError(f"{source} line {number}: {error}") from error
        if not 0 <= record.arrival <= MAX_TIME_MS:
            raise SetupError(
                f"{source} line {number}: arrival {record.arrival} is not in epoch milliseconds"
            )
        yield msgspec.structs.replace(record, line=number)


def read_rules(file: Path | None) -> Tables:
    """Read a rules file: a JSON object with a list of rows for each table.

    Raises:
        SetupError: the file cannot be read, or its content is something else.
    """
    if file is None:
        return {}
    try:
        content = file.read_bytes().removeprefix(BOM_UTF8)
        tables = msgspec.json.decode(content, type=dict[str, list[dict[str, Any]]])
    except OSError as error:
        raise SetupError(f"{file} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise SetupError(
            f"{file} is not an object with a list of rows for each table: {error}"
        ) from error
    if unknown := sorted(set(tables) - _TABLES):
        raise SetupError(
            f"{file}: {unknown[0]} is not a table of rules; the tables are "
            + ", ".join(sorted(_TABLES))
        )
    return tables


class DryRun:
    """Does in memory what the flow would do with records."""

    def __init__(self, tables: Tables, settings: Settings, *, windows: bool = False) -> None:
        self._keeps_windows = windows
        rules, refused = make_rules(tables)
        for refusal in refused:
            _log.error("rule refused", table=refusal.table, id=refusal.id, error=refusal.error)
        self._rules, self._names = Rules(rules), _names(tables, settings.iot_lang)
        self._times = Times.of(settings)
        self._partitions: dict[int, _Partition] = defaultdict(
            lambda: _Partition(Engine(self._times, PartitionDetector()))
        )
        self._lines: list[tuple[_Key, dict[str, Any]]] = []
        self._windows: list[Outcome] = []
        self._stored: list[ReadingColumns] = []
        self._stale: set[tuple[int, int, int]] = set()
        """Period, sensor and start of the buckets whose rollups are computed from `_stored`."""
        self._summary = DryRunSummary(
            rules=len(rules),
            models=len(rules.models),
            rules_refused=len(refused),
            rules_version=self._rules.version,
        )

    def run(self, records: Iterable[LogLine], batch: int) -> None:
        """Process the records in batches of `batch`. The results do not depend on it."""
        records = iter(records)
        while chunk := list(islice(records, batch)):
            by_partition: dict[int, list[tuple[int, PacketRecord | None]]] = defaultdict(list)
            for record in chunk:
                by_partition[record.partition].append((record.arrival, self._packet(record)))
            for partition, entries in by_partition.items():
                arrivals, packets = zip(*entries, strict=True)
                columns = record_columns(list(arrivals), list(packets))
                stored, outcome = self._partitions[partition].step(
                    columns, self._rules, self._names
                )
                self._stored.append(stored)
                self._add(partition, outcome)

    def summary(self) -> DryRunSummary:
        """Return the counts so far."""
        counts = [partition.engine.counts for partition in self._partitions.values()]
        self._summary.late = sum(count.late for count in counts)
        self._summary.too_late = sum(count.too_late for count in counts)
        self._summary.future = sum(count.future for count in counts)
        self._summary.duplicates = sum(count.duplicates for count in counts)
        self._summary.repeated = sum(count.repeated for count in counts)
        return self._summary

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield all results, ordered by time, sensor and kind. Call it once, at the end."""
        self._correct()
        ordered: Iterable[tuple[_Key, dict[str, Any]]] = sorted(
            self._lines, key=lambda keyed: keyed[0]
        )
        if self._keeps_windows:
            ordered = heapq.merge(ordered, self._window_lines(), key=lambda keyed: keyed[0])
        return (line for _, line in ordered)

    def _packet(self, record: LogLine) -> PacketRecord | None:
        if bytes(record.value) in (b"", b"null"):
            self._summary.heartbeats += 1
            return None
        self._summary.records += 1
        try:
            packet = decode(bytes(record.value))
        except RecordError as error:
            self._summary.dead_letters += 1
            self._add_line(
                (record.arrival, -1, _DEAD, f"{record.line:012}"),
                "dead_letter",
                line=record.line,
                partition=record.partition,
                offset=record.offset,
                at=record.arrival,
                error=str(error),
            )
            return None
        self._summary.readings += packet.count
        return packet

    def _add_line(self, key: _Key, kind: str, **columns: Any) -> None:
        self._lines.append((key, {"kind": kind} | columns))

    def _add(self, partition: int, outcome: Outcome) -> None:
        summary, ids = self._summary, outcome.sensor_id
        summary.panes += len(outcome.panes.row)
        summary.events += len(outcome.events)
        summary.rollups += len(outcome.rollups.bucket)
        summary.predictions += len(outcome.predictions.target)
        if self._keeps_windows and len(outcome.panes.row):
            self._windows.append(outcome)
        late = outcome.late
        for sensor, ts, value in zip(
            ids[late.row].tolist(), late.ts.tolist(), late.value.tolist(), strict=True
        ):
            self._add_line(
                (ts // 1000, sensor, _LATE, f"{partition:012}"),
                "late",
                sensor_id=sensor,
                ts=ts / 1000 if ts % 1000 else ts // 1000,
                value=value,
            )
        for event in outcome.events:
            self._lines.append(_event_line(event))
        rollups = outcome.rollups
        for rollup in _rows(rollups):
            self._add_rollup(*rollup)
        stale = outcome.stale
        self._stale |= set(_rows(stale))
        for (
            _, sensor, device, at, target, value, confidence, count, _, _, risk, severity, text
        ) in _rows(outcome.predictions):  # fmt: skip
            self._add_line(
                (at, sensor, _PREDICTION, ""),
                "prediction",
                sensor_id=sensor,
                device_id=device,
                predicted_at=at,
                target=target,
                value=value,
                confidence=confidence,
                window_points=count,
                risk_level=risk,
                severity=severity,
                explanation=msgspec.Raw(text.encode()),
            )

    def _add_rollup(  # noqa: PLR0917 - its columns
        self,
        period: int,
        sensor: int,
        bucket: int,
        count: int,
        mean: float,
        low: float,
        high: float,
        last: float,
    ) -> None:
        self._add_line(
            (bucket + period, sensor, _ROLLUP, f"{period:012}{count:012}"),
            "rollup",
            sensor_id=sensor,
            rollup=ROLLUPS[period],
            bucket_ts=bucket,
            avg=mean,
            min=low,
            max=high,
            last=last,
            samples=count,
        )

    def _correct(self) -> None:
        """Compute the rollups of stale buckets from the readings, as the flow's sink does."""
        if not self._stale:
            return
        stale = {(ROLLUPS[period], *bucket) for period, *bucket in self._stale}
        self._lines = [
            (key, line)
            for key, line in self._lines
            if line["kind"] != "rollup"
            or (line["rollup"], line["sensor_id"], line["bucket_ts"]) not in stale
        ]
        readings = concatenate(self._stored)
        value = rounded(readings.value)
        order = np.lexsort((value, readings.seq, readings.ts, readings.sensor_id))
        sensor, ts = readings.sensor_id[order], readings.ts[order]
        distinct = begins(sensor, ts, readings.seq[order], value[order])
        sensor, ts, value = sensor[distinct], ts[distinct] // 1000, value[order][distinct]
        for period, of, bucket in sorted(self._stale):
            first, end = np.searchsorted(sensor, [of, of + 1])
            low, high = first + np.searchsorted(ts[first:end], [bucket, bucket + period])
            inside = value[low:high]
            if len(inside):
                figures = inside.mean(), inside.min(), inside.max(), inside[-1]
                self._add_rollup(period, of, bucket, len(inside), *map(float, figures))
        self._stale = set()

    def _window_lines(self) -> Iterator[tuple[_Key, dict[str, Any]]]:
        """Yield the windows in order, one by one: there are three for each pane."""
        if not self._windows:
            return
        sensor = np.concatenate([outcome.sensor_id[outcome.panes.row] for outcome in self._windows])
        end = np.concatenate([outcome.panes.end for outcome in self._windows])
        columns = {
            name: [
                np.concatenate(
                    [getattr(getattr(outcome.windows, name), cell) for outcome in self._windows]
                )
                for cell in Window.__slots__[: len(_CELLS)]
            ]
            for name in WINDOWS
        }
        for index in np.lexsort((sensor, end)).tolist():
            at, of = int(end[index]), int(sensor[index])
            for rank, name in enumerate(WINDOWS):
                count, *cells = (float(column[index]) for column in columns[name])
                line = {"kind": "window", "sensor_id": of, "window": name, "end": at}
                line |= dict(zip(_CELLS, (int(count), *cells), strict=True))
                yield (at, of, _WINDOW, str(rank)), line


@dataclass(slots=True)
class _Partition:
    """The flow's steps for one partition."""

    engine: Engine
    duplicates: DuplicateLogic = field(default_factory=lambda: DuplicateLogic(None))

    def step(
        self, piece: PacketColumns, rules: Rules, names: Names
    ) -> tuple[ReadingColumns, Outcome]:
        """The readings that are stored, and the results."""
        (marked,), _ = self.duplicates.on_batch([piece])
        readings = marked.readings
        stored = marked.records.fresh[marked.record] | (readings.device_ts == readings.ts)
        return taken(readings, stored), self.engine.step(marked, rules, names)


def _event_line(event: Event) -> tuple[_Key, dict[str, Any]]:
    payload = msgspec.json.decode(event.payload)
    sensor = -1 if event.sensor_id is None else event.sensor_id
    return (event.at, sensor, _EVENT, event.status + event.event_key), {
        "kind": "event",
        "sensor_id": event.sensor_id,
        "device_id": event.device_id,
        "at": event.at,
        "event_code": event.event_code,
        "event_type": event.event_type,
        "from": payload.get("from"),
        "to": payload.get("to"),
        "event_key": event.event_key,
        "resolves": event.resolves,
        "silent": event.silent,
        "title": event.title,
        "message": event.message,
        "payload": payload,
    }


def _rows(columns: Any) -> Iterator[tuple[Any, ...]]:
    return zip(*(getattr(columns, name).tolist() for name in columns.__slots__), strict=True)


def _names(tables: Tables, language: str) -> Names:
    """The names in the tables `sensors` and `devices`, as far as they are present."""
    devices = {
        row["id"]: str(row["name"])
        for row in tables.get("devices", ())
        if isinstance(row.get("id"), int) and row.get("name")
    }
    sensors = {}
    for row in tables.get("sensors", ()):
        if isinstance(number := row.get("id"), int) and row.keys() & {"name", "device_id"}:
            device = row.get("device_id")
            known = devices.get(device) if isinstance(device, int) else None
            sensors[number] = Named(
                str(row.get("name") or f"sensor {number}"),
                str(row.get("sensor_type") or "unknown"),
                str(row.get("unit") or ""),
                known or f"device {device}",
            )
    return Names(language, sensors, devices)
