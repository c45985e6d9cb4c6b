"""`iot demo`: the whole pipeline in one terminal."""

from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ops.demo import run_demo
from ops.verbs.terminal import err, out


def demo_command(
    seconds: Annotated[
        float, typer.Option(min=0, help="How long devices post. 0: until Ctrl-C.")
    ] = 30,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    dir: Annotated[  # noqa: A002 - the option's name
        Path | None, typer.Option(help="Keep the database, logs and recovery store in this folder.")
    ] = None,
) -> None:
    """Run the whole pipeline on this machine.

    Starts an in-memory broker, an edge, a flow on SQLite, and 20 devices that post.
    """
    summary = run_demo(seconds, dir, err)
    if json:
        print(dumps(asdict(summary)))
        return
    table = Table(title="summary", show_header=False)
    for name, value in asdict(summary).items():
        table.add_row(name.replace("_", " "), str(value))
    out.print(table)
