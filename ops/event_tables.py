"""Events and incidents as text for a terminal, and as JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from ops.events import LEVELS, ended, moment
from ops.explain.explanation import clock
from rules.words import duration, quantity
from sql.statements import EventDetails, ListedIncident

_STYLES = {"critical": "bold red", "warning": "yellow"}


def events_table(events: Sequence[EventDetails]) -> Table:
    """A line for each event, in this order."""
    table = _table("id", "time (UTC)", "level", "status", "device / sensor", "code", "message")
    for event in events:
        table.add_row(
            str(event.id),
            _seconds(event.at),
            _level(event.event_type),
            event.status,
            Text(_who(event)),
            Text(event.event_code),
            Text(event.message or event.title),
        )
    return table


def event_tables(event: EventDetails, incident: Sequence[EventDetails]) -> Iterator[Table | Text]:
    """Yield all that is known about an event, the other events of its incident, and what to type
    next.
    """
    yield _head(event)
    others = [other for other in incident if other.id != event.id]
    if others:
        table = _table(
            "id", "time (UTC)", "level", "status", "message", title="\nother events of the incident"
        )
        for other in others:
            table.add_row(
                str(other.id),
                _seconds(other.at),
                _level(other.event_type),
                other.status,
                Text(other.message or other.title),
            )
        yield table
    if event.event_key is not None:
        yield Text(f"\niot explain {event.event_key} shows the readings and rules behind it.")


def _head(event: EventDetails) -> Table:
    rows = {
        "what": f"{event.event_type} {event.event_code}: {event.title}",
        "when": f"{clock(event.at)} UTC",
        "who": _who(event),
        "message": event.message,
        "value": None if event.value is None else quantity(event.value, event.unit or ""),
        "status": ended(event),
    }
    if event.status != "acknowledged" and event.acknowledged_at is not None:
        at, by = event.acknowledged_at, event.acknowledged_by
        rows["acknowledged"] = moment(at, by, event.acknowledged_by_name).strip()
    rows |= {
        "note": event.operator_note,
        "notification": _notification(event),
        "incident": event.incident_key,
        "id": str(event.id),
        "key": event.event_key,
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        if value:
            table.add_row(Text(name, style="dim"), Text(value))
    return table


def _notification(event: EventDetails) -> str:
    if event.notification_id is None:
        return "none"
    if not event.is_read:
        return "unread"
    return "read" if event.read_at is None else f"read at {clock(event.read_at)} UTC"


def incidents_table(incidents: Sequence[ListedIncident], now_ms: int) -> Table:
    """A line for each incident, in this order."""
    table = _table(
        "event", "level", "device / sensor", "since (UTC)", "until (UTC)", "lasted", "events",
        "unread", "message",
    )  # fmt: skip
    for column in table.columns[6:8]:
        column.justify = "right"
    for incident in incidents:
        status = incident_status(incident)
        end = incident.ended if status == "resolved" else max(now_ms, incident.began)
        table.add_row(
            str(event_to_name(incident)),
            _level(LEVELS[incident.level]),
            Text(_who(incident)),
            _seconds(incident.began),
            _seconds(incident.ended) if status == "resolved" else status,
            duration(end - incident.began),
            str(incident.events),
            Text(str(incident.unread), "bold" if incident.unread else ""),
            Text(incident.message or incident.title),
        )
    return table


def incident_status(incident: ListedIncident) -> str:
    """Active while any event is, then acknowledged while any event is, else resolved."""
    if incident.active_id is not None:
        return "active"
    return "resolved" if incident.acknowledged_id is None else "acknowledged"


def event_to_name(incident: ListedIncident) -> int:
    """Id of the event that an operator acts on: the newest that is open, else the first."""
    return incident.active_id or incident.acknowledged_id or incident.first_id


def event_json(event: EventDetails) -> dict[str, Any]:
    """An event with the names of its columns. Times are epoch milliseconds UTC."""
    told = event._asdict()
    return told | {"is_read": None if event.is_read is None else bool(event.is_read)}


def incident_json(incident: ListedIncident) -> dict[str, Any]:
    """An incident. Times are epoch milliseconds UTC; `ended` is null while an event is open."""
    status = incident_status(incident)
    return {
        "incident_key": incident.incident_key,
        "event_id": event_to_name(incident),
        "first_id": incident.first_id,
        "status": status,
        "level": LEVELS[incident.level],
        "device_id": incident.device_id,
        "device": incident.device,
        "sensor_id": incident.sensor_id,
        "sensor": incident.sensor,
        "began": incident.began,
        "ended": incident.ended if status == "resolved" else None,
        "events": incident.events,
        "unread": incident.unread,
        "title": incident.title,
        "message": incident.message,
    }


def _table(*columns: str, title: str | None = None) -> Table:
    return Table(
        *columns, title=title, title_justify="left", title_style="bold", box=None,
        header_style="dim", pad_edge=False,
    )  # fmt: skip


def _who(place: EventDetails | ListedIncident) -> str:
    return place.device if place.sensor is None else f"{place.device} / {place.sensor}"


def _level(level: str) -> Text:
    return Text(level, _STYLES.get(level, ""))


def _seconds(ms: int) -> str:
    return clock(ms - ms % 1000)
