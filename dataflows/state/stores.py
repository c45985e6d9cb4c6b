"""Reads the states of partitions from a recovery store, and writes them to a new one.

Bytewax itself reads and writes the stores: a small flow with the same step names as the real one
resumes from a store, or leaves its snapshots in one. This module does not depend on the format.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from os import W_OK, access
from pathlib import Path
from shutil import copy2
from sqlite3 import SQLITE_ERROR, DatabaseError, OperationalError, connect
from tempfile import TemporaryDirectory
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, run_main

from contract.errors import SetupError
from contract.partitions import partitions_text
from runtime.private import check_private

FLOW, CONSUME, MARK, WATCH = "readings", "consume", "mark_duplicates", "watch"
"""The names of the flow and of its stateful steps. Stores identify states by them."""
_STORE = "part-*.sqlite3"
_REMEDY = (
    "Restore it from a copy, or start with a new directory: the flow then reads the topic from "
    "START_FROM, and stored data is not stored again"
)

_DAMAGED = "the recovery store {} is damaged ({}). " + _REMEDY


@dataclass(slots=True)
class PartitionState:
    """The state of one partition in a store."""

    position: Any
    """The state of the source; see `dataflows.log.position`."""
    steps: dict[str, Any] = field(default_factory=dict)
    """The states of `MARK` and `WATCH`, if they have one."""


_Visit = Callable[[str, PartitionState, Any], Any]
"""Called with a step, a partition's state and the step's state; returns the step's new state."""


def store_files(directory: Path) -> list[Path]:
    """The files of the Bytewax store in `directory`."""
    return sorted(directory.glob(f"{_STORE}*"))


def is_store(directory: Path) -> bool:
    """Whether `directory` has a store."""
    return bool(store_files(directory))


def check_store(directory: Path) -> None:
    """Check that Bytewax can open a store.

    Raises:
        SetupError: a file is damaged, missing or not writable, or other users can write to it.
    """
    check_private([directory, *store_files(directory)])
    indexes: set[int] = set()
    wanted = 0
    for file in directory.glob(_STORE):
        if not (access(file, W_OK) and access(directory, W_OK)):
            raise SetupError(
                f"the recovery store {file} cannot be written: give it and its directory to the "
                "user that runs the flow, and check that the disk is not read-only"
            )
        try:
            with closing(connect(file)) as store:
                ((index, wanted),) = store.execute("SELECT part_index, part_count FROM parts")
        except OperationalError as error:
            if error.sqlite_errorcode == SQLITE_ERROR:  # a table or a column is missing
                raise SetupError(_DAMAGED.format(file, error)) from error
            raise SetupError(
                f"the recovery store {file} cannot be used ({error}): check its disk"
            ) from error
        except (DatabaseError, ValueError) as error:
            raise SetupError(_DAMAGED.format(file, error)) from error
        indexes.add(index)
    if indexes != set(range(wanted)):
        raise SetupError(
            f"the recovery directory {directory} has {len(indexes)} of {wanted} stores. {_REMEDY}"
        )


def make_store(directory: Path) -> None:
    """Create an empty store of one file, and its directory if it is missing.

    Raises:
        OSError: it cannot be created.
    """
    directory.mkdir(parents=True, exist_ok=True)
    init_db_dir(directory, 1)  # type: ignore[no-untyped-call]


def read_states(
    directory: Path, partitions: Iterable[int], scratch: Path | None = None
) -> dict[int, PartitionState]:
    """The states in a store. The store is not changed: a temporary copy is read, in `scratch` or
    the system's temporary directory.

    Raises:
        SetupError: the store has states of more than `partitions`, or other users can write to it.
    """
    check_private([directory, *store_files(directory)])

    def note(step: str, held: PartitionState, state: Any) -> Any:
        if state is not None:
            held.steps[step] = state
        return state

    states: dict[int, PartitionState] = {}
    with TemporaryDirectory(prefix="iot-states-", dir=scratch) as name:
        for store in store_files(directory):
            copy2(store, name)
        wanted = frozenset(partitions)
        try:
            _run(_States(states, wanted), note, Path(name))
        except RuntimeError as error:
            raise SetupError(
                f"{directory} has states of more than the partitions {partitions_text(wanted)}, or "
                f"they cannot be read ({error}): list all its partitions, or move it away"
            ) from error
    return states


def write_states(directory: Path, states: Mapping[int, PartitionState]) -> None:
    """Create a store in `directory`, from which a flow resumes with `states`."""
    make_store(directory)
    if states:
        _run(_States(dict(states)), lambda step, held, _: held.steps.get(step), directory)


def _run(source: "_States", visit: _Visit, directory: Path) -> None:
    flow = Dataflow(FLOW)
    states = op.input(CONSUME, flow, source)
    for step in (MARK, WATCH):
        states = op.stateful_batch(step, states, partial(_Step, step, visit))
    op.output("end", states, TestingSink([]))
    recovery = RecoveryConfig(str(directory), timedelta(0))  # type: ignore[no-untyped-call]
    run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class _States(FixedPartitionedSource[tuple[str, PartitionState], Any]):
    """Emits each state once. A state that is not given is read from the store."""

    states: dict[int, PartitionState]
    wanted: frozenset[int] | None = None

    def list_parts(self) -> list[str]:
        return [str(partition) for partition in sorted(self.wanted or self.states)]

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> "_StatePart":
        if resume_state is not None:
            self.states[int(for_part)] = PartitionState(resume_state)
        return _StatePart(for_part, self.states.get(int(for_part)))


class _StatePart(StatefulSourcePartition[tuple[str, PartitionState], Any]):
    def __init__(self, key: str, state: PartitionState | None) -> None:
        self._state = state
        self._left = [] if state is None else [(key, state)]

    def next_batch(self) -> list[tuple[str, PartitionState]]:
        if not self._left:
            raise StopIteration
        return [self._left.pop()]

    def snapshot(self) -> Any:
        return None if self._state is None else self._state.position


class _Step(StatefulBatchLogic[PartitionState, PartitionState, Any]):
    def __init__(self, step: str, visit: _Visit, state: Any) -> None:
        self._step, self._visit, self._state = step, visit, state

    def on_batch(self, values: list[PartitionState]) -> tuple[Iterable[PartitionState], bool]:
        for held in values:
            self._state = self._visit(self._step, held, self._state)
        return values, self._state is None

    def snapshot(self) -> Any:
        return self._state
