"""The state of partitions out of a recovery store, and into a new one.

Bytewax itself reads and writes the stores: a small flow with the step names of ours resumes from
the one, and leaves its snapshots in the other. So nothing here knows how Bytewax keeps them.
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
"""The names of the flow and of its steps that have a state: stores know states by them."""
_STORE = "part-*.sqlite3"
_ANEW = (
    "Bring it back from a copy, or start with a new directory: the flow then takes the topic from "
    "START_FROM on, and what is stored is not stored again"
)

_DAMAGED = "the recovery store {} is damaged ({}). " + _ANEW


@dataclass(slots=True)
class PartitionState:
    """What a store holds of one partition."""

    position: Any
    """The state of the source, see `dataflows.log.position`."""
    steps: dict[str, Any] = field(default_factory=dict)
    """The state of `MARK` and of `WATCH`, where they have one."""


_Visit = Callable[[str, PartitionState, Any], Any]
"""Given a step, what is held of a partition and the step's state; returns its state from now on."""


def store_files(directory: Path) -> list[Path]:
    """The files in which Bytewax keeps something there."""
    return sorted(directory.glob(f"{_STORE}*"))


def is_store(directory: Path) -> bool:
    """Whether there are any."""
    return bool(store_files(directory))


def check_store(directory: Path) -> None:
    """See that Bytewax will be able to open a store.

    Raises:
        SetupError: a file of it is damaged, missing, not ours to write, or others can write it.
    """
    check_private([directory, *store_files(directory)])
    found: set[int] = set()
    wanted = 0
    for file in directory.glob(_STORE):
        if not (access(file, W_OK) and access(directory, W_OK)):
            raise SetupError(
                f"the recovery store {file} cannot be written: give it and its directory to the "
                "user that runs the flow, and see that the disk is not read-only"
            )
        try:
            with closing(connect(file)) as store:
                ((index, wanted),) = store.execute("SELECT part_index, part_count FROM parts")
        except OperationalError as error:
            if error.sqlite_errorcode == SQLITE_ERROR:  # a table or a column is missing
                raise SetupError(_DAMAGED.format(file, error)) from error
            raise SetupError(
                f"the recovery store {file} cannot be used ({error}): see to its disk"
            ) from error
        except (DatabaseError, ValueError) as error:
            raise SetupError(_DAMAGED.format(file, error)) from error
        found.add(index)
    if found != set(range(wanted)):
        raise SetupError(
            f"the recovery directory {directory} has {len(found)} of {wanted} stores. {_ANEW}"
        )


def make_store(directory: Path) -> None:
    """An empty store of one file, in a directory that is made when missing.

    Raises:
        OSError: it cannot be made there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    init_db_dir(directory, 1)  # type: ignore[no-untyped-call]


def read_states(
    directory: Path, partitions: Iterable[int], scratch: Path | None = None
) -> dict[int, PartitionState]:
    """The states in a store, which stays as it is; a copy of it is read, made for that time in
    `scratch`, else where the system has such things.

    Raises:
        SetupError: it has states of others than `partitions`, or others can write to it.
    """
    check_private([directory, *store_files(directory)])

    def note(step: str, held: PartitionState, state: Any) -> Any:
        if state is not None:
            held.steps[step] = state
        return state

    found: dict[int, PartitionState] = {}
    with TemporaryDirectory(prefix="iot-states-", dir=scratch) as name:
        for store in store_files(directory):
            copy2(store, name)
        wanted = frozenset(partitions)
        try:
            _run(_States(found, wanted), note, Path(name))
        except RuntimeError as error:
            raise SetupError(
                f"{directory} has states of more than the partitions {partitions_text(wanted)}, or "
                f"they cannot be read ({error}): give all partitions, or take that directory away"
            ) from error
    return found


def write_states(directory: Path, states: Mapping[int, PartitionState]) -> None:
    """Make a store in `directory` from which a flow resumes with `states`."""
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
    """Each state once; those that are not known begin with what the store resumes from."""

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
