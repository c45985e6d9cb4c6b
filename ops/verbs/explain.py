"""`iot explain`: show what led to an event."""

from typing import Annotated

import msgspec
import typer

from contract.settings import load_settings
from ops.explain.explanation import as_json, explain
from ops.explain.tables import tables
from ops.verbs.terminal import out
from sql.schema import open_database


def explain_command(
    key: Annotated[
        str, typer.Argument(help="event_key of the event, or its first 8 or more digits.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the rules, panes, arrivals and timers that led to an event."""
    with open_database(load_settings()) as database:
        explanation = explain(database, key)
    if json:
        print(msgspec.json.encode(as_json(explanation)).decode())
        return
    out.print(*tables(explanation))
