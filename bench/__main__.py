"""`python -m bench`: benchmarks as ratios measured within one run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from json import dumps
from pathlib import Path
from signal import SIGTERM, default_int_handler, signal
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import alarms as alarms_bench
from bench import dataflow as dataflow_bench
from bench import detector as detector_bench
from bench import edge as edge_bench
from bench import latency as latency_bench
from bench import ml as ml_bench
from bench import nab as nab_bench
from bench import replay as replay_bench
from bench import scale as scale_bench
from bench import sinks as sinks_bench
from bench import skab as skab_bench
from contract.errors import IotError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@contextmanager
def _report_errors(err: Console) -> Iterator[None]:
    """End the command with one line and exit code 1 on an `IotError`."""
    try:
        yield
    except IotError as error:
        err.print(f"bench: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error


@app.callback()
def _bench() -> None:
    """Measure, and compare with a baseline in the same run."""
    signal(SIGTERM, default_int_handler)  # stop child processes on SIGTERM as on Ctrl-C


@app.command()
def edge(
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.5, help="Seconds per measurement.")] = 3.0,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON at the end.")
    ] = False,
) -> None:
    """The HTTP edge with broker acknowledgement, against a bare FastAPI hello; one worker each."""
    result = edge_bench.run(rounds, seconds)
    table = Table("", "requests/s", "readings/s", "p50 ms", "p99 ms", box=None)
    for name, rate, readings, p50, p99 in result.rows:
        table.add_row(name, f"{rate:,.0f}", f"{readings:,.0f}", f"{p50:.1f}", f"{p99:.1f}")
    Console(stderr=True).print(table)
    print(dumps(result.figures) if json else f"ratio_20 {result.figures['ratio_20']}")


@app.command()
def dataflow(
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 3,
    readings: Annotated[
        int, typer.Option(min=200_000, help="Number of readings on each topic.")
    ] = 2_000_000,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON at the end.")
    ] = False,
) -> None:
    """The flow against a bare decoding loop, and against Bytewax's own windows; one worker."""
    err = Console(stderr=True, highlight=False)
    with _report_errors(err):
        result = dataflow_bench.run(rounds, readings, partial(err.print, soft_wrap=True))
    table = Table("", "median", "rounds", "target", box=None)
    for row in result.rows:
        table.add_row(*row)
    err.print(table)
    figures = result.figures
    print(dumps(figures) if json else f"ratio_to_decode {figures['ratio_to_decode']}")


@app.command()
def scale(
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 3,
    readings: Annotated[
        int,
        typer.Option(
            min=200_000,
            help="Readings on the topic, rounded down to a multiple of 10 000.",
        ),
    ] = 10_000_000,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON at the end.")
    ] = False,
) -> None:
    """The flow in two processes against one, with and without recovery, and its restart time."""
    err = Console(stderr=True, highlight=False)
    with _report_errors(err):
        result = scale_bench.run(
            rounds, readings // 10_000 * 10_000, partial(err.print, soft_wrap=True)
        )
    table = Table("", "median", "rounds", "target", box=None)
    for row in result.rows:
        table.add_row(*row)
    err.print(table)
    figures = result.figures
    print(dumps(figures) if json else f"ratio_independent {figures['ratio_independent']}")


@app.command()
def replay(
    readings: Annotated[
        int, typer.Option(min=200_000, help="Number of readings, spread over 24 hours.")
    ] = 8_000_000,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON at the end.")
    ] = False,
) -> None:
    """`iot replay --dry-run` with other thresholds, against two runs of the flow."""
    err = Console(stderr=True, highlight=False)
    with _report_errors(err):
        result = replay_bench.run(readings, partial(err.print, soft_wrap=True))
    err.print(
        f"replay {result.replay_readings_per_s:,} readings/s, flow "
        f"{result.flow_readings_per_s:,} readings/s, ratio {result.ratio_to_flow} "
        f"(target: at least 0.5); "
        f"the diff is {'correct' if result.right else 'WRONG'}: {result.new:,} new, "
        f"{result.gone:,} gone, {result.changed:,} changed, {result.unchanged:,} unchanged"
    )
    print(dumps(asdict(result)) if json else f"ratio_to_flow {result.ratio_to_flow}")
    if not result.right:
        raise typer.Exit(1)


@app.command()
def latency(
    seconds: Annotated[float, typer.Option(min=20, help="How long the sensors send.")] = 60.0,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON at the end.")
    ] = False,
) -> None:
    """Latency from a reading that crosses a threshold, posted over HTTP, to its event's row."""
    err = Console(stderr=True, highlight=False)
    result = latency_bench.run(seconds, err.print)
    err.print(
        f"{result.crossings} crossings: p50 {result.p50_ms:,.0f} ms, p99 {result.p99_ms:,.0f} ms, "
        f"target: at most {result.bound_ms:,.0f} ms"
    )
    print(dumps(asdict(result)) if json else f"p99_ms {result.p99_ms}")


