"""`python -m tests.chaos.launch POINT NTH MODULE ARGUMENTS...`: a program of ours that dies
at once, as by a power cut, when it comes to a named point for the NTH time.

The program knows nothing of it: one seam is wrapped from outside, the driver's or the source's, and
then the module runs as `python -m MODULE ARGUMENTS...` would.
"""

import os
import runpy
import signal
import sqlite3
import sys
from itertools import count
from time import sleep

import confluent_kafka

_HELD_S, _TAKEN_S = 2.5, 0.02


class _Killer:
    """Kills this process at the NTH hit, from whichever thread it comes."""

    def __init__(self, nth: int) -> None:
        self._nth = nth
        self._hits = count(1)  # next() is atomic

    def due(self) -> bool:
        return next(self._hits) == self._nth

    def hit(self) -> None:
        if self.due():
            self.kill()

    @staticmethod
    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def _nothing() -> None:
    """Do nothing: the hook of all points but one."""


def _producers(queued=_nothing, before_told=_nothing, after_told=_nothing) -> None:
    class Producer(confluent_kafka.Producer):
        def produce(self, *arguments, on_delivery, **options):  # type: ignore[override]
            def delivered(error, message):
                before_told()
                on_delivery(error, message)
                after_told()

            super().produce(*arguments, on_delivery=delivered, **options)
            queued()

    confluent_kafka.Producer = Producer


def produced(killer: _Killer) -> None:
    """A record was passed to the client library, but not acknowledged."""
    _producers(queued=killer.hit)


def acknowledged(killer: _Killer) -> None:
    """The broker acknowledged a record, but the program does not know it yet."""
    _producers(before_told=killer.hit)


def answered(killer: _Killer) -> None:
    """The program knows that a record was acknowledged, and is about to answer."""
    _producers(after_told=killer.hit)


def _commits(before=_nothing, after=_nothing) -> None:
    real = sqlite3.connect

    def connect(*arguments, factory=sqlite3.Connection, **options):
        class Connection(factory):  # type: ignore[valid-type]
            def execute(self, statement, *parameters):
                if statement != "COMMIT":
                    return super().execute(statement, *parameters)
                before()
                cursor = super().execute(statement)
                after()
                return cursor

        return real(*arguments, factory=Connection, **options)

    sqlite3.connect = connect


def before_commit(killer: _Killer) -> None:
    """A database transaction is complete except for its COMMIT."""
    _commits(before=killer.hit)


def held_commit(killer: _Killer) -> None:
    """A transaction is complete but for its COMMIT, which does not come for some seconds: meanwhile
    no snapshot may say that its rows are there.
    """

    def hold():
        if killer.due():
            sleep(_HELD_S)
            killer.kill()

    _commits(before=hold)


def after_commit(killer: _Killer) -> None:
    """A database transaction was committed, but no other part of the program knows it yet."""
    _commits(after=killer.hit)


def before_snapshot(killer: _Killer) -> None:
    """An epoch ends, and a partition's snapshot is asked for."""
    from dataflows.log.source import _PacketPartition  # noqa: PLC0415 - the flow only has it

    real = _PacketPartition.snapshot

    def snapshot(self):
        killer.hit()
        return real(self)

    _PacketPartition.snapshot = snapshot  # type: ignore[method-assign]


def after_snapshot(killer: _Killer) -> None:
    """A snapshot was given, the recovery store has had time to take it, and a batch of the next
    epoch is asked for.
    """
    from dataflows.log.source import _PacketPartition  # noqa: PLC0415 - the flow only has it

    real_snapshot, real_next = _PacketPartition.snapshot, _PacketPartition.next_batch
    due = []

    def snapshot(self):
        if killer.due():
            due.append(True)
        return real_snapshot(self)

    def next_batch(self):
        if due:
            sleep(_TAKEN_S)
            killer.kill()
        return real_next(self)

    _PacketPartition.snapshot = snapshot  # type: ignore[method-assign]
    _PacketPartition.next_batch = next_batch  # type: ignore[method-assign]


def corrected(killer: _Killer) -> None:
    """A replay has corrected the live tables, but has not recorded it."""
    from sinks import corrections  # noqa: PLC0415 - the replay only has it

    real = corrections.write_corrections

    def write_corrections(*arguments):
        real(*arguments)
        killer.hit()

    corrections.write_corrections = write_corrections


SEAMS = {
    "produced": produced,
    "acknowledged": acknowledged,
    "answered": answered,
    "before-commit": before_commit,
    "held-commit": held_commit,
    "after-commit": after_commit,
    "before-snapshot": before_snapshot,
    "after-snapshot": after_snapshot,
    "corrected": corrected,
}


def main() -> None:
    _, point, nth, module, *arguments = sys.argv
    SEAMS[point](_Killer(int(nth)))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
