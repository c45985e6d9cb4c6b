"""What a replay has read so far, kept in its recovery store."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from contract.columns import PacketColumns
from dataflows.log import BadRecord

_State = tuple[int, int, dict[int, int]]


@dataclass(slots=True)
class Seen:
    """The counts of one partition."""

    readings: int = 0
    bad: int = 0
    """Records that cannot be decoded."""
    since: dict[int, int] = field(default_factory=dict)
    """device_id -> event time of its earliest reading, epoch milliseconds UTC."""

    def add(self, piece: PacketColumns | BadRecord) -> None:
        """Count a piece of the log."""
        if isinstance(piece, BadRecord):
            self.bad += 1
            return
        self.readings += len(piece.readings.ts)
        records = piece.records
        full = np.flatnonzero(records.count)
        if not len(full):
            return
        starts = np.cumsum(records.count)[full] - records.count[full]
        earliest = np.minimum.reduceat(piece.readings.ts, starts) // 1000
        for device, ts in zip(records.device_id[full].tolist(), earliest.tolist(), strict=True):
            if ts < self.since.get(device, ts + 1):
                self.since[device] = ts


class Tally(FixedPartitionedSink[PacketColumns | BadRecord, _State]):
    """A sink that counts. `seen` is by partition, and complete when the flow has ended."""

    def __init__(self, partitions: Iterable[int]) -> None:
        self._keys = [f"{partition:06}" for partition in sorted(partitions)]
        self.seen: dict[int, Seen] = {int(key): Seen() for key in self._keys}

    def list_parts(self) -> list[str]:
        """One part for each partition of the topic."""
        return self._keys

    def part_fn(self, item_key: str) -> int:
        """The part of the same partition."""
        return self._keys.index(f"{int(item_key):06}")

    def build_part(self, step_id: str, for_part: str, resume_state: _State | None) -> "_Part":
        """Continue counting."""
        readings, bad, since = resume_state or (0, 0, {})
        seen = self.seen[int(for_part)] = Seen(readings, bad, dict(since))
        return _Part(seen)

    @property
    def readings(self) -> int:
        """Readings of all partitions, including earlier starts."""
        return sum(seen.readings for seen in self.seen.values())


class _Part(StatefulSinkPartition[PacketColumns | BadRecord, _State]):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def write_batch(self, values: list[PacketColumns | BadRecord]) -> None:
        for value in values:
            self._seen.add(value)

    def snapshot(self) -> _State:
        return self._seen.readings, self._seen.bad, dict(self._seen.since)
