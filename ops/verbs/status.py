"""`iot status`: show the progress of running processes."""

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
            help="Metrics URL, as in http://127.0.0.1:9101. Default: all on this machine.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the progress of running processes: lag, levels, sinks, snapshots, refusals."""
    status = ask(url or [])
    if json:
        print(msgspec.json.encode(status).decode())
        return
    out.print(status_tables(status))
