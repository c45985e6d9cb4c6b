"""`python -m tests.chaos`: prove that nothing is lost, whichever process dies."""

import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from json import dumps
from pathlib import Path
from random import randrange
from subprocess import PIPE, STDOUT
from subprocess import run as run_process
from tempfile import mkdtemp
from time import monotonic
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from contract.settings import load_settings
from tests.chaos.faults import FAULTS, run_fault
from tests.chaos.fire import fire
from tests.chaos.idle import idle
from tests.chaos.kafka import why_not
from tests.chaos.matrix import case_of, run
from tests.chaos.rig import DifferenceError, MissingError
from tests.chaos.soak import soak
from tests.chaos.starts import starts

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _chaos() -> None:
    """Kill, disconnect and overload the pipeline, and check that nothing is lost or repeated."""


@app.command()
def matrix(
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first run. 0: random.")] = 0,
    runs: Annotated[int, typer.Option(min=1, help="Number of runs. Each has the next seed.")] = 40,
    together: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 2,
) -> None:
    """Kill edge, flow and batch runner at named points, and compare with undisturbed runs."""
    first = seed or randrange(1, 1_000_000)
    print(f"{runs} runs from seed {first}: make chaos SEED={first} RUNS={runs}", flush=True)
    place = Path(mkdtemp(prefix="iot-chaos-"))
    began, failed = monotonic(), 0
    with ThreadPoolExecutor(together) as pool:
        works = [pool.submit(_run_apart, place / str(first + n), first + n) for n in range(runs)]
        try:
            for number, work in enumerate(as_completed(works), 1):
                code, said = work.result()
                failed += code != 0
                print(f"{number:3} {said.strip()}", flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    print(
        f"{runs - failed} of {runs} runs ended as if nothing had happened, {failed} did not, "
        f"in {monotonic() - began:.0f} s"
    )
    if failed:
        raise typer.Exit(1)
    shutil.rmtree(place)


def _run_apart(folder: Path, seed: int) -> tuple[int, str]:
    """Start a run as a separate process. Returns exit code and output. The folder is kept if it
    failed.
    """
    folder.mkdir()
    ended = run_process(
        [sys.executable, "-m", "tests.chaos", "run", str(seed), str(folder)],
        stdout=PIPE, stderr=STDOUT, text=True, check=False,
    )  # fmt: skip
    if ended.returncode:
        return ended.returncode, f"{ended.stdout.rstrip()}\n    all of it is in {folder}"
    shutil.rmtree(folder)
    return 0, ended.stdout


@app.command("run")
def run_command(seed: int, folder: Path) -> None:
    """Run the case of one seed of the matrix in an empty folder."""
    began, case = monotonic(), case_of(seed)
    try:
        run(case, folder, load_settings().kafka_bootstrap_servers)
    except (DifferenceError, AssertionError) as error:
        print(f"{case}, {monotonic() - began:.1f} s: DIFFERS\n{error}")
        raise typer.Exit(1) from error
    print(f"{case}, {monotonic() - began:.1f} s: ok")


@app.command()
def faults(
    only: Annotated[str, typer.Option(help="Only faults with this text in their names.")] = "",
) -> None:
    """Inject faults into log, clocks, database and disks, with our own real Kafka."""
    if reason := why_not():
        print(f"faults skipped, for they need a Kafka of their own: {reason}")
        return
    failed = 0
    place = Path(mkdtemp(prefix="iot-faults-"))
    for fault in FAULTS:
        if only in fault.__name__:
            folder = place / fault.__name__
            folder.mkdir()
            began, said = monotonic(), "ok"
            try:
                run_fault(fault, folder)
                shutil.rmtree(folder)
            except MissingError as missing:
                said = f"skipped, this machine does not have {missing}"
            except (DifferenceError, AssertionError) as error:
                said = f"DIFFERS\n{error}\n    all of it is in {folder}"
                failed += 1
            print(f"{fault.__name__}, {monotonic() - began:.1f} s: {said}", flush=True)
    if failed:
        raise typer.Exit(1)
    shutil.rmtree(place)


@app.command("starts")
def starts_command(
    runs: Annotated[int, typer.Option(min=1, max=5000, help="Total number of starts.")] = 500,
    busy: Annotated[int, typer.Option(min=0, max=64, help="Processes that load the CPU.")] = 4,
    together: Annotated[int, typer.Option(min=1, max=16, help="Flows started at a time.")] = 4,
) -> None:
    """Start and stop the flow hundreds of times on a busy machine: it must never crash."""
    _prove(lambda place, say: starts(runs, busy, together, place, say))


@app.command("idle")
def idle_command(
    flows: Annotated[int, typer.Option(min=1, max=16, help="Number of flows.")] = 6,
    minutes: Annotated[float, typer.Option(min=0.5, max=120, help="Total duration.")] = 5,
) -> None:
    """Keep flows idle while their broker fails twice, and check that all survive and still work."""
    _prove(lambda place, say: idle(flows, minutes, place, say))


@app.command("fire")
def fire_command(
    cases: Annotated[int, typer.Option(min=10, max=100_000, help="Hostile requests.")] = 2000,
) -> None:
    """Send hostile and honest requests, and measure the effect on the honest senders."""
    _prove(lambda place, say: fire(cases, place, say))


def _prove(proof: Callable[[Path, Callable[[str], None]], dict[str, Any]]) -> None:
    """Run `proof` in a folder that is kept if it fails, and print the results as JSON."""
    place = Path(mkdtemp(prefix="iot-chaos-"))
    try:
        print(dumps(proof(place, partial(print, file=sys.stderr, flush=True))))
    except (DifferenceError, AssertionError) as error:
        print(f"{error}\n    all of it is in {place}", file=sys.stderr)
        raise typer.Exit(1) from error
    shutil.rmtree(place)


@app.command("soak")
def soak_command(
    minutes: Annotated[float, typer.Option(min=2, max=150, help="How long devices post.")] = 10,
    processes: Annotated[int, typer.Option(min=1, max=12, help="Number of flow processes.")] = 2,
    json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Run under load for minutes: every reading must be stored once, and memory must stay flat."""
    err = Console(stderr=True, highlight=False)
    place = Path(mkdtemp(prefix="iot-soak-"))
    try:
        result = soak(minutes, processes, place, partial(err.print, soft_wrap=True))
    except (DifferenceError, AssertionError) as error:
        err.print(f"soak: {error}; all of it is in {place}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    table = Table(show_header=False, box=None)
    for name, value in result.items():
        if name != "memory":
            table.add_row(name.replace("_", " "), f"{value:,}")
    err.print(table)
    table = Table("memory after warm-up", "first MB", "last MB", "MB a minute", box=None)
    for name, figures in result["memory"].items():
        table.add_row(name, *(f"{figure:,.2f}" for figure in figures.values()))
    err.print(table)
    if json:
        print(dumps(result))
    if result["lost"] or result["twice"] or result["invented"] or result["dead_letters"]:
        err.print(f"readings are lost, twice or invented: all of it is in {place}", soft_wrap=True)
        raise typer.Exit(1)
    shutil.rmtree(place)


if __name__ == "__main__":
    app(prog_name="python -m tests.chaos")
