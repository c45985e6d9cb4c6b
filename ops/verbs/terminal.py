"""What the verbs share: the terminal, and arguments that several of them take."""

from typing import Annotated

import typer
from rich.console import Console

from contract.errors import SetupError

out = Console(emoji=False)
err = Console(stderr=True, emoji=False)
URL = "http://127.0.0.1:8001"
Url = Annotated[str, typer.Option(help="Address of the edge.")]


def checked_name(name: str) -> str:
    """The name of a device.

    Raises:
        SetupError: it is too short or too long for the database.
    """
    if not 0 < len(name) <= 255:
        raise SetupError("the name of a device has 1 to 255 characters")
    return name
