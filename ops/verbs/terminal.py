"""What the verbs share: the terminal, and arguments that several verbs take."""

from typing import Annotated

import typer
from rich.console import Console

from contract.errors import SetupError

out = Console(emoji=False)
err = Console(stderr=True, emoji=False)
URL = "http://127.0.0.1:8001"
Url = Annotated[str, typer.Option(help="Address of the edge.")]


def checked_name(name: str) -> str:
    """Return `name`, the name of a device.

    Raises:
        SetupError: the name is too short or too long for the database.
    """
    if not 0 < len(name) <= 255:
        raise SetupError(f"the device name has {len(name)} characters: give 1 to 255")
    return name
