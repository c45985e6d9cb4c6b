"""The engine as a step of the flow: which rules apply to which part of a piece."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from bytewax.operators import StatefulBatchLogic

from contract.columns import PacketColumns, concatenate, piece_of
from dataflows.engine import Engine, Outcome, Times
from dataflows.rule_book import RuleBook, in_force
from dataflows.rules import Rules


@dataclass(frozen=True, slots=True)
class Watch:
    """What is watched for, and how: the same for every partition."""

    book: RuleBook
    times: Times


class PartitionLogic(StatefulBatchLogic[PacketColumns, Outcome, tuple[Any, ...]]):
    """The engine of one partition. Its output and state are a function of the sequence and of the
    rule book alone.
    """

    def __init__(self, watch: Watch, snapshot: tuple[Any, ...] | None) -> None:
        self._book = watch.book
        self.engine = Engine(watch.times)
        if snapshot is not None:
            self.engine.restore(snapshot)

    def on_batch(self, values: list[PacketColumns]) -> tuple[Iterable[Outcome], bool]:
        """What the next pieces of the sequence lead to; more than one where the rules change."""
        piece = concatenate(values)
        outcomes = [
            self.engine.step(part, rules, self._book.names) for part, rules in self._parts(piece)
        ]
        return outcomes, StatefulBatchLogic.RETAIN

    def snapshot(self) -> tuple[Any, ...]:
        """The state of the engine."""
        return self.engine.snapshot()

    def _parts(self, piece: PacketColumns) -> Iterator[tuple[PacketColumns, Rules]]:
        arrival = np.maximum.accumulate(np.maximum(piece.arrival, self.engine.arrival))
        editions = self._book.editions(int(arrival[-1]))
        changes = [one.applies_from for one in editions]
        cuts = {0, len(arrival), *np.searchsorted(arrival, changes).tolist()}
        for first, last in pairwise(sorted(cuts)):
            whole = first == 0 and last == len(arrival)
            part = piece if whole else piece_of(piece, first, last)
            yield part, self._book.rules(in_force(editions, int(arrival[first])).version)
