"""`iot edge`, `schema`, `predict` and `batch`: the programs with their own modules."""

import os
import sys
from collections.abc import Callable

import typer

PROGRAMS = {
    "edge": ("ingest_edge", "Accept packets over HTTP and write them to Kafka."),
    "schema": ("sql", "Create, check or print the schema of the configured database."),
    "predict": ("ml.service", "Serve forecasts over HTTP."),
    "batch": ("ml.batch", "Predict every sensor that has new readings, once or periodically."),
}
"""Verb -> (module, help text)."""


def become(module: str) -> Callable[[typer.Context], None]:
    """A command that replaces this process with `python -m module` and the same arguments."""

    def command(context: typer.Context) -> None:
        os.execv(sys.executable, [sys.executable, "-m", module, *context.args])  # noqa: S606

    return command
