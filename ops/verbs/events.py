"""`iot events`: list, acknowledge and resolve events."""

from collections.abc import Callable
from time import time
from typing import Annotated

import msgspec
import typer

from contract.errors import SetupError
from contract.settings import load_settings
from ops.event_tables import event_json, event_tables, events_table
from ops.events import (
    MOST,
    NOTE_LENGTH,
    OPEN,
    Filter,
    Level,
    Outcome,
    Status,
    acknowledge,
    events_of_incident,
    find_event,
    list_events,
    resolve,
    user_id,
)
from ops.replay.moments import parse_time
from ops.verbs.terminal import err, out
from sql.database import Database
from sql.schema import open_database
from sql.statements import EventDetails

_OTHERS = 20
"""Events of an incident that `show` lists."""
_Events = Annotated[
    list[str], typer.Argument(metavar="EVENT...", help="Id or event_key of each event.")
]
_Incident = Annotated[
    bool, typer.Option("--incident", help="Also the other open events of their incidents.")
]
_By = Annotated[
    str | None, typer.Option(help="Your username in the table users.", show_default=False)
]
_Note = Annotated[
    str, typer.Option(help="What you found or did. Replaces an earlier note.", show_default=False)
]


def events_list(
    *,
    sensor: Annotated[
        str | None, typer.Option(help="Name or id of the sensor.", show_default=False)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Name of the device.", show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Time of the oldest.", show_default=False)
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(help="Time to end before.", show_default=False),
    ] = None,
    status: Annotated[
        Status | None,
        typer.Option(
            help="open: active or acknowledged. Default: all but superseded.", show_default=False
        ),
    ] = None,
    level: Annotated[
        Level | None, typer.Option(help="This level or a higher one.", show_default=False)
    ] = None,
    code: Annotated[
        str | None, typer.Option(help="event_code, as in NO_DATA.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="Events to list.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """List events, newest first.

    A time is ISO-8601 (UTC if it has no zone), epoch seconds, or how long ago, as in 2h.
    """
    now = round(time() * 1000)
    wanted = Filter(
        device=device,
        sensor=sensor,
        begin=None if since is None else parse_time("--since", since, now),
        end=None if until is None else parse_time("--until", until, now),
        status=status,
        level=level,
        code=code,
    )
    with open_database(load_settings()) as database:
        events, more = list_events(database, wanted, limit)
    if json:
        for event in events:
            print(msgspec.json.encode(event_json(event)).decode())
    elif events:
        out.print(events_table(events))
    else:
        err.print("no events match")
    if more:
        err.print(f"there are older events: --limit {limit} shows only the newest", highlight=False)


def events_show(
    event: Annotated[str, typer.Argument(help="Id or event_key of the event.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show all that is stored about an event, and the other events of its incident.

    `iot explain` shows the readings and rules behind it.
    """
    with open_database(load_settings()) as database:
        details = find_event(database, event)
        incident = events_of_incident(database, details, _OTHERS + 1)
    if json:
        others = [other.id for other in incident if other.id != details.id]
        told = event_json(details) | {"other_ids": others}
        print(msgspec.json.encode(told).decode())
        return
    out.print(*event_tables(details, incident))


def events_ack(
    event: _Events,
    incident: _Incident = False,
    by: _By = None,
    note: _Note = "",
) -> None:
    """Acknowledge events: somebody takes care of them.

    Marks the notifications of their incidents as read. The flow still ends an acknowledged event
    when the sensor recovers, and an incident that gets worse rings again.
    """
    _handle(event, incident, by, note, acknowledge)


def events_resolve(
    event: _Events,
    incident: _Incident = False,
    by: _By = None,
    note: _Note = "",
) -> None:
    """Resolve events that no flow will end.

    Marks the notifications of their incidents as read. The level in the flow stays as it is: while
    a sensor is beyond a bound, it rings again only when it gets worse or after it has recovered.
    """
    _handle(event, incident, by, note, resolve)


def _handle(
    texts: list[str],
    incident: bool,
    by: str | None,
    note: str,
    handle: Callable[[Database, EventDetails, int | None, str], Outcome],
) -> None:
    note = note.strip()
    if len(note) > NOTE_LENGTH:
        raise SetupError(f"--note has {len(note)} characters: give up to {NOTE_LENGTH}")
    refused = []
    with open_database(load_settings()) as database:
        user = None if by is None else user_id(database, by)
        events = {event.id: event for event in (find_event(database, text) for text in texts)}
        if incident:
            for event in tuple(events.values()):
                for other in events_of_incident(database, event):
                    if other.status in OPEN:
                        events.setdefault(other.id, other)
        for event in events.values():
            outcome = handle(database, event, user, note)
            if outcome.done:
                out.print(outcome.text, markup=False, highlight=False, soft_wrap=True)
            else:
                refused.append(outcome.text)
    if refused:
        raise SetupError("; ".join(refused))
