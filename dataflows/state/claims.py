"""Claims: which directory of a recovery root holds the state of which partitions.

A root has one directory for each range of partitions that a process takes (`0-5`, `6-11`). It
contains the process's recovery store and a claim, which names the topic and the partitions. A
partition has exactly one state: two directories of a root with overlapping ranges are refused, and
so is a second process on a directory.
"""

import fcntl
import os
import re
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import msgspec

from contract.errors import IotError, SetupError, UnavailableError
from contract.partitions import parse_partitions, partitions_text
from dataflows.state.stores import (
    PartitionState,
    check_store,
    is_store,
    read_states,
    store_files,
    write_states,
)
from runtime.private import check_private

_LEAST_FREE = 8 << 20
"""Free bytes below which no snapshot is started."""
_CLAIM, _NEW, _READY = "claim.json", ".new", "ready.json"


class Claim(msgspec.Struct, frozen=True):
    """The topic and partitions whose state a directory holds."""

    topic: str
    partitions: str
    """As in `KAFKA_PARTITIONS`."""
    added: str = ""
    """The partitions that were added to the topic after the directory's first start."""

    @property
    def new(self) -> frozenset[int]:
        """The partitions in `added`."""
        return parse_partitions(self.added) if self.added else frozenset()

    @property
    def numbers(self) -> frozenset[int]:
        """The partitions."""
        return parse_partitions(self.partitions)


@dataclass(frozen=True, slots=True)
class FlowArguments:
    """The relevant arguments of `python -m bytewax.run`."""

    directory: Path | None
    cluster: bool
    """Whether the directory is shared with other processes."""

    @classmethod
    def of(cls, arguments: Sequence[str]) -> "FlowArguments":
        """Parse a command line, without the program's name."""
        parser = ArgumentParser(add_help=False)
        parser.add_argument("-r", "--recovery-directory", type=Path)
        parser.add_argument("-a", "--addresses")
        parsed, _ = parser.parse_known_args(arguments)
        return cls(parsed.recovery_directory, parsed.addresses is not None)


def claim(directory: Path, wanted: Claim, *, cluster: bool = False) -> frozenset[int]:
    """Hold `directory` until this process ends, alone or shared with its `cluster`. Returns the
    partitions that were added after the directory's first start.

    Raises:
        SetupError: the directory has no store, another process holds it, it has the state of
            something else, or a directory beside it has the state of one of the partitions.
    """
    if not is_store(directory):
        raise SetupError(
            f"the recovery directory {directory} has no store: create it with `mkdir` and "
            f"`python -m bytewax.recovery {directory} 1`, or start the flow with `iot run`, which "
            "creates it"
        )
    here = directory.resolve()
    with _locked(here.parent):
        held = _hold(here, shared=cluster)
        try:
            _check(here, wanted)
        except IotError:
            os.close(held)
            raise
        try:
            present = _claim_of(here)
            if present is not None:
                more = present.new | (wanted.numbers - present.numbers)
                wanted = msgspec.structs.replace(wanted, added=partitions_text(more))
            if present != wanted:
                _write(here / _CLAIM, wanted)
        except OSError as error:
            raise _unusable(here, error) from error
        return wanted.new


def _check(here: Path, wanted: Claim) -> None:
    check_store(here)
    present = _claim_of(here)
    if present is not None:
        _compare(here, present, wanted)
    for beside, other in _stores_in(here.parent).items():
        if beside == here or other is None or other.topic != wanted.topic:
            continue
        if common := other.numbers & wanted.numbers:
            raise SetupError(
                f"KAFKA_PARTITIONS: {beside} has the state of partition "
                f"{partitions_text(common)}, which {here} claims too. Give each process its own "
                "range; `iot run` moves states when ranges change"
            )


