"""`iot doctor`: check that everything the pipeline needs is there."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from ops.doctor.examine import examine
from ops.doctor.finding import State
from ops.verbs.terminal import err, out


def doctor_command(
    recovery: Annotated[Path, typer.Option(help="Recovery directory of the flow.")] = Path(
        "recovery"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check that everything the pipeline needs is there.

    Checks settings, broker, topics, database, schema, recovery stores, disks and ports. Each check
    prints one line with OK, WARN or FAIL, and what to do. The command changes nothing. The exit
    code is 1 if a check fails.
    """
    with err.status("checking"):
        findings = list(examine(recovery))
    failed = sum(finding.state is State.FAIL for finding in findings)
    if json:
        print(msgspec.json.encode({"failed": failed, "findings": findings}).decode())
    elif out.is_terminal:
        table = Table("", "", "", box=None, show_header=False)
        for finding in findings:
            style = {State.OK: "green", State.WARN: "yellow", State.FAIL: "bold red"}[finding.state]
            table.add_row(Text(finding.state, style), finding.about, Text(finding.text))
        out.print(table)
    else:
        for finding in findings:
            print(f"{finding.state:<4}  {finding.about:<14}  {finding.text}")
    if failed:
        raise typer.Exit(1)
