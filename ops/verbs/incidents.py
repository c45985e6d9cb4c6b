"""`iot incidents`: list incidents."""

from time import time
from typing import Annotated

import msgspec
import typer

from contract.settings import load_settings
from ops.event_tables import incident_json, incidents_table
from ops.events import MOST, list_incidents
from ops.replay.moments import parse_time
from ops.verbs.terminal import err, out
from sql.schema import open_database


def incidents_command(
    *,
    since: Annotated[
        str, typer.Option(help="Also those that ended, with an event since this time.")
    ] = "1d",
    every: Annotated[bool, typer.Option("--all", help="List incidents of any age.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="Incidents to list.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """List incidents, open ones first, the worst of them at the top.

    An incident is everything that one problem causes. `iot events show`, `ack` and `resolve` take
    the id in the column `event`, which is the newest open event of the incident.

    A time is ISO-8601 (UTC if it has no zone), epoch seconds, or how long ago, as in 2h.
    """
    now = round(time() * 1000)
    begin = 0 if every else parse_time("--since", since, now)
    with open_database(load_settings()) as database:
        incidents, more = list_incidents(database, begin, limit)
    if json:
        for incident in incidents:
            print(msgspec.json.encode(incident_json(incident)).decode())
    elif incidents:
        out.print(incidents_table(incidents, now))
    else:
        err.print(
            "there are no incidents" if every else f"no incident is open or since {since}; "
            "--all lists older ones",
            markup=False, highlight=False,
        )  # fmt: skip
    if more:
        err.print(f"there are more incidents: use a --limit above {limit}", highlight=False)