def _compare(directory: Path, present: Claim, wanted: Claim) -> None:
    if present.topic != wanted.topic:
        raise SetupError(
            f"the recovery directory {directory} has the state of the topic {present.topic}, but "
            f"KAFKA_TOPIC is {wanted.topic}: use a different directory"
        )
    if not present.numbers <= wanted.numbers:
        raise SetupError(
            f"the recovery directory {directory} has the state of the partitions "
            f"{present.partitions}, but this process takes {wanted.partitions} "
            "(KAFKA_PARTITIONS): use a different directory, or `iot run`, which moves states when "
            "ranges change"
        )


def check_room(directory: Path) -> None:
    """Check that a snapshot can be written to `directory`: Bytewax would end with a traceback.

    Raises:
        UnavailableError: the disk is full or almost full.
    """
    disk = os.statvfs(directory)
    free = disk.f_bavail * disk.f_frsize
    if free < _LEAST_FREE:
        raise UnavailableError(
            f"the disk of the recovery directory {directory} is full ({free // 1024} KiB free): "
            "free some space, then start again. No data is lost: the flow continues from its last "
            "snapshot"
        )


def store_failure(error: BaseException) -> UnavailableError | None:
    """Translates an error of Bytewax about its store; None if it is another error.

    >>> panic = 'called unwrap() on SqliteFailure(Error { code: DiskFull }, Some("disk is full"))'
    >>> str(store_failure(RuntimeError(panic)))[:53]
    'the recovery store cannot be written (disk is full): '
    """
    if not isinstance(error, RuntimeError) or "SqliteFailure" not in str(error):
        return None
    reason = re.search(r'Some\("([^"]*)"\)', str(error))
    return UnavailableError(
        f"the recovery store cannot be written ({reason[1] if reason else error}): check its disk, "
        "then start again. No data is lost: the flow continues from its last snapshot"
    )


def arrange(root: Path, topic: str, ranges: Sequence[frozenset[int]]) -> list[Path]:
    """Create a directory with a store for each range under `root`, and move the existing states to
    them if ranges have changed. Returns the directories. After an interruption, the next call
    completes the move.

    Raises:
        SetupError: a process is running on a directory that must move, a state would be left over,
            the root is not writable, or other users can write to it.
    """
    names = [partitions_text(numbers) for numbers in ranges]
    try:
        root.mkdir(parents=True, exist_ok=True)
        check_private([root])
        if is_store(root) and in_use(root):  # its process holds the lock
            raise SetupError(f"another process is running on {root}: stop it first")
        with _locked(root):
            _settle(root)
            stores = {
                path: claimed
                for path, claimed in (_stores_in(root) | _stores_at(root)).items()
                if claimed is None or claimed.topic == topic
            }
            if sorted(str(path.relative_to(root)) for path in stores) != sorted(names):
                for name in names:
                    if root / name not in stores:
                        _check_free(root / name, Claim(topic, name))
                _move(root, topic, stores, names)
    except OSError as error:
        raise _unusable(root, error) from error
    return [root / name for name in names]


def _check_free(directory: Path, wanted: Claim) -> None:
    """Check that `directory` can be created."""
    if directory.is_dir() and not any(directory.iterdir()):
        return
    if directory.exists():
        present = _claim_of(directory)
        if present is not None:
            _compare(directory, present, wanted)
        raise SetupError(
            f"{directory} exists and is not a recovery store: move or delete it, then start again"
        )


def claimed_stores(root: Path) -> dict[Path, Claim | None]:
    """The directories at or in `root` that have a store, each with its claim if it has one.

    Raises:
        SetupError: a claim cannot be read.
    """
    return _stores_at(root) | _stores_in(root)


def in_use(directory: Path) -> bool:
    """Whether a process holds the store there."""
    with _locked(directory.parent):  # a process that claims it meanwhile waits instead of failing
        try:
            os.close(_hold(directory, shared=False))
        except SetupError:
            return True
        return False


