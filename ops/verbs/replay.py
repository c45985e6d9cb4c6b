"""`iot replay`: read the log again, and show or correct the differences."""

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
        typer.Option("--from", help="Time or offset to start at. Default: start of the log."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Time or offset to end before. Default: now.")
    ] = None,
    sensors: Annotated[
        str | None, typer.Option(help="Only these sensors, by id, as in 7,8. Default: all.")
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            help="Rules file, see `iot rules`. Other tables of rules are read from the database. "
            "Without the table ml_models, the models are those of each time. "
            "Default: the rules that were in force at each time."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show which events differ from the database.")
    ] = False,
    into: Annotated[
        str | None,
        typer.Option(help="live: correct the database. Any other name: write DIR/NAME/iot.db."),
    ] = None,
    margin: Annotated[
        str | None,
        typer.Option(
            help="Read only this much before and after the span, as in 2h, instead of the whole "
            "log. Levels, detectors and silences that began earlier are then unknown."
        ),
    ] = None,
    notify: Annotated[
        bool, typer.Option("--notify", help="With --into live: mark new events as unread.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
    dir: Annotated[  # noqa: A002 - the option's name
        Path, typer.Option(help="Folder for unfinished and kept runs.")
    ] = Path("replay"),
) -> None:
    """Read the log again, next to the live flow, and show which events differ.

    A time is ISO-8601 (UTC if it has no zone) or epoch seconds.
    A whole number below 1e9 is an offset: in each partition, the arrival time of that record.
    Rows are selected by event time.
    The whole log is read for any span, so state at its edges is what the live flow had.

    With --into live nothing is written twice, and events that no longer hold become superseded.
    If the command is interrupted, run it again and it continues.
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
        raise SetupError(f"--sensors {text}: give sensor ids, as in 7,8")
    return tuple(sorted({int(part) for part in text.split(",")}))
