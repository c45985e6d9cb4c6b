"""The arguments of a replay, and its folder, from which an interrupted replay continues."""

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from shutil import rmtree

import msgspec

from contract.errors import SetupError
from ops.replay.spans import Part

LIVE, DRY_RUN = "live", "dry-run"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_PLAN = "run.json"


class ReplayArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that determines the results of a replay and where they go.

    Equal arguments mean the same replay.
    """

    into: str
    """`dry-run`, `live`, or the name of a run that is kept."""
    topic: str
    partitions: str | None
    database: str
    begin: str | None
    end: str | None
    margin: str | None
    sensors: tuple[int, ...] | None
    rules: str | None
    """Hash of the rules. None without a rules file."""
    models: bool = False
    """Whether the rules file has models."""
    notify: bool
    times: tuple[int, int, int]
    language: str

    @property
    def run_id(self) -> str:
        """Name of the run and of its folder."""
        if self.into in (LIVE, DRY_RUN):
            return f"{self.into}-{sha256(msgspec.json.encode(self)).hexdigest()[:12]}"
        return self.into

    @property
    def kept(self) -> bool:
        """Whether the folder is kept after the run."""
        return self.into not in (LIVE, DRY_RUN)


def check_name(name: str) -> None:
    """Check that a kept run may have this name.

    Raises:
        SetupError: the name is not allowed.
    """
    if not _NAME.fullmatch(name) or name.startswith((f"{LIVE}-", f"{DRY_RUN}-")) or name == DRY_RUN:
        raise SetupError(
            f"--into {name}: give live, or a name of up to 60 letters, digits, dots, hyphens and "
            "underscores that does not begin with live- or dry-run-"
        )


class ReplayPlan(msgspec.Struct, frozen=True):
    """What was resolved when the run was first started."""

    arguments: ReplayArguments
    newest_event: int
    """Highest id of `ml_events` before the ends of the log were queried. Later events may come from
    later records."""
    parts: tuple[Part, ...]
    rules: str | None
    """Rules for the replay, as `RuleSet.encode` returns them. None: the rules of each time."""
    done: bool = False


class Run:
    """A run's folder, locked by this process until it ends."""

    def __init__(self, folder: Path, plan: ReplayPlan, *, resumed: bool) -> None:
        self.folder = folder
        self.plan = plan
        self.resumed = resumed

    @property
    def recovery(self) -> Path:
        """Folder of Bytewax's snapshots."""
        return self.folder / "recovery"

    @property
    def events(self) -> Path:
        """SQLite file with the events of the replay."""
        return self.folder / "events.db"

    @property
    def database(self) -> Path:
        """SQLite file with all rows of a kept run."""
        return self.folder / "iot.db"

    def finish(self) -> None:
        """Keep the results of a completed run if they are to be kept, and remove the rest."""
        if not self.plan.arguments.kept:
            rmtree(self.folder)
            return
        _write(self.folder, msgspec.structs.replace(self.plan, done=True))
        rmtree(self.recovery)
        for file in self.folder.glob("events.db*"):
            file.unlink()


@contextmanager
def open_run(
    directory: Path,
    arguments: ReplayArguments,
    make: Callable[[], ReplayPlan],
    prepare: Callable[[Run], None],
) -> Iterator[Run]:
    """Open the run with these arguments: an interrupted one, or a new one.

    For a new run, `make` builds the plan and `prepare` creates the stores. The run is locked
    against other processes during the block.

    Raises:
        SetupError: a run of that name is complete or has other arguments, another process is
            running it, or the folder cannot be written.
    """
    folder = directory / arguments.run_id
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise SetupError(f"the folder {folder} cannot be used: {error.strerror}") from error
    try:
        _hold(folder, descriptor)
        yield _opened(folder, arguments, make, prepare)
    finally:
        os.close(descriptor)


def _opened(
    folder: Path,
    arguments: ReplayArguments,
    make: Callable[[], ReplayPlan],
    prepare: Callable[[Run], None],
) -> Run:
    plan = _read(folder)
    if plan is not None:
        _check(folder, plan, arguments)
        return Run(folder, plan, resumed=True)
    try:
        run = Run(folder, make(), resumed=False)
    except BaseException:
        with suppress(OSError):  # the folder has other files
            folder.rmdir()
        raise
    try:
        _clear(run)
        prepare(run)
        _write(folder, run.plan)
    except OSError as error:
        raise SetupError(f"the folder {folder} cannot be used: {error.strerror}") from error
    return run


def _check(folder: Path, plan: ReplayPlan, arguments: ReplayArguments) -> None:
    if plan.arguments != arguments:
        (name, *_) = [
            field
            for field in ReplayArguments.__struct_fields__
            if getattr(plan.arguments, field) != getattr(arguments, field)
        ]
        raise SetupError(
            f"--into {arguments.into}: {folder} has a run with other arguments ({name} was "
            f"{getattr(plan.arguments, name)!r}): give the same or another name, or remove "
            "the folder"
        )
    if plan.done:
        raise SetupError(
            f"--into {arguments.into}: this run is complete, its rows are in {folder / 'iot.db'}; "
            "give another name, or remove the folder to run it again"
        )


def _clear(run: Run) -> None:
    """Remove the files of a start that was interrupted before it wrote a plan."""
    if run.recovery.exists():
        rmtree(run.recovery)
    for name in ("events.db", "iot.db"):
        for file in run.folder.glob(f"{name}*"):
            file.unlink()


def _hold(folder: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SetupError(
            f"another process is running the same replay in {folder}: wait until it ends"
        ) from error


def _read(folder: Path) -> ReplayPlan | None:
    file = folder / _PLAN
    try:
        return msgspec.json.decode(file.read_bytes(), type=ReplayPlan)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise SetupError(
            f"{file} is from another version of this program, or damaged ({error}): remove "
            f"{folder} to start the replay again"
        ) from error


def _write(folder: Path, plan: ReplayPlan) -> None:
    """Write the plan atomically."""
    new = folder / f"{_PLAN}~"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(plan)))
    new.rename(folder / _PLAN)
