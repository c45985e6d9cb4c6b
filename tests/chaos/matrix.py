"""The crash matrix: one program of the pipeline dies at a named point, is started again, and
everything must be as if nothing had happened.

A run is a function of its seed, but for the order in which two processes of a machine get their
turns: which point, at which of its hits, with how many flow processes, and what devices post.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from uuid import uuid4

from contract.settings import child_environment
from ops.children import Children
from tests.chaos import log
from tests.chaos.rig import Death, DifferenceError, Rig, copy_database
from tests.chaos.tables import check_equal, check_pairs, check_posted
from tests.pipeline.conftest import Pipeline

POINTS = {
    ("edge", "acknowledged"): (1, 300),
    ("flow", "held-commit"): (2, 20),
    ("batch", "before-commit"): (1, 20),
    ("flow", "after-snapshot"): (6, 20),
    ("edge", "produced"): (1, 300),
    ("flow", "before-commit"): (2, 24),
    ("edge", "answered"): (1, 300),
    ("flow", "before-snapshot"): (6, 20),
    ("batch", "after-commit"): (1, 20),
    ("flow", "after-commit"): (2, 24),
}
"""(program, point): from which of its hits to which; several flow processes share them."""
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
        with closing(Rig(pipeline)) as disturbed:
            _run(case, disturbed)


def _run(case: Case, disturbed: Rig) -> None:
    pipeline, folder = disturbed.pipeline, disturbed.pipeline.folder
    pipeline.rows("PRAGMA synchronous = OFF")  # of our own connection, to register quickly
    devices = [
        pipeline.register(f"rig {number}", *log.specs(number)) for number in range(log.DEVICES)
    ]
    posts = log.posts(case.seed, devices)
    log.write_posts(folder / "posts.json", posts)
    (folder / "calm").mkdir()
    copy_database(folder / "iot.db", folder / "calm" / "iot.db")
    death = {case.program: (case.point, case.nth)}
    victim = Random(case.seed).randrange(case.processes)
    flows = [
        disturbed.start_flow(partitions, death.get("flow") if number == victim else None)
        for number, partitions in enumerate(_RANGES[case.processes])
    ]
    edge = disturbed.start_edge(death.get("edge"))
    _post(disturbed, edge)
    disturbed.end_log()
    die = {"edge": edge, "flow": flows[victim]}.get(case.program)
    disturbed.until(
        lambda: (die is None or die.kills) and disturbed.taken(), "the log taken, after the kill"
    )
    disturbed.stop()
    acknowledged = set((folder / "acknowledged").read_text().split())
    check_posted(folder / "iot.db", [one for packets in posts for one in packets], acknowledged)

    with closing(disturbed.beside("calm")) as calm:
        calm.forget_committed()
        calm.start_flow("0-3")
        calm.until(calm.taken, "the log taken by the calm flow")
        calm.stop()
        if case.program == "batch":
            _batch(disturbed, death["batch"])
            _batch(calm, None)
    check_equal(folder / "iot.db", folder / "calm" / "iot.db")
    check_pairs(folder / "iot.db")


def _batch(one: Rig, death: Death) -> None:
    """Let the batch runner predict all sensors."""
    batch = one.start("batch", "ml.batch", "--once", death=death)
    batch.ends = True
    one.until(
        lambda: batch.child.process.poll() == 0 and bool(batch.kills) == bool(death),
        "all sensors predicted, after the kill",
    )
    one.stop()


def _post(disturbed: Rig, edge) -> None:
    """Let the devices post all they have."""
    pipeline = disturbed.pipeline
    client = pipeline.children.start(
        "client", "tests.chaos.client", pipeline.url,
        str(pipeline.folder / "posts.json"), str(pipeline.folder / "acknowledged"),
        env=child_environment({}),
    )  # fmt: skip
    disturbed.until(lambda: client.process.poll() is not None, "all packets acknowledged")
    if client.process.returncode:
        raise DifferenceError(f"the client gave up: {client.log.read_text().splitlines()[-1:]}")
    pipeline.children.stop(client)
