"""`iot tail readings`: print readings as they arrive on the topic."""

from typing import Annotated

import msgspec
import typer

from contract.settings import load_settings
from ops.tail import reading_text, tail_readings


def tail_readings_command(
    begin: Annotated[
        bool, typer.Option("--from-beginning", help="Start at the oldest record.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(min=1, help="Stop after N lines.", show_default=False)
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(min=0, help="Stop after N seconds without a record."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Print readings as they arrive on the topic, until Ctrl-C.

    Each reading is one line. A record that is not a packet is one line with the error. No offsets
    are committed.
    """
    for line in tail_readings(load_settings(), begin=begin, limit=count, wait_s=wait):
        print(msgspec.json.encode(line).decode() if json else reading_text(line), flush=True)
