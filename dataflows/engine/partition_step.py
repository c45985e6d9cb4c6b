"""The engine as a step of the flow. It splits each piece where the rules change."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from bytewax.operators import StatefulBatchLogic

from contract.columns import NEVER, PacketColumns
from contract.level import Level
from contract.table import Snapshot
from dataflows.engine.engine import Engine, Outcome, Times
from dataflows.events.lookback import Change
from dataflows.log.decode import record_columns
from dataflows.metrics import (
    EVENTS,
    FUTURE,
    LATE,
    PANES,
    READINGS,
    REPEATED,
    SENSORS,
    SNAPSHOT_SECONDS,
    TOO_LATE,
    UNJUDGED,
)
from ml.online import PartitionDetector
from rules.history import RuleBook
from sql.statements import RuleVersion


@dataclass(frozen=True, slots=True)
class Watch:
    """The rules and time settings, the same for every partition."""

    book: RuleBook
    times: Times


class PartitionLogic(StatefulBatchLogic[PacketColumns, Outcome, dict[str, Snapshot]]):
    """The engine of one partition. Its output and state are a function of the sequence and of the
    rule history alone.
    """

    def __init__(
        self, watch: Watch, snapshot: dict[str, Snapshot] | tuple[Any, ...] | None
    ) -> None:
        self._book = watch.book
        self.engine = Engine(watch.times, PartitionDetector())
        if snapshot is not None:
            self.engine.restore(snapshot)
        self._counted = self.engine.counts
        self._levels = (0, 0, 0)
        self._unjudged = 0
        self._count_levels()

    def on_batch(self, values: list[PacketColumns]) -> tuple[Iterable[Outcome], bool]:
        """Process the next pieces of the sequence. Returns several outcomes if the rules change."""
        piece = PacketColumns.joined(values)
        outcomes = [
            self.engine.step(
                part, self._book.rules(edition.version), self._book.names, self._change(edition)
            )
            for part, edition in self._parts(piece)
        ]
        self._count(piece, outcomes)
        return outcomes, StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, Snapshot]:
        """Copy the state of the engine."""
        self._count_levels()
        unjudged = self.engine.unjudged
        UNJUDGED.inc(unjudged - self._unjudged)
        self._unjudged = unjudged
        with SNAPSHOT_SECONDS.time():
            return self.engine.snapshot()

    def _count(self, piece: PacketColumns, outcomes: list[Outcome]) -> None:
        counts, before = self.engine.counts, self._counted
        LATE.inc(counts.late - before.late)
        TOO_LATE.inc(counts.too_late - before.too_late)
        FUTURE.inc(counts.future - before.future)
        REPEATED.inc(counts.duplicates - before.duplicates)
        self._counted = counts
        READINGS.inc(len(piece.readings.ts))
        for outcome in outcomes:
            PANES.inc(len(outcome.panes.row))
            for event in outcome.events:
                EVENTS.labels(event.event_code).inc()
        if any(outcome.events for outcome in outcomes):
            self._count_levels()

    def _count_levels(self) -> None:
        levels = self.engine.levels
        for level, now, before in zip(Level, levels, self._levels, strict=True):
            SENSORS.labels(level.name).inc(now - before)
        self._levels = levels

    def _change(self, edition: RuleVersion) -> Change | None:
        """The change of rules with which the edition begins; None if the rules stay the same."""
        before = self.engine.rules_version
        if before in {"", self._book.rules(edition.version).version}:
            return None
        return Change(self._book.rules(before), edition.applies_from)

    def _parts(self, piece: PacketColumns) -> Iterator[tuple[PacketColumns, RuleVersion]]:
        """Split the piece where the rules change. A change adds a heartbeat, so that the old rules
        judge everything that is due by then, even if no other heartbeat arrived in time.
        """
        arrival = np.maximum.accumulate(np.maximum(piece.records.arrival, self.engine.arrival))
        editions = self._book.editions(int(arrival[-1]))
        begun, first = self.engine.arrival > NEVER, 0
        for edition, end in zip(editions, (*editions[1:], None), strict=True):
            last = len(arrival)
            if end is not None:
                last = int(np.searchsorted(arrival, end.applies_from))
            if first < last:
                yield piece.part(first, last), edition
                begun = True
            if end is None or last == len(arrival):
                return
            if begun and self.engine.arrival < end.applies_from - 1:
                change = record_columns([end.applies_from - 1], [None])
                yield change, edition
            first = last
