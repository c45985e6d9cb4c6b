"""`python -m ingest_edge`: the edge on one worker."""

from typing import Annotated

import typer
import uvicorn


def main(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8001,
) -> None:
    """Accept packets over HTTP and make them durable in Kafka before answering."""
    uvicorn.run("ingest_edge.api:app", host=host, port=port, access_log=False)


if __name__ == "__main__":
    typer.run(main)
