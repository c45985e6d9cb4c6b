"""`iot status`: how far running processes are."""

from typing import Annotated

import msgspec
import typer

from ops.status import ask
from ops.status_tables import status_tables
from ops.verbs.terminal import out


def status_command(
    url: Annotated[
        list[str] | None,
        typer.Argument(
            help="Metrics of a process, say http://127.0.0.1:9101; default: all that run here.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how far running processes are: lag, levels, sinks, snapshots, what was refused."""
    status = ask(url or [])
    if json:
        print(msgspec.json.encode(status).decode())
        return
    out.print(status_tables(status))
