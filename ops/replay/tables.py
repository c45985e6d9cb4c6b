"""The report of a replay, as tables for a terminal or as one JSON object."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from ops.replay.difference import Change, Kind
from ops.replay.run import Report
from ops.stored_events import StoredEvent
from sinks.times import text_of

_KINDS: tuple[Kind, ...] = ("new", "gone", "changed")
_SHOWN = 20
"""Sensors and events shown on a terminal. The JSON has all of them."""
_STYLES = {"new": "green", "gone": "red", "changed": "yellow"}


def tables(report: Report) -> Iterator[Table | Text]:
    """Yield the differences by sensor, the events that differ, and a summary."""
    difference = report.difference
    differing = [row for row in _sensors(report) if any(row[kind] for kind in _KINDS)]
    if differing:
        by_sensor = Table("sensor", *_KINDS, "unchanged", box=None)
        for row in differing[:_SHOWN]:
            counts = (str(row[kind]) for kind in (*_KINDS, "unchanged"))
            by_sensor.add_row(Text(row["sensor"]), *counts)
        yield by_sensor
        if (more := len(differing) - _SHOWN) > 0:
            yield Text(f"and {more} more sensors: use --json to see all")
    if difference.changes:
        single = Table("", "time (UTC)", "sensor", "event", "message", box=None)
        for change in difference.changes[:_SHOWN]:
            event = change.event
            single.add_row(
                Text(change.kind, style=_STYLES[change.kind]),
                text_of(event.at),
                Text(_name(report, event.sensor_id, event.device_id)),
                Text(f"{event.event_type} {event.event_code}"),
                Text(event.message + _what_differs(change)),
            )
        yield single
        if (more := len(difference.changes) - _SHOWN) > 0:
            yield Text(f"and {more} more events: use --json to see all")
    yield Text(_sum(report))


def as_json(report: Report, into: str) -> dict[str, Any]:
    """The whole report. Times are epoch milliseconds UTC."""
    difference = report.difference
    counts = Counter(change.kind for change in difference.changes)
    return {
        "run": report.run_id,
        "into": into,
        "rules": report.used.rules,
        "models": report.used.models,
        "folder": None if report.folder is None else str(report.folder),
        "records": report.records,
        "records_bad": report.bad,
        "readings": report.readings,
        "records_now": report.records_now,
        "seconds": round(report.seconds, 3),
        "readings_per_s": round(report.rate),
        **{kind: counts[kind] for kind in _KINDS},
        "unchanged": sum(difference.unchanged.values()),
        "sensors": _sensors(report),
        "events": [_change(report, change) for change in difference.changes],
    }


def _sensors(report: Report) -> list[dict[str, Any]]:
    difference = report.difference
    counts: Counter[tuple[int | None, str]] = Counter(
        (change.event.sensor_id, change.kind) for change in difference.changes
    )
    ids = {sensor for sensor, _ in counts} | set(difference.unchanged)
    return [
        {
            "sensor_id": sensor,
            "sensor": _name(report, sensor, None),
            **{kind: counts[sensor, kind] for kind in _KINDS},
            "unchanged": difference.unchanged[sensor],
        }
        for sensor in sorted(ids, key=lambda sensor: -1 if sensor is None else sensor)
    ]


def _change(report: Report, change: Change) -> dict[str, Any]:
    event = change.event
    told: dict[str, Any] = {
        "change": change.kind,
        "event_key": event.event_key,
        "device_id": event.device_id,
        "sensor_id": event.sensor_id,
        "sensor": _name(report, event.sensor_id, event.device_id),
        "event_code": event.event_code,
        "at": event.at,
        **_content(event),
    }
    if change.kind == "changed":
        assert change.live is not None
        told |= {"fields": change.fields, "was": _content(change.live)}
    return told


def _content(event: StoredEvent) -> dict[str, Any]:
    return {
        "event_type": event.event_type,
        "title": event.title,
        "message": event.message,
        "payload": event.details,
        "end": event.resolved_at,
    }


def _name(report: Report, sensor_id: int | None, device_id: int | None) -> str:
    if sensor_id is None:
        return "devices" if device_id is None else report.names.device(device_id).device
    named = report.names.of(sensor_id, -1 if device_id is None else device_id)
    return f"{named.name} ({named.device})"


def _what_differs(change: Change) -> str:
    return f" [{', '.join(change.fields)}]" if change.fields else ""


def _sum(report: Report) -> str:
    counts = Counter(change.kind for change in report.difference.changes)
    text = f"{report.readings:,} readings in {report.records:,} records"
    if report.rate:
        text += f", {report.rate:,.0f} readings/s"
    if report.bad:
        text += f"; {report.bad:,} records could not be decoded, see the dead-letter topic"
    changed = ", ".join(f"{counts[kind]:,} {kind}" for kind in _KINDS)
    text += f"\n{changed}, {sum(report.difference.unchanged.values()):,} unchanged"
    text += f"\nrules: {report.used.rules}; models: {report.used.models}"
    if report.folder is not None:
        text += f"\nall rows are in {report.folder / 'iot.db'}"
    return text
