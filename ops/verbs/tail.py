"""`iot tail readings`: what is on the topic, as it comes."""

from typing import Annotated

import msgspec
import typer

from contract.settings import load_settings
from ops.tail import reading_text, tail_readings


def tail_readings_command(
    begin: Annotated[
        bool, typer.Option("--from-beginning", help="Begin with the first record that is there.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(min=1, help="End after that many lines.", show_default=False)
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(min=0, help="End when nothing has come for that many seconds."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """Show the readings on the topic as they come, until Ctrl-C: one line a reading.

    A record that is no packet is a line of its own. Nothing is committed.
    """
    for line in tail_readings(load_settings(), begin=begin, most=count, wait_s=wait):
        print(msgspec.json.encode(line).decode() if json else reading_text(line), flush=True)
