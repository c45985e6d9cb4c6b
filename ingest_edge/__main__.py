"""`python -m ingest_edge`: the edge on one worker."""

from typing import Annotated

import typer
import uvicorn

_GRACE_S = 15
"""How long requests in flight may take at a stop; an acknowledgement takes 10 s at most."""


def main(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8001,
) -> None:
    """Accept packets over HTTP and make them durable in Kafka before answering."""
    uvicorn.run(
        "ingest_edge.api:app",
        host=host,
        port=port,
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
    )


if __name__ == "__main__":
    typer.run(main)
