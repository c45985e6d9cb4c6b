"""Check of the recovery directory: whether a flow can continue from it."""

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
"""Partitions that are looked for in a store without a claim."""


def check_recovery(root: Path) -> Iterator[Finding]:
    """Check that `root` exists or can be created, is writable, and holds state that we can read.

    Raises:
        SetupError: the directory cannot be used.
    """
    place = existing(root)
    if not place.is_dir():
        raise SetupError(f"{place} is not a directory: give another one with --recovery")
    try:
        with TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise SetupError(
            f"{place} is not writable ({error.strerror}): give it to the user that runs the flow"
        ) from error
    if not root.exists():
        yield Finding(State.OK, "recovery", f"{root} does not exist yet, `iot run` creates it")
        return
    stores = claimed_stores(root)
    if not stores:
        yield Finding(State.OK, "recovery", f"{root} is empty: a flow starts at START_FROM")
    for directory, claim in stores.items():
        yield from guarded("recovery", _store(directory, claim))


def _store(directory: Path, claim: Claim | None) -> Iterator[Finding]:
    check_private([directory, *store_files(directory)])
    if in_use(directory):
        yield Finding(State.OK, "recovery", f"{directory}: in use by a running flow")
        return
    check_store(directory)
    states = read_states(directory, range(_MANY) if claim is None else claim.numbers)
    for state in states.values():
        if MARK in state.steps:
            DuplicateLogic(state.steps[MARK])
        if WATCH in state.steps:
            Engine(Times(), PartitionDetector()).restore(state.steps[WATCH])
    text = f"{directory} has the state of {len(states)} partitions, in a version we can read"
    yield Finding(State.OK, "recovery", text)


def existing(path: Path) -> Path:
    """The path itself, or its nearest parent that exists."""
    path = Path(os.path.abspath(path))
    return next(place for place in (path, *path.parents) if place.exists())