@app.command()
def sinks(
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 3,
    readings: Annotated[
        int, typer.Option(min=20_000, help="Number of rows per measurement.")
    ] = 200_000,
    full: Annotated[
        bool, typer.Option(help="Also measure a table of 2 million rows (SQL Server: 10 million).")
    ] = True,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON at the end.")
    ] = False,
) -> None:
    """The readings sink against plain inserts, on SQLite and, if DB_HOST is set, on SQL Server."""
    err = Console(stderr=True, highlight=False)
    with _report_errors(err):
        result = sinks_bench.run(rounds, readings, partial(err.print, soft_wrap=True), full=full)
    table = Table("", "rows/s", "rounds", "/ bare", box=None)
    for row in result.rows:
        table.add_row(*row)
    err.print(table)
    figures = result.figures
    print(dumps(figures) if json else f"sqlite_ratio {figures['sqlite_ratio']}")


@app.command()
def nab(
    data_dir: Annotated[
        Path, typer.Argument(help="Directory with windows.json and the data files.")
    ],
    out_dir: Annotated[Path, typer.Argument(help="Directory for the scores of each point.")],
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON at the end.")
    ] = False,
) -> None:
    """Detectors on the NAB files: share of anomalies found, at one false alarm per 1 000 points."""
    err = Console(stderr=True, highlight=False)
    with _report_errors(err):
        result = nab_bench.run(data_dir, out_dir, err.print)
    table = Table("", "found", "alarms per 1 000", "median delay", "bound", "points/s", box=None)
    for name, rating, rate in result.rows:
        table.add_row(
            name, f"{rating.found:.3f}", f"{rating.alarms_per_1000:.2f}",
            f"{rating.median_delay_points:.0f}", f"{rating.bound:.3f}", f"{rate:,.0f}",
        )  # fmt: skip
    err.print(table)
    print(dumps(result.figures) if json else f"found {result.figures['found']}")


@app.command()
def skab(
    data_dir: Annotated[Path, typer.Argument(help="Directory with SKAB's folders.")],
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON at the end.")
    ] = False,
) -> None:
    """Detectors on SKAB's pump rigs, against an isolation forest and T-squared."""
    err = Console(stderr=True, highlight=False)
    with _report_errors(err):
        result = skab_bench.run(data_dir)
    table = Table("", "F1", "false alarms", "missed", "F1 after 400", "false after 400", box=None)
    for name, whole, after in result.rows:
        figures = (whole.f1, whole.false_alarm_rate, whole.missed_alarm_rate)
        shown = (*figures, after.f1, after.false_alarm_rate)
        table.add_row(name, *(f"{figure:.3f}" for figure in shown))
    err.print(table)
    print(dumps(result.figures) if json else f"f1 {result.figures['f1']}")


@app.command()
def detector(
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 5,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON at the end.")
    ] = False,
) -> None:
    """The light detector in array form, 10 000 sensors: panes per second."""
    result = detector_bench.run(rounds)
    table = Table("", "panes/s", "rounds", box=None)
    for name, rate, least, most in result.rows:
        table.add_row(name, f"{rate:,.0f}", f"{least:,.0f} - {most:,.0f}")
    Console(stderr=True).print(table)
    figures = result.figures
    print(dumps(figures) if json else f"panes_per_s {figures['panes_per_s']:.0f}")


@app.command()
def alarms(
    data_dir: Annotated[
        Path, typer.Argument(help="Directory of labelled series with windows.json; may be missing.")
    ] = alarms_bench.DATA,
    scale: Annotated[
        float, typer.Option(min=0.01, max=10, help="Multiplies the days of each sensor.")
    ] = 1.0,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON at the end.")
    ] = False,
) -> None:
    """Alarms per day on healthy sensors of many kinds, and the share of labelled windows found."""
    err = Console(stderr=True, highlight=False)
    with _report_errors(err):
        result = alarms_bench.run(data_dir, partial(err.print, soft_wrap=True), scale)
    for title, header, rows in result.tables:
        table = Table(title, *header, box=None)
        for row in rows:
            table.add_row(*row)
        err.print(table)
    if json:
        print(dumps(result.figures))
        return
    for name, figure in result.figures.items():
        print(name, dumps(figure))


@app.command()
def ml(
    sensors: Annotated[int, typer.Option(min=100, help="Number of sensors in the batch.")] = 10_000,
    seconds: Annotated[
        float, typer.Option(min=1, help="How long requests are sent, per number of connections.")
    ] = 10.0,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON at the end.")
    ] = False,
) -> None:
    """The prediction service on a million readings, and the batch with 500 readings per sensor."""
    err = Console(stderr=True, highlight=False)
    with _report_errors(err):
        result = ml_bench.run(sensors, seconds, partial(err.print, soft_wrap=True))
    table = Table("", "", box=None)
    for row in result.rows:
        table.add_row(*row)
    err.print(table)
    print(dumps(result.figures))


if __name__ == "__main__":
    app()
