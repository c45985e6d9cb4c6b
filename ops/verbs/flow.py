"""`iot flow`, and its earlier name `iot run`: the flow, kept running."""

from pathlib import Path
from typing import Annotated

import typer

from contract.settings import load_settings
from ops.run import METRICS_PORT, FleetPlan, run


def flow_command(
    recovery: Annotated[
        Path, typer.Option(help="Recovery root: a directory for each process is made in it.")
    ] = Path("recovery"),
    processes: Annotated[
        int, typer.Option(min=1, max=1000, help="How many, each with its share of partitions.")
    ] = 1,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="One Bytewax cluster of them, around one store.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65000,
            help="Of the first process; the next has the next. Default: METRICS_PORT, else 9101.",
        ),
    ] = None,
    snapshot_seconds: Annotated[
        int, typer.Option(min=1, max=3600, help="From one snapshot to the next.")
    ] = 10,
) -> None:
    """Run the flow, and keep it running.

    A process that dies is started again, and goes on from its last snapshot. With another number
    of --processes than before, the state of each partition moves to who takes it now. Ctrl-C and
    SIGTERM end all of them after the batch in hand, with a snapshot; a second one at once.
    """
    settings = load_settings()
    port = metrics_port or settings.metrics_port or METRICS_PORT
    run(settings, FleetPlan(recovery, processes, cluster, port, snapshot_seconds))
