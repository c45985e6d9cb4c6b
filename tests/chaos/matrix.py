"""The crash matrix: one program of the pipeline dies at a named point, is started again, and
everything must be as if nothing had happened.

A run is a function of its seed, but for the order in which two processes of a machine get their
turns: which point, at which of its hits, with how many flow processes, and what devices post.
"""

import json
import os
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from signal import SIGKILL
from time import sleep
from uuid import uuid4

from contract.settings import child_environment
from ops.children import Children
from tests.chaos.proof import (
    acknowledged,
    begin,
    check_calm,
    check_stored,
    start_client,
    until_posted,
)
from tests.chaos.rig import Death, DifferenceError, Program, Rig
from tests.pipeline.conftest import Pipeline

POINTS = {
    ("edge", "acknowledged"): (1, 300),
    ("flow", "held-commit"): (2, 12),
    ("batch", "before-commit"): (1, 20),
    ("flow", "after-snapshot"): (6, 20),
    ("edge", "produced"): (1, 300),
    ("flow", "before-commit"): (2, 14),
    ("replay", "before-commit"): (1, 9),
    ("edge", "answered"): (1, 300),
    ("replay", "corrected"): (1, 1),
    ("flow", "before-snapshot"): (6, 20),
    ("batch", "after-commit"): (1, 20),
    ("replay", "after-commit"): (1, 9),
    ("run", "child-killed"): (10, 300),
    ("flow", "after-commit"): (2, 14),
    ("run", "all-killed"): (10, 300),
}
"""(program, point): from which of its hits to which; several flow processes share them. Of
`iot run`, which is killed from outside: after how many acknowledged packets.
"""
_STANDS_S = 8.0
_RANGES = {1: ("0-3",), 2: ("0-1", "2-3")}


@dataclass(frozen=True)
class Case:
    """One run of the matrix."""

    seed: int
    program: str
    point: str
    nth: int
    processes: int
    """Of the flow."""

    def __str__(self) -> str:
        flows = f"{self.processes} flow process" + ("es" if self.processes > 1 else "")
        return f"seed {self.seed}: {self.program} {self.point} {self.nth}, {flows}"


def case_of(seed: int) -> Case:
    """Seeds in a row go through all points, with one flow process and with two."""
    points = list(POINTS)
    program, point = points[seed % len(points)]
    processes = 1 + (seed % len(points) + seed // len(points)) % 2
    nth = Random(seed).randint(*POINTS[program, point])
    return Case(seed, program, point, nth // processes if program == "flow" else nth, processes)


def run(case: Case, folder: Path, brokers: str | None) -> None:
    """Run it, with all it leaves in `folder`.

    Raises:
        DifferenceError: something is lost, twice, invented or different.
        AssertionError: something did not come to its end in time.
    """
    with Children(folder) as children:
        if brokers is None:
            broker = children.start("broker", "ops.broker", env=child_environment({}))
            brokers = broker.process.stdout.readline().strip()
        pipeline = Pipeline(folder, brokers, children, f"chaos.{uuid4().hex[:12]}")
        with closing(Rig(pipeline)) as rig:
            _run(case, rig)


def _run(case: Case, rig: Rig) -> None:
    begin(rig, case.seed)
    death = {case.program: (case.point, case.nth)}
    die = _start_flows(case, rig)
    edge = rig.start_edge(death.get("edge"))
    client = start_client(rig)
    if case.program == "run":
        rig.until(lambda: len(acknowledged(rig)) >= case.nth, f"{case.nth} packets acknowledged")
        _kill(case, rig, die)
    until_posted(rig, client)
    rig.end_log()
    die = edge if case.program == "edge" else die
    afterwards = _AFTERWARDS.get(case.program)
    if not afterwards:
        rig.until(lambda: die.kills, "the point is reached, and the program dies")
    rig.until(rig.taken, "the log is taken")
    rig.stop()
    check_stored(rig)
    if afterwards:
        afterwards(rig, death[case.program])
    check_calm(rig, afterwards and partial(afterwards, death=None))


def _start_flows(case: Case, rig: Rig) -> Program:
    """All of them; returns the one that may have to die."""
    if case.program == "run":
        return rig.start_run(case.processes)
    victim = Random(case.seed).randrange(case.processes)
    death = (case.point, case.nth) if case.program == "flow" else None
    flows = [
        rig.start_flow(partitions, death if number == victim else None)
        for number, partitions in enumerate(_RANGES[case.processes])
    ]
    return flows[victim]


def _kill(case: Case, rig: Rig, supervisor: Program) -> None:
    """Kill one of the flow processes that `iot run` looks after, or `iot run` itself, and so all
    of them.
    """
    pid = supervisor.child.process.pid
    if case.point == "all-killed":
        os.kill(pid, SIGKILL)
        return
    children = Path(f"/proc/{pid}/task/{pid}/children")
    rig.until(lambda: len(children.read_text().split()) == case.processes, "all flows are started")
    os.kill(int(Random(case.seed).choice(children.read_text().split())), SIGKILL)
    supervisor.kills += 1
    rig.forget_committed()  # it waits half a second before it starts another


def _batch(rig: Rig, death: Death) -> None:
    """Run the batch runner for all sensors."""
    _to_its_end(rig, death, "ml.batch", "--once")


def _replay(rig: Rig, death: Death) -> None:
    """Replay the log into live with narrower rules, once its last events are past: levels change
    while values stand, up to some seconds after the last reading.
    """
    sleep(_STANDS_S)
    folder = rig.pipeline.folder
    rules = json.loads(rig.pipeline.iot("rules").stdout)
    for row in rules["alert_thresholds"]:
        row["threshold_value_max"] -= 10
    (folder / "rules.json").write_text(json.dumps(rules))
    _to_its_end(
        rig, death, "ops.cli", "replay", "--into", "live",
        "--rules", str(folder / "rules.json"), "--dir", str(folder / "replays"),
    )  # fmt: skip
    events = "SELECT count(*) FROM ml_events WHERE status {} 'superseded'"
    if not all(rig.pipeline.rows(events.format(sign))[0][0] for sign in ("=", "<>")):
        raise DifferenceError("the replay corrected nothing")


def _to_its_end(rig: Rig, death: Death, *command: str) -> None:
    """Run a program until it ends, and again if it is killed."""
    program = rig.start(command[0], *command, death=death)
    program.ends = True
    rig.until(
        lambda: program.child.process.poll() == 0 and bool(program.kills) == bool(death),
        f"{' '.join(command[:2])} has ended, after the kill",
    )
    rig.stop()


_AFTERWARDS = {"batch": _batch, "replay": _replay}
"""Programs that work on what the flow has stored."""
