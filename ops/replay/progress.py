"""Progress of a replay: a bar on a terminal, otherwise a log line every 10 s."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ops.replay.spans import Part

_LINE_S = 10.0
_log = structlog.get_logger("replay")


class Progressed:
    """Progress of each partition, as the source reports it."""

    def __init__(
        self, parts: Sequence[Part], readings: Callable[[], int], console: Console
    ) -> None:
        self.total = sum(part.end - part.first for part in parts)
        self._first = {part.partition: part.first for part in parts}
        self._at = dict(self._first)
        self._readings = readings
        self._before = (0, 0)
        """Readings and records processed by earlier starts."""
        self._began: float | None = None
        self._line_at = 0.0
        self._bar = Progress(
            TextColumn("replaying"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]:,.0f} readings/s"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            refresh_per_second=4,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=self.total, start=False, rate=0.0)

    @property
    def done(self) -> int:
        """Records processed, including earlier starts."""
        return sum(self._at[partition] - self._first[partition] for partition in self._at)

    @property
    def done_now(self) -> int:
        """Records processed since this start."""
        return self.done - self._before[1]

    @property
    def seconds(self) -> float:
        """Seconds since the first batch."""
        return 0.0 if self._began is None else monotonic() - self._began

    @property
    def rate(self) -> float:
        """Readings per second since the first batch."""
        return (self._readings() - self._before[0]) / (self.seconds or 1.0)

    def at(self, partition: int, next_offset: int, arrival: int | None) -> None:
        """See `PacketSource.progress`."""
        if arrival is None:  # the start position
            self._at[partition] = next_offset
            self._before = self._readings(), self.done
            return
        now = monotonic()
        if self._began is None:
            self._began = self._line_at = now
            self._before = self._readings(), self.done
            self._bar.start_task(self._task)
        self._at[partition] = next_offset
        self._bar.update(self._task, completed=self.done, rate=self.rate)
        if self._bar.disable and now - self._line_at >= _LINE_S:
            self._line_at = now
            left = (self.total - self.done) * self.seconds / max(1, self.done_now)
            _log.info(
                "replaying",
                records=self.done,
                of=self.total,
                readings_per_s=round(self.rate),
                seconds_left=round(left),
            )

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the progress during the block."""
        with self._bar:
            yield
