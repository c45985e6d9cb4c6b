"""How long a sensor or a device may be silent, where a user has set it.

`no_data_after_seconds` of `sensors` and of `devices`: a notice after that many seconds without
data; 0: never. Without it, `dataflows.engine.no_data` goes by the rhythm of the sender.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from contract.columns import Ints
from rules.kind import Source

SENSORS, DEVICES = "sensors", "devices"
COLUMN = "no_data_after_seconds"
NOT_SET = -1
_LONGEST = 10 * 366 * 86_400


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """A row with a setting."""

    table: str
    id: int
    seconds: int
    """0: never report it."""


def _reader(table: str) -> Source[Any]:
    def of_row(values: Mapping[str, Any]) -> list[Silence]:
        """The other columns of the row, such as names, do not matter."""
        seconds = values.get(COLUMN)
        if seconds is None:
            return []
        if type(seconds) is not int or not 0 <= seconds <= _LONGEST:
            raise ValueError(f"{COLUMN} must be a number of seconds, 0 or more")
        return [Silence(table=table, id=int(values["id"]), seconds=seconds)]

    return Source(table, f"list_silences_of_{table}", ("id", COLUMN), of_row)


SILENCES = (_reader(SENSORS), _reader(DEVICES))


class Silences:
    """The settings, by id."""

    def __init__(self, silences: Sequence[Silence] = ()) -> None:
        self._of: dict[str, tuple[Ints, Ints]] = {}
        for table in (SENSORS, DEVICES):
            ms = {s.id: 1000 * s.seconds for s in silences if s.table == table}
            ids = np.array(sorted(ms), np.int64)
            self._of[table] = ids, np.array([ms[number] for number in ids.tolist()], np.int64)

    def of_sensors(self, ids: Ints) -> Ints:
        """(N,) the setting in ms of each sensor; `NOT_SET` where there is none, 0: never."""
        return self._lookup(SENSORS, ids)

    def of_devices(self, ids: Ints) -> Ints:
        """(N,) the same for devices."""
        return self._lookup(DEVICES, ids)

    def _lookup(self, table: str, ids: Ints) -> Ints:
        known, ms = self._of[table]
        if not len(known):
            return np.full(len(ids), NOT_SET)
        place = np.searchsorted(known, ids).clip(max=len(known) - 1)
        return np.where(known[place] == ids, ms[place], NOT_SET)
