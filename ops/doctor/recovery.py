"""The recovery root: whether a flow can go on from what is in it."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

from contract.errors import SetupError
from dataflows.engine import DuplicateLogic, Engine, Times
from dataflows.state import (
    MARK,
    WATCH,
    Claim,
    check_store,
    claimed_stores,
    in_use,
    read_states,
    store_files,
)
from ml.online import PartitionDetector
from ops.doctor.finding import Finding, State, guarded
from runtime.private import check_private

_MANY = 1024
"""Partitions that a store may have of which nothing says whose it is."""


def check_recovery(root: Path) -> Iterator[Finding]:
    """Whether it is there or can be made, can be written, and holds states that we read.

    Raises:
        SetupError: it cannot be used.
    """
    place = existing(root)
    if not place.is_dir():
        raise SetupError(f"{place} is no directory: name another one with --recovery")
    try:
        with TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise SetupError(
            f"{place} cannot be written ({error.strerror}): give it to the user that runs the flow"
        ) from error
    if not root.exists():
        yield Finding(State.OK, "recovery", f"{root} is not there, and `iot run` makes it")
        return
    found = claimed_stores(root)
    if not found:
        yield Finding(State.OK, "recovery", f"{root} is empty: a flow begins at START_FROM")
    for directory, claim in found.items():
        yield from guarded("recovery", _store(directory, claim))


def _store(directory: Path, claim: Claim | None) -> Iterator[Finding]:
    check_private([directory, *store_files(directory)])
    if in_use(directory):
        yield Finding(State.OK, "recovery", f"{directory}: a flow is running on it")
        return
    check_store(directory)
    states = read_states(directory, range(_MANY) if claim is None else claim.numbers)
    for held in states.values():
        if MARK in held.steps:
            DuplicateLogic(held.steps[MARK])
        if WATCH in held.steps:
            Engine(Times(1_000, 3_000, 60_000), PartitionDetector()).restore(held.steps[WATCH])
    text = f"{directory} has the state of {len(states)} partitions, of a version that we read"
    yield Finding(State.OK, "recovery", text)


def existing(path: Path) -> Path:
    """The path itself, or the nearest one above it that is there."""
    path = Path(os.path.abspath(path))
    return next(one for one in (path, *path.parents) if one.exists())
