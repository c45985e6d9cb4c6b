"""What a replay was asked for, and its folder, from which one that was cut off goes on."""

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
from contract.settings import Settings
from dataflows.engine import Times
from ops.replay.spans import Part

LIVE, DRY_RUN = "live", "dry-run"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_PLAN = "run.json"


class ReplayArguments(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides what a replay finds, and where it goes. Equal ones are the same replay."""

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
    """Stands for the content of the rules file."""
    notify: bool
    times: tuple[int, int, int]
    language: str

    @property
    def run_id(self) -> str:
        """The name of the run, and of its folder."""
        if self.into in (LIVE, DRY_RUN):
            return f"{self.into}-{sha256(msgspec.json.encode(self)).hexdigest()[:12]}"
        return self.into

    @property
    def kept(self) -> bool:
        """Whether the folder stays when the run has ended."""
        return self.into not in (LIVE, DRY_RUN)


def check_name(name: str) -> None:
    """See that a kept run may have that name.

    Raises:
        SetupError: it may not.
    """
    if not _NAME.fullmatch(name) or name.startswith((f"{LIVE}-", f"{DRY_RUN}-")) or name == DRY_RUN:
        raise SetupError(
            f"--into {name}: give live, or a name of at most 60 letters, digits, dots, hyphens and "
            "underscores that does not begin with live- or dry-run-"
        )


class ReplayPlan(msgspec.Struct, frozen=True):
    """What was resolved when the run was first started."""

    arguments: ReplayArguments
    newest_event: int
    """Highest id of `ml_events` before the log's ends were asked for: what came later, later
    records may have brought."""
    parts: tuple[Part, ...]
    rules: str | None
    """The rules to replay with, as `RuleSet.encode` gives them; None: those of each time."""
    done: bool = False


class Run:
    """A run's folder, held by this process until it ends."""

    def __init__(self, folder: Path, plan: ReplayPlan, *, resumed: bool) -> None:
        self.folder = folder
        self.plan = plan
        self.resumed = resumed

    @property
    def recovery(self) -> Path:
        """Where Bytewax keeps its snapshots."""
        return self.folder / "recovery"

    @property
    def events(self) -> Path:
        """The SQLite file of what was found."""
        return self.folder / "events.db"

    @property
    def database(self) -> Path:
        """The SQLite file with all rows of a kept run."""
        return self.folder / "iot.db"

    def finish(self) -> None:
        """Keep what is to be kept of a run that has ended well, and remove the rest."""
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
    """The run with these arguments: one that was cut off, or a new one, whose plan `make` makes and
    whose stores `prepare` makes. No other process gets it while the block lasts.

    Raises:
        SetupError: there is one of that name which is done or had other arguments, another process
            is at it, or the folder cannot be written.
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
    found = _read(folder)
    if found is not None:
        _check(folder, found, arguments)
        return Run(folder, found, resumed=True)
    try:
        run = Run(folder, make(), resumed=False)
    except BaseException:
        with suppress(OSError):  # there is something of somebody else in it
            folder.rmdir()
        raise
    try:
        _clear(run)
        prepare(run)
        _write(folder, run.plan)
    except OSError as error:
        raise SetupError(f"the folder {folder} cannot be used: {error.strerror}") from error
    return run


def _check(folder: Path, found: ReplayPlan, arguments: ReplayArguments) -> None:
    if found.arguments != arguments:
        (name, *_) = [
            field
            for field in ReplayArguments.__struct_fields__
            if getattr(found.arguments, field) != getattr(arguments, field)
        ]
        raise SetupError(
            f"--into {arguments.into}: {folder} is of a run with other arguments ({name} was "
            f"{getattr(found.arguments, name)!r}): give the same, or another name, or remove the "
            "folder"
        )
    if found.done:
        raise SetupError(
            f"--into {arguments.into}: that run is complete, its rows are in {folder / 'iot.db'}; "
            "give another name, or remove the folder to run it again"
        )


def _clear(run: Run) -> None:
    """Remove what a start left that was cut off before there was a plan."""
    if run.recovery.exists():
        rmtree(run.recovery)
    for name in ("events.db", "iot.db"):
        for file in run.folder.glob(f"{name}*"):
            file.unlink()


def _hold(folder: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SetupError(f"another process is at the same replay, in {folder}") from error


def _read(folder: Path) -> ReplayPlan | None:
    file = folder / _PLAN
    try:
        return msgspec.json.decode(file.read_bytes(), type=ReplayPlan)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise SetupError(
            f"{file} is of another version of this program, or damaged ({error}): remove {folder}, "
            "and the replay begins anew"
        ) from error


def _write(folder: Path, plan: ReplayPlan) -> None:
    """All of it or nothing."""
    new = folder / f"{_PLAN}~"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(plan)))
    new.rename(folder / _PLAN)


def times_of(settings: Settings) -> Times:
    """As the live flow takes them from its settings."""
    return Times(settings.grace_ms, settings.idle_close_ms, settings.predict_every_seconds * 1000)
