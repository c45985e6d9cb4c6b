"""What a replay tells: tables for a person, one JSON object for a program."""

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
"""Sensors, and single events, on the screen; JSON has all."""
_STYLES = {"new": "green", "gone": "red", "changed": "yellow"}


def tables(report: Report) -> Iterator[Table | Text]:
    """The difference by sensor, single events, and what was read; each on lines of its own."""
    found = report.difference
    differing = [row for row in _sensors(report) if any(row[kind] for kind in _KINDS)]
    if differing:
        by_sensor = Table("sensor", *_KINDS, "unchanged", box=None)
        for row in differing[:_SHOWN]:
            counts = (str(row[kind]) for kind in (*_KINDS, "unchanged"))
            by_sensor.add_row(Text(row["sensor"]), *counts)
        yield by_sensor
        if (more := len(differing) - _SHOWN) > 0:
            yield Text(f"and {more} more sensors: --json has all of them")
    if found.changes:
        single = Table("", "time (UTC)", "sensor", "event", "message", box=None)
        for change in found.changes[:_SHOWN]:
            one = change.event
            single.add_row(
                Text(change.kind, style=_STYLES[change.kind]),
                text_of(one.at),
                Text(_name(report, one.sensor_id, one.device_id)),
                Text(f"{one.event_type} {one.event_code}"),
                Text(one.message + _what_differs(change)),
            )
        yield single
        if (more := len(found.changes) - _SHOWN) > 0:
            yield Text(f"and {more} more events: --json has all of them")
    yield Text(_sum(report))


def as_json(report: Report, into: str) -> dict[str, Any]:
    """All of it. Times are epoch milliseconds UTC."""
    found = report.difference
    counts = Counter(change.kind for change in found.changes)
    return {
        "run": report.run_id,
        "into": into,
        "folder": None if report.folder is None else str(report.folder),
        "records": report.records,
        "records_bad": report.bad,
        "readings": report.readings,
        "records_now": report.records_now,
        "seconds": round(report.seconds, 3),
        "readings_per_s": round(report.rate),
        **{kind: counts[kind] for kind in _KINDS},
        "unchanged": sum(found.unchanged.values()),
        "sensors": _sensors(report),
        "events": [_change(report, change) for change in found.changes],
    }


def _sensors(report: Report) -> list[dict[str, Any]]:
    found = report.difference
    counts: Counter[tuple[int | None, str]] = Counter(
        (change.event.sensor_id, change.kind) for change in found.changes
    )
    ids = {sensor for sensor, _ in counts} | set(found.unchanged)
    return [
        {
            "sensor_id": sensor,
            "sensor": _name(report, sensor, None),
            **{kind: counts[sensor, kind] for kind in _KINDS},
            "unchanged": found.unchanged[sensor],
        }
        for sensor in sorted(ids, key=lambda one: -1 if one is None else one)
    ]


def _change(report: Report, change: Change) -> dict[str, Any]:
    one = change.event
    told: dict[str, Any] = {
        "change": change.kind,
        "event_key": one.event_key,
        "device_id": one.device_id,
        "sensor_id": one.sensor_id,
        "sensor": _name(report, one.sensor_id, one.device_id),
        "event_code": one.event_code,
        "at": one.at,
        **_content(one),
    }
    if change.kind == "changed":
        assert change.live is not None
        told |= {"fields": change.fields, "was": _content(change.live)}
    return told


def _content(one: StoredEvent) -> dict[str, Any]:
    return {
        "event_type": one.event_type,
        "title": one.title,
        "message": one.message,
        "payload": one.details,
        "end": one.resolved_at,
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
        text += f"; {report.bad:,} records cannot be decoded, see the dead-letter topic"
    changed = ", ".join(f"{counts[kind]:,} {kind}" for kind in _KINDS)
    text += f"\n{changed}, {sum(report.difference.unchanged.values()):,} unchanged"
    if report.folder is not None:
        text += f"\nall rows are in {report.folder / 'iot.db'}"
    return text
