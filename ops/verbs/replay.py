"""`iot replay`: read the log again, and show or correct what differs."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from contract.errors import SetupError
from contract.settings import load_settings
from ops.replay.plan import DRY_RUN
from ops.replay.run import CutOffError, Request, replay
from ops.replay.tables import as_json, tables
from ops.verbs.terminal import err, out


def replay_command(
    *,
    begin: Annotated[
        str | None,
        typer.Option("--from", help="Time or offset of the first row; default: the log's start."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Of the first row after it; default: now.")
    ] = None,
    sensors: Annotated[
        str | None, typer.Option(help="Ids, as 7,8: only rows of these count. Default: all.")
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(help="Judge all of it by these tables, see `iot rules`; others as they are."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell which events differ from the database's.")
    ] = False,
    into: Annotated[
        str | None,
        typer.Option(help="live: correct the database. Any name: a database in DIR/NAME/iot.db."),
    ] = None,
    margin: Annotated[
        str | None,
        typer.Option(
            help="Read only so much before and after the span, as 2h, and not the whole log: "
            "levels, detectors and silences that began earlier are then not known."
        ),
    ] = None,
    notify: Annotated[
        bool, typer.Option("--notify", help="With live: new events are unread, not read.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
    dir: Annotated[  # noqa: A002 - the option's name
        Path, typer.Option(help="Folder of the runs that are going on, or kept.")
    ] = Path("replay"),
) -> None:
    """Read the log again, beside the live flow, and tell which events differ.

    A time is ISO-8601 (UTC without a zone) or epoch seconds.
    A whole number below 1e9 is an offset: in each partition, the arrival time of the record there.
    Rows count by their event time.
    The whole log is read, whatever the span: its edges are as the live flow had them.

    Into live nothing is written twice, and events that no longer hold become superseded.
    Cut off, the same command goes on.
    """
    if dry_run == (into is not None):
        raise SetupError("give --dry-run, or --into live, or --into NAME")
    request = Request(
        into=into or DRY_RUN,
        begin=begin,
        end=end,
        sensors=_sensor_ids(sensors),
        rules=rules,
        margin=margin,
        notify=notify,
        directory=dir,
    )
    try:
        report = replay(request, load_settings(), err)
    except CutOffError as error:
        err.print(f"iot: {error}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(130) from error
    for part in tables(report):
        (err if json else out).print(part)
    if json:
        print(msgspec.json.encode(as_json(report, request.into)).decode())


def _sensor_ids(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if not all(part.isdecimal() for part in text.split(",")):
        raise SetupError(f"--sensors {text}: give ids, as 7,8")
    return tuple(sorted({int(part) for part in text.split(",")}))
