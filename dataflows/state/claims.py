"""Who holds the state of which partitions: the directories of a recovery root.

A root has a directory for each range of partitions that a process takes (`0-5`, `6-11`), with that
process's recovery store and a claim, which says whose state it is. A partition has one state: two
directories of a root whose ranges overlap are refused, and so is a second process on a directory.
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
"""Bytes below which no snapshot is begun."""
_CLAIM, _NEW, _READY = "claim.json", ".new", "ready.json"


class Claim(msgspec.Struct, frozen=True):
    """Whose state a directory holds."""

    topic: str
    partitions: str
    """As in `KAFKA_PARTITIONS`."""
    added: str = ""
    """Those of them that the directory got after its first start, as the topic had more."""

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
    """What `python -m bytewax.run` was given that matters here."""

    directory: Path | None
    cluster: bool
    """Whether other processes share the directory."""

    @classmethod
    def of(cls, arguments: Sequence[str]) -> "FlowArguments":
        """Of a command line, without the program's name."""
        parser = ArgumentParser(add_help=False)
        parser.add_argument("-r", "--recovery-directory", type=Path)
        parser.add_argument("-a", "--addresses")
        found, _ = parser.parse_known_args(arguments)
        return cls(found.recovery_directory, found.addresses is not None)


def claim(directory: Path, wanted: Claim, *, cluster: bool = False) -> frozenset[int]:
    """Hold `directory` until this process ends, alone or with others of its `cluster`. Returns
    the partitions that it got after its first start.

    Raises:
        SetupError: it is no store, another process holds it, it has the state of something else,
            or a directory beside it has the state of one of the partitions.
    """
    if not is_store(directory):
        raise SetupError(
            f"the recovery directory {directory} has no store: make it with `mkdir` and "
            f"`python -m bytewax.recovery {directory} 1`, or start the flow with `iot run`, which "
            "does so"
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
            found = _claim_of(here)
            if found is not None:
                more = found.new | (wanted.numbers - found.numbers)
                wanted = msgspec.structs.replace(wanted, added=partitions_text(more))
            if found != wanted:
                _write(here / _CLAIM, wanted)
        except OSError as error:
            raise _unusable(here, error) from error
        return wanted.new


def _check(here: Path, wanted: Claim) -> None:
    check_store(here)
    found = _claim_of(here)
    if found is not None:
        _compare(here, found, wanted)
    for beside, other in _stores_in(here.parent).items():
        if beside == here or other is None or other.topic != wanted.topic:
            continue
        if common := other.numbers & wanted.numbers:
            raise SetupError(
                f"KAFKA_PARTITIONS: {beside} has the state of partition "
                f"{partitions_text(common)}, which {here} beside it would get too. Give "
                "each process a range of its own; `iot run` moves states where ranges change"
            )


def _compare(directory: Path, found: Claim, wanted: Claim) -> None:
    if found.topic != wanted.topic:
        raise SetupError(
            f"the recovery directory {directory} has the state of the topic {found.topic}, and "
            f"KAFKA_TOPIC is {wanted.topic}: use another directory"
        )
    if not found.numbers <= wanted.numbers:
        raise SetupError(
            f"the recovery directory {directory} has the state of the partitions "
            f"{found.partitions}, and this process takes {wanted.partitions} (KAFKA_PARTITIONS): "
            "use another directory, or `iot run`, which moves states where ranges change"
        )


def check_room(directory: Path) -> None:
    """Check that a snapshot can be written there: Bytewax would end with a traceback of its own.

    Raises:
        UnavailableError: the disk is full, or nearly so.
    """
    disk = os.statvfs(directory)
    free = disk.f_bavail * disk.f_frsize
    if free < _LEAST_FREE:
        raise UnavailableError(
            f"the disk of the recovery directory {directory} is full ({free // 1024} KiB free): "
            "make room, and start again. Nothing is lost: the flow continues from its last snapshot"
        )


def store_failure(error: BaseException) -> UnavailableError | None:
    """Our error for Bytewax's own about its store; None where it is another one.

    >>> panic = 'called unwrap() on SqliteFailure(Error { code: DiskFull }, Some("disk is full"))'
    >>> str(store_failure(RuntimeError(panic)))[:53]
    'the recovery store cannot be written (disk is full): '
    """
    if not isinstance(error, RuntimeError) or "SqliteFailure" not in str(error):
        return None
    reason = re.search(r'Some\("([^"]*)"\)', str(error))
    return UnavailableError(
        f"the recovery store cannot be written ({reason[1] if reason else error}): see to its "
        "disk, and start again. Nothing is lost: the flow continues from its last snapshot"
    )


def arrange(root: Path, topic: str, ranges: Sequence[frozenset[int]]) -> list[Path]:
    """The directories of the ranges under `root`, each with a store that has the states found
    there: they move where the ranges are others than before. Cut off and called again, it finishes.

    Raises:
        SetupError: a process is running on what would have to move, a state would be left over, or
            the root cannot be written, or others can write it.
    """
    names = [partitions_text(one) for one in ranges]
    try:
        root.mkdir(parents=True, exist_ok=True)
        check_private([root])
        if is_store(root) and in_use(root):  # its process holds what we would wait for
            raise SetupError(f"another process is running on {root}: stop it first")
        with _locked(root):
            _settle(root)
            found = {
                path: one
                for path, one in (_stores_in(root) | _stores_at(root)).items()
                if one is None or one.topic == topic
            }
            if sorted(str(path.relative_to(root)) for path in found) != sorted(names):
                for name in names:
                    if root / name not in found:
                        _check_free(root / name, Claim(topic, name))
                _move(root, topic, found, names)
    except OSError as error:
        raise _unusable(root, error) from error
    return [root / name for name in names]


def _check_free(directory: Path, wanted: Claim) -> None:
    """See that a directory can be made there."""
    if directory.is_dir() and not any(directory.iterdir()):
        return
    if directory.exists():
        found = _claim_of(directory)
        if found is not None:
            _compare(directory, found, wanted)
        raise SetupError(f"{directory} is no recovery store, and in the way: take it away")


def claimed_stores(root: Path) -> dict[Path, Claim | None]:
    """The directories at or in `root` that have a store, and whose it is, where that is known.

    Raises:
        SetupError: a claim cannot be read.
    """
    return _stores_at(root) | _stores_in(root)


def in_use(directory: Path) -> bool:
    """Whether a process holds the store there."""
    with _locked(directory.parent):  # who wants to hold it meanwhile waits, and is not refused
        try:
            os.close(_hold(directory, shared=False))
        except SetupError:
            return True
        return False


def _move(root: Path, topic: str, found: Mapping[Path, Claim | None], names: Sequence[str]) -> None:
    everything = frozenset[int]().union(*map(parse_partitions, names))
    states = _states_of(root, found, everything)
    claims = [one for one in found.values() if one is not None]
    added = frozenset[int]().union(*(one.new for one in claims))
    if claims:
        added |= everything - frozenset[int]().union(*(one.numbers for one in claims))
    new = root / _NEW
    for name in names:
        ours = {one: states[one] for one in sorted(parse_partitions(name) & states.keys())}
        write_states(new / name, ours)
        claimed = Claim(topic, name, partitions_text(added & parse_partitions(name)))
        (new / name / _CLAIM).write_bytes(msgspec.json.encode(claimed))
    _write(new / _READY, ([str(path.relative_to(root)) for path in found], names))
    _settle(root)


def _states_of(
    root: Path, found: Mapping[Path, Claim | None], everything: frozenset[int]
) -> dict[int, PartitionState]:
    states: dict[int, PartitionState] = {}
    holders: dict[int, Path] = {}
    scratch = root / _NEW  # cut off, copies do not stay there
    scratch.mkdir()
    try:
        for path, one in found.items():
            if path != root:
                _hold(path, shared=False)
            check_store(path)
            here = read_states(path, everything if one is None else one.numbers, scratch)
            if lost := here.keys() - everything:
                raise SetupError(
                    f"{path} has the state of partition {partitions_text(frozenset(lost))}, which "
                    "no process would take (KAFKA_PARTITIONS): give it to one, or take that "
                    "directory away"
                )
            if common := here.keys() & holders.keys():
                raise SetupError(
                    f"{holders[min(common)]} and {path} both have the state of partition "
                    f"{partitions_text(frozenset(common))}, and one of them is a copy: take the "
                    f"older one out of {root}"
                )
            states |= here
            holders |= dict.fromkeys(here, path)
    finally:
        rmtree(scratch)
    return states


def _write(file: Path, content: object) -> None:
    """Whole or not at all, also on a disk that is full."""
    unfinished = file.with_name(file.name + "~")
    unfinished.write_bytes(msgspec.json.encode(content))
    unfinished.rename(file)


def _unusable(directory: Path, error: OSError) -> SetupError:
    return SetupError(
        f"the recovery directory {directory} cannot be used: {error.strerror}"
        + (f": {error.filename}" if error.filename else "")
    )


def _settle(root: Path) -> None:
    """Put the new directories in place of the old ones, also where that was cut off half way; what
    was cut off before all were made is forgotten.
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
                    (root / name).unlink()  # what it points to is not found here any more
                elif (root / name).exists():
                    rmtree(root / name)
        for name in names:
            if (new / name).exists():
                (new / name).rename(root / name)
    if new.exists():
        rmtree(new)


def _stores_in(root: Path) -> dict[Path, Claim | None]:
    """The directories in `root` that have a store, and whose it is, where that is known."""
    return {
        path: one
        for beside in sorted(root.iterdir())
        if beside.is_dir() and beside.name != _NEW
        for path, one in _stores_at(beside).items()
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
            f"{file} cannot be read, and tells whose state that is: {error}"
        ) from error


def _hold(directory: Path, *, shared: bool) -> int:
    """Lock a directory until this process ends, or closes the descriptor that this returns."""
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
    """Alone among those who look at the claims in `directory`."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
