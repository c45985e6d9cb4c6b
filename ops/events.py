"""Events and incidents for operators: find, list, acknowledge and resolve."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import msgspec

from contract.errors import SetupError
from ops.explain.explanation import clock
from sinks.times import text_of
from sql.database import Database
from sql.statements import (
    DETAILS_OF_EVENTS,
    EVENT_IDS,
    EVENT_IDS_OF_INCIDENT,
    FIND_SENSORS,
    LIST_INCIDENTS,
    PICK_EVENTS,
    USER_NAMED,
    EventDetails,
    EventId,
    ListedIncident,
)

Level = Literal["notice", "warning", "critical"]
Status = Literal["open", "active", "acknowledged", "resolved", "superseded"]
LEVELS: tuple[Level, ...] = get_args(Level)
OPEN = ("active", "acknowledged")
NOTE_LENGTH = 1000
MOST = 10_000
"""Events or incidents that one call lists."""
_NEVER = "9999-12-31 23:59:59.999"
_KEY, _PREFIX, _ID = 32, 8, 18
"""Digits of a key, of its shortest prefix, and of the longest id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """The events to list. What is None does not restrict, except for the status."""

    device: str | None = None
    """Name of a device."""
    sensor: str | None = None
    """Name or id of a sensor."""
    begin: int | None = None
    """Epoch milliseconds UTC."""
    end: int | None = None
    """Epoch milliseconds UTC, exclusive."""
    status: Status | None = None
    """None: all but superseded ones."""
    level: Level | None = None
    """This level or a higher one."""
    code: str | None = None


def list_events(database: Database, wanted: Filter, limit: int) -> tuple[list[EventDetails], bool]:
    """The newest events, newest first, and whether there are more.

    Raises:
        SetupError: there is no such device or sensor.
    """
    devices, sensors = _places(database, wanted)
    if wanted.status is None:
        statuses: Sequence[str] = (*OPEN, "resolved")
    else:
        statuses = OPEN if wanted.status == "open" else (wanted.status,)
    types = None
    if wanted.level is not None and (at_least := LEVELS.index(wanted.level)):
        types = _json(LEVELS[at_least:])
    picked = database.query(
        PICK_EVENTS,
        devices,
        sensors,
        text_of(wanted.begin or 0),
        _NEVER if wanted.end is None else text_of(wanted.end),
        _json(statuses),
        types,
        None if wanted.code is None else wanted.code.upper(),
        limit + 1,
    )
    return _details(database, picked[:limit])[::-1], len(picked) > limit


def list_incidents(database: Database, begin: int, limit: int) -> tuple[list[ListedIncident], bool]:
    """The incidents that are open and those with an event since `begin`, open ones first, and
    whether there are more.
    """
    incidents = database.query(LIST_INCIDENTS, text_of(begin), limit + 1)
    return incidents[:limit], len(incidents) > limit


def find_event(database: Database, text: str) -> EventDetails:
    """The event with this id, key, or unambiguous prefix of a key.

    Raises:
        SetupError: no event matches, or several do.
    """
    key = text.strip().lower()
    is_id = key.isascii() and key.isdecimal() and len(key) <= _ID
    is_key = _PREFIX <= len(key) <= _KEY and not set(key) - set("0123456789abcdef")
    if not is_id and not is_key:
        raise SetupError(
            f"{text} is not an event: give its id, which `iot events list` shows, or at least "
            f"{_PREFIX} digits of its event_key"
        )
    keys = (key, key + "g") if is_key else (None, None)
    events = _details(database, database.query(EVENT_IDS, int(key) if is_id else None, *keys))
    if not events:
        raise SetupError(f"there is no event {text}: `iot events list` shows the ids of all events")
    if len(events) > 1:
        raise SetupError(
            f"several events match {text}: give one of the ids "
            + ", ".join(f"{event.id} ({event.title})" for event in events)
        )
    return events[0]


def events_of_incident(
    database: Database, event: EventDetails, limit: int = MOST
) -> list[EventDetails]:
    """The newest events of the incident of an event, in order of time. Only the event itself if it
    has no incident.
    """
    if event.incident_key is None:
        return [event]
    ids = database.query(EVENT_IDS_OF_INCIDENT, event.incident_key, limit)
    return _details(database, ids)


