"""Packets that a device sent again, and packets that only look alike.

A record whose packet id is among the last 64 of its device is a repetition: the windows do not
see it, and of its readings only those are stored again that the device dated itself, because
their rows are known by that date. A reading without a date of its own has the time at which the
edge had it, and two packets may reach the edge in the same millisecond: here, where a device's
packets are in one order, the later one's readings get a higher `seq`, so that neither row is
taken for the other.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from bytewax.operators import StatefulBatchLogic

from contract.columns import PacketColumns, concatenate
from contract.errors import SetupError
from contract.packet import MAX_READINGS

RECENT = 64
"""How many packets of a device are remembered."""
_VERSION = 1

_Recent = dict[int, tuple[list[int], list[int]]]
"""device_id -> packet hashes and times of receipt of its last packets, oldest first."""


class DuplicateLogic(StatefulBatchLogic[PacketColumns, PacketColumns, tuple[int, _Recent]]):
    """Marks repetitions in one partition's sequence, and numbers readings that would collide."""

    def __init__(self, snapshot: tuple[int, _Recent] | None) -> None:
        version, recent = snapshot or (_VERSION, {})
        if version != _VERSION:
            raise SetupError(
                f"the recovery directory was written by another version of this program, and this "
                f"one reads version {_VERSION} of the packets seen: start with a new directory"
            )
        self._recent = _copy(recent)

    def on_batch(self, values: list[PacketColumns]) -> tuple[Iterable[PacketColumns], bool]:
        """The next piece of the sequence, as one piece, with `fresh` and `seq` set."""
        return [self._mark(concatenate(values))], StatefulBatchLogic.RETAIN

    def snapshot(self) -> tuple[int, _Recent]:
        """The remembered packets, with a version tag in front."""
        return _VERSION, _copy(self._recent)

    def _mark(self, piece: PacketColumns) -> PacketColumns:
        fresh = np.ones(len(piece.count), bool)
        earlier = np.zeros(len(piece.count), np.int64)
        columns = (piece.device_id, piece.packet_hash, piece.received_at)
        records = zip(*(column.tolist() for column in columns), strict=True)
        for index, (device, packet, received_at) in enumerate(records):
            if device < 0:
                continue
            hashes, times = self._recent.setdefault(device, ([], []))
            if packet in hashes:
                fresh[index] = False
                continue
            earlier[index] = times.count(received_at)
            hashes.append(packet)
            times.append(received_at)
            if len(hashes) > RECENT:
                del hashes[0], times[0]
        seq = piece.seq
        if earlier.any():
            shift = np.repeat(earlier, piece.count) * MAX_READINGS
            seq = seq + np.where(piece.device_ts == piece.ts, 0, shift)
        return replace(piece, fresh=fresh, seq=seq)


def _copy(recent: _Recent) -> _Recent:
    return {device: (list(hashes), list(times)) for device, (hashes, times) in recent.items()}
