"""Steps of the machine's clock, for one program: libc's function that tells the time is replaced,
so that Python, Bytewax and SQLite all see them.
"""

from pathlib import Path
from shutil import which
from subprocess import run
from time import sleep

from tests.chaos.kafka import Kafka
from tests.chaos.proof import begin, finish, start_client, until_load
from tests.chaos.rig import DifferenceError, MissingError, Rig
from tests.chaos.tables import OF_OLD_RULES

_SOURCE = Path(__file__).parents[1] / "clock.c"
_HOUR_S = 3600
_STEP_S = 4.0
"""How long the clock stays wrong."""


def clock_of_the_flow_steps(kafka: Kafka, rig: Rig) -> None:
    """The flow's clock goes an hour forth for seconds, back again, and an hour back: nothing
    of it is seen in the tables.
    """
    _steps(rig, "flow 0-3", 5)


def clock_of_the_edge_steps(kafka: Kafka, rig: Rig) -> None:
    """Step the edge's clock, also by 20 s back: undated readings get wrong times, none is lost."""
    _steps(rig, "edge", 6)


def _steps(rig: Rig, name: str, seed: int) -> None:
    clock = rig.pipeline.folder / "clock"
    clock.write_text("0")
    wrong = {"LD_PRELOAD": str(_library(rig.pipeline.folder)), "CLOCK_FILE": str(clock)}
    begin(rig, seed)
    rig.start_flow("0-3", values={} if name == "edge" else wrong)
    rig.start_edge(values=wrong if name == "edge" else {})
    client = start_client(rig, 0.8)
    until_load(rig)
    for seconds in (_HOUR_S, 0, -_HOUR_S, -20):
        clock.write_text(str(seconds))
        sleep(_STEP_S)
        rig.revive()
    if client.process.poll() is not None:
        raise DifferenceError("the devices had posted everything before the last step")
    finish(rig, client, leave_out=OF_OLD_RULES if name == "edge" else frozenset())


def _library(folder: Path) -> Path:
    compiler = which("cc")
    if compiler is None:
        raise MissingError("a C compiler (cc), for a clock that steps")
    library = folder / "clock.so"
    run([compiler, "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"], check=True)
    return library
