"""Post a CSV file to the edge, with the times in the file."""

import asyncio
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

from contract.errors import SetupError
from contract.packet import MAX_READINGS, MAX_TIME_MS, MAX_VALUE
from ops.devices import RegisteredDevice
from ops.post import EdgeClient, iso

_NAME = 255
_LABELS = {"anomaly", "changepoint"}
"""Label columns, which are not sensors."""


@dataclass(frozen=True, slots=True)
class CsvSeries:
    """A file's content: T rows of S sensors, in the file's order."""

    sensors: list[str]
    """(S,) the names in the header."""
    ts: list[int]
    """(T,) epoch milliseconds UTC."""
    values: list[list[float | None]]
    """(T, S), None where a cell is empty."""

    @property
    def readings(self) -> int:
        """Number of values."""
        return sum(value is not None for row in self.values for value in row)


def read_csv(file: Path) -> CsvSeries:
    """Read a file with a header line, separated by `;` or `,`, with the time in the first column.

    Times are ISO-8601, in UTC if they have no zone. The label columns `anomaly` and `changepoint`
    are skipped.

    Raises:
        SetupError: the file cannot be read, or a cell is invalid. The text names the line and the
            column.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        rows = csv.reader(lines, delimiter=";" if lines and ";" in lines[0] else ",")
        return _series(file, rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SetupError(f"{file} cannot be read: {error}") from error


def _series(file: Path, rows: Any) -> CsvSeries:
    header = [name.strip() for name in next(rows, [])]
    chosen = [i for i, name in enumerate(header) if i and name.lower() not in _LABELS]
    if not chosen:
        raise SetupError(f"{file} has no header line with a time and at least one sensor")
    if any(not 0 < len(header[i]) <= _NAME for i in chosen):
        raise SetupError(f"{file} line 1: a sensor name must have 1 to {_NAME} characters")
    series = CsvSeries([header[i] for i in chosen], [], [])
    at_once = 0
    for row in rows:
        if not row:
            continue
        if len(row) != len(header):
            raise SetupError(
                f"{file} line {rows.line_num}: {len(row)} cells under {len(header)} names"
            )
        time, *_ = row
        ts = _time(time, file, rows.line_num)
        at_once = len(chosen) + (at_once if series.ts and series.ts[-1] == ts else 0)
        if at_once > MAX_READINGS:
            raise SetupError(
                f"{file} line {rows.line_num}: more than {MAX_READINGS} values with the same "
                "time, the limit of a packet"
            )
        series.ts.append(ts)
        series.values.append([_value(row[i], header[i], file, rows.line_num) for i in chosen])
    return series


def _time(cell: str, file: Path, line: int) -> int:
    try:
        moment = datetime.fromisoformat(cell.strip())
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        ms = round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        ms = -1
    if not 0 <= ms <= MAX_TIME_MS:
        raise SetupError(
            f"{file} line {line}: {cell[:40]!r} is not an ISO-8601 time between 1970 and 9998"
        )
    return ms


def _value(cell: str, column: str, file: Path, line: int) -> float | None:
    if not cell.strip():
        return None
    try:
        value = float(cell)
    except ValueError:
        value = inf
    if not abs(round(value, 5)) < MAX_VALUE:
        raise SetupError(
            f"{file} line {line}, column {column}: {cell[:40]!r} is not a number below 1e10"
        )
    return value


def moments(ts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the runs of rows with equal times, as (first, one past the last).

    A device would send such a run at once. So readings with equal times always get the same
    numbers.

    >>> list(moments([5, 5, 6]))
    [(0, 2), (2, 3)]
    """
    first = 0
    for index in range(1, len(ts) + 1):
        if index == len(ts) or ts[index] != ts[first]:
            yield first, index
            first = index


def packets(
    series: CsvSeries, device: RegisteredDevice, together: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (time of its last row, packet) for each packet.

    A packet has the rows of one time or, with `together`, up to the limit of a packet.
    """
    uuids = [device.sensors[name] for name in series.sensors]
    waiting: list[dict[str, Any]] = []
    at = 0
    for first, last in moments(series.ts):
        readings = [
            {"sensor_uuid": uuid, "value": value, "ts": iso(series.ts[row])}
            for row in range(first, last)
            for uuid, value in zip(uuids, series.values[row], strict=True)
            if value is not None
        ]
        if waiting and (not together or len(waiting) + len(readings) > MAX_READINGS):
            yield at, {"device_uuid": device.uuid, "readings": waiting}
            waiting = []
        waiting += readings
        at = series.ts[first]
    if waiting:
        yield at, {"device_uuid": device.uuid, "readings": waiting}


async def feed(
    client: EdgeClient,
    series: CsvSeries,
    device: RegisteredDevice,
    speed: float,
    accepted: Callable[[int], None],
) -> None:
    """Post the series in order, `speed` times as fast as it was measured.

    0 means as fast as the edge accepts it. `accepted` is called with the number of readings in each
    accepted packet.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    for at, packet in packets(series, device, together=not speed):
        if speed:
            due = start + (at - series.ts[0]) / 1000 / speed
            await asyncio.sleep(max(0.0, due - loop.time()))
        accepted(await client.post(packet))
