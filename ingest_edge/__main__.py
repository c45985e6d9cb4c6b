"""`python -m ingest_edge`: the edge on one worker."""

import resource
from typing import Annotated

import typer
import uvicorn

from ingest_edge.server import Protocol
from runtime.log import configure_log

_GRACE_S = 15
"""How long requests in flight may take at a stop; an acknowledgement takes 10 s at most."""
_IDLE_S = 30
"""How long a connection stays open between two requests."""


def main(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8001,
) -> None:
    """Accept packets over HTTP and make them durable in Kafka before answering."""
    configure_log()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection for each device
    uvicorn.run(
        "ingest_edge.api:app",
        host=host,
        port=port,
        http=Protocol,
        ws="none",
        log_config=None,
        log_level="info",
        access_log=False,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )


if __name__ == "__main__":
    typer.run(main)