def user_id(database: Database, name: str) -> int:
    """The id of a user.

    Raises:
        SetupError: there is no such user.
    """
    for user in database.query(USER_NAMED, name):
        return user.id
    raise SetupError(
        f"--by {name}: the table users has no username {name}: use one that it has, or leave out "
        "--by and put the name into --note"
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to an event, in words."""

    done: bool
    """Whether the event now has the wanted state."""
    text: str


def acknowledge(database: Database, before: EventDetails, user: int | None, note: str) -> Outcome:
    """Acknowledge an active event, store the note, and mark the notifications of its incident as
    read. Changes nothing if the event has ended.
    """
    database.execute("acknowledge_event", _handling(before, user, note))
    (event,) = _details(database, [EventId(before.id)])
    if event.status == "acknowledged":
        return _done(before, event, note)
    if event.status == "superseded":
        return _superseded(event, "acknowledge")
    since = "" if event.resolved_at is None else f" since {clock(event.resolved_at)} UTC"
    return Outcome(
        False,
        f"event {event.id} is {event.status}{since}, so it cannot be acknowledged: "
        f"`iot events resolve {event.id}` marks its notifications as read",
    )


def resolve(database: Database, before: EventDetails, user: int | None, note: str) -> Outcome:
    """Resolve an open event, store the note, and mark the notifications of its incident as read.
    An event that has ended keeps its end.
    """
    database.execute("resolve_event", _handling(before, user, note))
    (event,) = _details(database, [EventId(before.id)])
    if event.status == "resolved":
        return _done(before, event, note)
    return _superseded(event, "resolve")


def _handling(event: EventDetails, user: int | None, note: str) -> str:
    told: dict[str, object] = {"event_id": event.id}
    if user is not None:
        told["user_id"] = user
    if note:
        told["note"] = note
    return msgspec.json.encode(told).decode()


def _done(before: EventDetails, event: EventDetails, note: str) -> Outcome:
    stored = ". The note is stored." if note else ""
    if before.status == event.status:
        return Outcome(True, f"event {event.id} was already {ended(event)}{stored}")
    return Outcome(True, f"event {event.id} is {event.status}: {event.message or event.title}")


def _superseded(event: EventDetails, verb: str) -> Outcome:
    return Outcome(
        False,
        f"event {event.id} is superseded: a replay found that it does not hold, so there is "
        f"nothing to {verb}",
    )


def ended(event: EventDetails) -> str:
    """The status of an event with its time and the user who set it."""
    if event.status == "acknowledged":
        at, by, name = event.acknowledged_at, event.acknowledged_by, event.acknowledged_by_name
    elif event.status == "resolved":
        at, by, name = event.resolved_at, event.resolved_by, event.resolved_by_name
    else:
        return event.status
    return event.status + moment(at, by, name)


def moment(at: int | None, by: int | None, name: str | None) -> str:
    """When, and by which user, with a blank before it; empty if neither is known."""
    when = "" if at is None else f" at {clock(at)} UTC"
    return when if by is None else f"{when} by {name or f'user {by}'}"


def _places(database: Database, wanted: Filter) -> tuple[str | None, str | None]:
    """The ids of devices, or those of sensors, as JSON arrays."""
    if wanted.device is None and wanted.sensor is None:
        return None, None
    sensor = wanted.sensor
    is_id = sensor is not None and sensor.isascii() and sensor.isdecimal() and len(sensor) <= _ID
    number = int(sensor) if sensor is not None and is_id else None
    found = database.query(FIND_SENSORS, wanted.device, sensor, number)
    if sensor is not None and any(place.sensor_id is not None for place in found):
        return None, _json(place.sensor_id for place in found if place.sensor_id is not None)
    if sensor is None and found:
        return _json({place.device_id for place in found}), None
    of = "" if wanted.device is None else f" of device {wanted.device}"
    if sensor is None or not database.query(FIND_SENSORS, wanted.device, None, None):
        raise SetupError(
            f"there is no device {wanted.device}: `iot devices list` shows all devices"
            if wanted.device is not None
            else f"there is no sensor {sensor}: no device is registered"
        )
    raise SetupError(f"there is no sensor {sensor}{of}: `iot devices list` shows all sensors")


def _details(database: Database, ids: Sequence[EventId]) -> list[EventDetails]:
    """In order of time."""
    return database.query(DETAILS_OF_EVENTS, _json(row.id for row in ids))


def _json(values: object) -> str:
    return msgspec.json.encode(list(values)).decode()  # type: ignore[call-overload]