def _move(
    root: Path, topic: str, stores: Mapping[Path, Claim | None], names: Sequence[str]
) -> None:
    everything = frozenset[int]().union(*map(parse_partitions, names))
    states = _states_of(root, stores, everything)
    claims = [claimed for claimed in stores.values() if claimed is not None]
    added = frozenset[int]().union(*(claimed.new for claimed in claims))
    if claims:
        added |= everything - frozenset[int]().union(*(claimed.numbers for claimed in claims))
    new = root / _NEW
    for name in names:
        ours = {number: states[number] for number in sorted(parse_partitions(name) & states.keys())}
        write_states(new / name, ours)
        claimed = Claim(topic, name, partitions_text(added & parse_partitions(name)))
        (new / name / _CLAIM).write_bytes(msgspec.json.encode(claimed))
    _write(new / _READY, ([str(path.relative_to(root)) for path in stores], names))
    _settle(root)


def _states_of(
    root: Path, stores: Mapping[Path, Claim | None], everything: frozenset[int]
) -> dict[int, PartitionState]:
    states: dict[int, PartitionState] = {}
    holders: dict[int, Path] = {}
    scratch = root / _NEW  # removed by `_settle` after an interruption
    scratch.mkdir()
    try:
        for path, claimed in stores.items():
            if path != root:
                _hold(path, shared=False)
            check_store(path)
            here = read_states(path, everything if claimed is None else claimed.numbers, scratch)
            if lost := here.keys() - everything:
                raise SetupError(
                    f"{path} has the state of partition {partitions_text(frozenset(lost))}, which "
                    "no process would take (KAFKA_PARTITIONS): assign it to one, or move that "
                    "directory out of the root"
                )
            if common := here.keys() & holders.keys():
                raise SetupError(
                    f"{holders[min(common)]} and {path} both have the state of partition "
                    f"{partitions_text(frozenset(common))}, so one of them is a copy: move the "
                    f"older one out of {root}"
                )
            states |= here
            holders |= dict.fromkeys(here, path)
    finally:
        rmtree(scratch)
    return states


def _write(file: Path, content: object) -> None:
    """Write a file atomically, also if the disk is full."""
    unfinished = file.with_name(file.name + "~")
    unfinished.write_bytes(msgspec.json.encode(content))
    unfinished.rename(file)


def _unusable(directory: Path, error: OSError) -> SetupError:
    return SetupError(
        f"the recovery directory {directory} cannot be used: {error.strerror}"
        + (f": {error.filename}" if error.filename else "")
    )


def _settle(root: Path) -> None:
    """Replace the old directories by the new ones, and complete an interrupted replacement. If the
    interruption came before all new directories were ready, they are deleted.
    """
    new = root / _NEW
    if (new / _READY).exists():
        old, names = msgspec.json.decode(
            (new / _READY).read_bytes(), type=tuple[list[str], list[str]]
        )
        for name in old:
            if name == ".":
                for file in [*store_files(root), root / _CLAIM]:
                    file.unlink(missing_ok=True)
            elif name not in names or (new / name).exists():
                if (root / name).is_symlink():
                    (root / name).unlink()  # only the link; its target stays
                elif (root / name).exists():
                    rmtree(root / name)
        for name in names:
            if (new / name).exists():
                (new / name).rename(root / name)
    if new.exists():
        rmtree(new)


def _stores_in(root: Path) -> dict[Path, Claim | None]:
    """The directories in `root` that have a store, each with its claim if it has one."""
    return {
        path: claimed
        for beside in sorted(root.iterdir())
        if beside.is_dir() and beside.name != _NEW
        for path, claimed in _stores_at(beside).items()
    }


def _stores_at(path: Path) -> dict[Path, Claim | None]:
    return {path: _claim_of(path)} if is_store(path) else {}


def _claim_of(directory: Path) -> Claim | None:
    file = directory / _CLAIM
    try:
        return msgspec.json.decode(file.read_bytes(), type=Claim)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise SetupError(
            f"the claim {file} cannot be read ({error}): restore it, or start with a new directory"
        ) from error


def _hold(directory: Path, *, shared: bool) -> int:
    """Lock a directory until this process ends or closes the returned descriptor."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise SetupError(
            f"another process is running on the recovery directory {directory}: stop it first"
        ) from error
    return descriptor


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the lock for the claims in `directory`."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
