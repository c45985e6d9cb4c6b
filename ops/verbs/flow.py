"""`iot flow`, and its earlier name `iot run`: run the flow and keep it running."""

from pathlib import Path
from typing import Annotated

import typer

from contract.settings import load_settings
from ops.run import METRICS_PORT, FleetPlan, run


def flow_command(
    recovery: Annotated[
        Path, typer.Option(help="Recovery directory. Each process gets a subdirectory.")
    ] = Path("recovery"),
    processes: Annotated[
        int, typer.Option(min=1, max=1000, help="Number of processes. They share the partitions.")
    ] = 1,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="Run the processes as one Bytewax cluster with one store."),
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65000,
            help="Port of the first process, then ascending. Default: METRICS_PORT or 9101.",
        ),
    ] = None,
    snapshot_seconds: Annotated[
        int, typer.Option(min=1, max=3600, help="Interval between snapshots.")
    ] = 10,
) -> None:
    """Run the flow, and keep it running.

    A process that dies is restarted and continues from its last snapshot. If --processes changes,
    the state of each partition moves to the process that now has the partition. On Ctrl-C or
    SIGTERM, all processes finish the current batch, take a snapshot and exit. A second signal
    stops them immediately.
    """
    settings = load_settings()
    port = metrics_port or settings.metrics_port or METRICS_PORT
    run(settings, FleetPlan(recovery, processes, cluster, port, snapshot_seconds))
