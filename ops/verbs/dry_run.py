"""`iot dry-run`: the engine over a file, with no broker and no database."""

import os
from dataclasses import asdict
from pathlib import Path
from sys import stdout
from typing import Annotated

import msgspec
import typer
from rich.progress import open as rich_open

from contract.errors import SetupError
from contract.settings import load_settings
from ops.dry_run import DryRun, read_records, read_rules
from ops.verbs.terminal import err


def dry_run_command(
    file: Annotated[
        Path,
        typer.Option(
            "--input", help="One record of the topic a line: partition, arrival, value (JSON)."
        ),
    ],
    rules: Annotated[
        Path | None,
        typer.Option(help="JSON: rows of alert_thresholds and so on, by their tables' names."),
    ] = None,
    windows: Annotated[bool, typer.Option("--windows", help="Print all windows, too.")] = False,
    batch: Annotated[
        int, typer.Option(min=1, help="How many records to take at once; it changes nothing.")
    ] = 1000,
) -> None:
    """Run the engine over a file of records, with no broker and no database.

    Prints a line of JSON for each window, event, late reading, rollup and prediction, in order of
    time, and a summary.
    """
    run = DryRun(read_rules(rules), load_settings(), windows=windows)
    try:
        with rich_open(
            file, "rb", description="reading", console=err, transient=True,
            disable=not err.is_terminal,
        ) as lines:  # fmt: skip
            run.run(read_records(lines, str(file)), batch)
    except OSError as error:
        raise SetupError(f"{file} cannot be read: {error.strerror}") from error
    encode = msgspec.json.encode
    try:
        for line in run.lines():
            stdout.buffer.write(encode(line) + b"\n")
        stdout.buffer.write(encode({"kind": "summary"} | asdict(run.summary())) + b"\n")
        stdout.buffer.flush()
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
