"""`iot edge`, `schema`, `predict` and `batch`: the programs that have a module of their own."""

import os
import sys
from collections.abc import Callable

import typer

PROGRAMS = {
    "edge": ("ingest_edge", "Accept packets over HTTP, and make them durable in Kafka."),
    "schema": ("sql", "Create, check or print the schema of the configured database."),
    "predict": ("ml.service", "Answer forecasts over HTTP."),
    "batch": ("ml.batch", "Predict every sensor that has new readings, once or again and again."),
}
"""The module and the help of each."""


def become(module: str) -> Callable[[typer.Context], None]:
    """The command that replaces this process by `python -m module`, with the same arguments."""

    def command(context: typer.Context) -> None:
        os.execv(sys.executable, [sys.executable, "-m", module, *context.args])  # noqa: S606

    return command
