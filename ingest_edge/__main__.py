"""`python -m ingest_edge` starts the edge, in one or more processes."""

import sys
from typing import Annotated

import typer

from runtime.http_service import Service, run_service, run_service_workers, run_worker


def main(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8001,
    workers: Annotated[int, typer.Option(help="Processes that share the port.", min=1, max=64)] = 1,
    inherited_socket: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Accept packets over HTTP and store them in Kafka before responding."""
    if inherited_socket is not None:
        sys.exit(run_worker("edge", _service, inherited_socket))
    if workers > 1:
        command = [sys.executable, "-m", "ingest_edge", "--inherited-socket"]
        sys.exit(run_service_workers("edge", command, workers, host, port))
    sys.exit(run_service("edge", _service, host, port))


def _service() -> Service:
    from ingest_edge.api import app  # noqa: PLC0415 - reports a wrong setting sooner
    from ingest_edge.refusals import refusals  # noqa: PLC0415 - same reason

    return Service(app, refusals)


if __name__ == "__main__":
    typer.run(main)
