"""`python -m bench`: what is fast, as ratios measured in one run."""

from json import dumps
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import edge as edge_bench

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _bench() -> None:
    """Measure, and compare with a baseline in the same run."""


@app.command()
def edge(
    rounds: Annotated[int, typer.Option(min=1, help="How often each thing is measured.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.5, help="How long each time.")] = 3.0,
    json: Annotated[bool, typer.Option("--json", help="End with a line of JSON.")] = False,
) -> None:
    """HTTP edge, acknowledged, one worker, 64 connections, against a bare FastAPI hello."""
    result = edge_bench.run(rounds, seconds)
    table = Table("", "requests/s", "readings/s", "p50 ms", "p99 ms", box=None)
    for name, rate, readings, p50, p99 in result.rows:
        table.add_row(name, f"{rate:,.0f}", f"{readings:,.0f}", f"{p50:.1f}", f"{p99:.1f}")
    Console(stderr=True).print(table)
    print(dumps(result.figures) if json else f"ratio_20 {result.figures['ratio_20']}")


if __name__ == "__main__":
    app()
