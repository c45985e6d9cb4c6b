"""Marks duplicate packets, and keeps apart packets that only look like duplicates.

A record whose packet id is among the last 64 of its device is a duplicate. The windows ignore it.
Of its readings, only those that the device dated are stored again, since the date identifies their
rows.

In records of version 1, the millisecond in which the edge received an undated reading identifies
it, and two packets may reach the edge in the same millisecond. The packets of a device are in order
here, so the readings of the later packet get a higher `seq`, which keeps their rows apart. Version
2 does not need this: `seq` of its undated readings is unique to their packet.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from bytewax.operators import StatefulBatchLogic

from contract.columns import PacketColumns
from contract.errors import SetupError
from contract.packet import MAX_READINGS

RECENT = 64
"""The number of packets that are remembered per device."""
_VERSION = 2

_Snapshot = tuple[int, dict[int, tuple[list[int], list[int]]]]
"""A version tag; device_id -> packet hashes and receive times (microseconds; milliseconds in
version 1) of its last packets, oldest first."""


class DuplicateLogic(StatefulBatchLogic[PacketColumns, PacketColumns, _Snapshot]):
    """Marks duplicates in one partition's sequence, and renumbers readings that would collide."""

    def __init__(self, snapshot: _Snapshot | None) -> None:
        version, recent = snapshot or (_VERSION, {})
        if version not in (1, _VERSION):
            raise SetupError(
                "the recovery directory was written by another version of this program; this one "
                f"reads versions 1 and {_VERSION} of the remembered packets: start with a new "
                "directory"
            )
        to_us = 1000 if version == 1 else 1
        self._recent: dict[int, OrderedDict[int, int]] = {
            device: OrderedDict(zip(hashes, [time * to_us for time in times], strict=True))
            for device, (hashes, times) in recent.items()
        }
        """device_id -> packet hash -> receive time, oldest first."""

    def on_batch(self, values: list[PacketColumns]) -> tuple[Iterable[PacketColumns], bool]:
        """Join the next part of the sequence into one piece, and set `fresh` and `seq`."""
        return [self._mark(PacketColumns.joined(values))], StatefulBatchLogic.RETAIN

    def snapshot(self) -> _Snapshot:
        """The remembered packets, with a version tag in front."""
        recent = self._recent.items()
        return _VERSION, {device: (list(seen), list(seen.values())) for device, seen in recent}

    def _mark(self, piece: PacketColumns) -> PacketColumns:
        fresh = np.ones(len(piece), bool)
        earlier: dict[int, int] = {}
        given, readings = piece.records, piece.readings
        columns = (given.device_id, given.packet_hash, given.received_at, given.version)
        records = zip(*(column.tolist() for column in columns), strict=True)
        for index, (device, packet, received_at, version) in enumerate(records):
            if device < 0:
                continue
            seen = self._recent.get(device)
            if seen is None:
                seen = self._recent[device] = OrderedDict()
            elif packet in seen:
                fresh[index] = False
                continue
            if version == 1 and (before := list(seen.values()).count(received_at)):
                earlier[index] = before
            seen[packet] = received_at
            if len(seen) > RECENT:
                seen.popitem(last=False)
        if earlier:
            shift = np.zeros(len(piece), np.int64)
            shift[list(earlier)] = list(earlier.values())
            shift = np.repeat(shift * MAX_READINGS, given.count)
            undated = readings.device_ts != readings.ts
            readings = replace(readings, seq=readings.seq + np.where(undated, shift, 0))
        return PacketColumns(replace(given, fresh=fresh), readings)
