"""`iot dry-run`: run the engine on a file, without a broker or a database."""

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
        typer.Option("--input", help="JSON lines, one record each: partition, arrival, value."),
    ],
    rules: Annotated[
        Path | None,
        typer.Option(
            help="JSON object of rule tables, as `iot rules` prints it. Without the table "
            "ml_models, no model is used."
        ),
    ] = None,
    windows: Annotated[bool, typer.Option("--windows", help="Also print every window.")] = False,
    batch: Annotated[
        int, typer.Option(min=1, help="Records per batch. The results do not depend on it.")
    ] = 1000,
) -> None:
    """Run the engine on a file of records, without a broker or a database.

    Prints one JSON line for each event, late reading, rollup, prediction and undecodable record,
    in time order, and a summary at the end. With --windows, also one line for each window.
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
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
