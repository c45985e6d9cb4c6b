"""The batch runner: `python -m ml.batch`, once (`--once`) or periodically.

Each sensor with new readings is one transaction: its model, its prediction, its events with their
notifications, and its watermark. So the runner can be killed at any time and restarted: what was
written is kept, and the rest is computed from the same readings under the same keys. If two runners
run at once, the second writes nothing new. Anomalies are decided among the sensors of a type that
are due together. Sensors that were finished before a kill are not among them afterwards.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from time import monotonic
from typing import Annotated, NoReturn

import stamina
import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from contract.errors import RefusedError, UnavailableError
from contract.settings import Settings, load_settings
from ml.predict.fleet import outlooks
from ml.predict.forecast import POINTS, TOO_FEW
from ml.predict.forecast_rows import ANOMALY, BREACH, ForecastRow, forecast_row
from ml.predict.store import (
    clock,
    due_sensors,
    newest_readings,
    thresholds_of,
    write_forecast,
)
from runtime.shell import Stop, program
from sql.database import Database
from sql.schema import open_database
from sql.statements import ForecastSensor

_CHUNK = 500
"""Sensors of a type that are read and computed at once."""
_ATTEMPTS = 5
"""Attempts to reach an unavailable database with `--once`."""
_WAIT_S = 2.0
"""The longest pause between two attempts. A signal takes effect after it."""
_log = structlog.get_logger("batch")


@dataclass(slots=True)
class BatchSummary:
    """The counts of a run."""

    due: int = 0
    """Sensors with new readings."""
    predicted: int = 0
    few_readings: int = 0
    """Predicted sensors with few readings."""
    too_old: int = 0
    """Sensors without a forecast, because the time to forecast has passed."""
    breaches: int = 0
    """Forecasts beyond a threshold, whether reported before or not."""
    anomalies: int = 0
    """Sensors with an anomaly, whether reported before or not."""
    failed: int = 0
    """Sensors whose rows the database refused."""
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Sensors that were finished, whatever came of it."""
        return self.predicted + self.too_old + self.failed

    def add(self, other: "BatchSummary") -> None:
        """Add the counts of `other`."""
        for field in fields(self):
            total = getattr(self, field.name) + getattr(other, field.name)
            setattr(self, field.name, total)

    def __str__(self) -> str:
        return (
            f"{self.predicted} of {self.due} sensors predicted ({self.few_readings} from few "
            f"readings), {self.too_old} with readings too old for a forecast, {self.breaches} "
            f"beyond a threshold, {self.anomalies} with an anomaly, "
            f"{self.failed} failed, in {self.seconds:.1f} s"
        )


def run_once(  # noqa: PLR0917 - the hooks of a run
    database: Database,
    settings: Settings,
    dedupe_minutes: int,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] | None = None,
    now: Callable[[Database], int] = clock,
) -> BatchSummary:
    """Predict every sensor that has new readings, until `stopped` returns true.

    A sensor whose target has passed gets its model and its anomaly, but no forecast: readings of
    last week that arrive today say nothing about what is ahead.

    The current sensor is always finished. `progress` is called with the number of finished sensors
    and of all sensors.

    Raises:
        UnavailableError: the database became unavailable. What was written is kept.
        SetupError: see `Database`.
    """
    began, summary = monotonic(), BatchSummary()
    sensors = due_sensors(database)
    summary.due = len(sensors)
    for row in _rows(database, settings, dedupe_minutes, sensors, stopped, now):
        if stopped():
            break
        try:
            write_forecast(database, row)
        except RefusedError as error:
            summary.failed += 1
            _log.error("a forecast was refused", sensor_id=row.sensor_id, error=str(error))
        else:
            codes = [event.event_code for event in row.events]
            ahead = row.target is not None
            summary.predicted += ahead
            summary.too_old += not ahead
            summary.few_readings += ahead and row.engine_name == TOO_FEW
            summary.breaches += BREACH in codes
            summary.anomalies += ANOMALY in codes
        if progress is not None:
            progress(summary.done, summary.due)
    summary.seconds = monotonic() - began
    return summary


def _rows(  # noqa: PLR0917 - those of `run_once`
    database: Database,
    settings: Settings,
    dedupe: int,
    sensors: Sequence[ForecastSensor],
    stopped: Callable[[], bool],
    now: Callable[[Database], int],
) -> Iterator[ForecastRow]:
    for chunk in _chunks(sensors):
        if stopped():
            return
        ids = [sensor.id for sensor in chunk]
        thresholds, at = thresholds_of(database, ids), now(database)
        for outlook, model, newest_id in outlooks(chunk, newest_readings(database, ids, POINTS)):
            yield forecast_row(
                replace(outlook, past=outlook.target <= at),
                thresholds[outlook.sensor.id],
                model,
                language=settings.iot_lang,
                dedupe_minutes=dedupe,
                last_reading_id=newest_id,
            )


def _chunks(sensors: Sequence[ForecastSensor]) -> Iterator[Sequence[ForecastSensor]]:
    """Split the sensors, in order, into chunks of one type."""
    first = 0
    for place in range(1, len(sensors) + 1):
        ends = place == len(sensors) or sensors[place].type != sensors[first].type
        if ends or place - first == _CHUNK:
            yield sensors[first:place]
            first = place


class _Runner:
    """Runs, with a connection that is reopened after the database was unavailable."""

    def __init__(self, settings: Settings, dedupe_minutes: int, stop: Stop) -> None:
        self._settings = settings
        self._dedupe_minutes = dedupe_minutes
        self._stop = stop
        self._database: Database | None = None
        self._terminal = Console(stderr=True)

    def run(self, attempts: int | None) -> BatchSummary:
        """Run once.

        If the database becomes unavailable, the run retries and continues where it was: up to
        `attempts` times in a row, without limit if None.
        """
        total = BatchSummary()
        retries = stamina.retry_context(
            on=self._may_retry, attempts=attempts, timeout=None, wait_initial=0.5, wait_max=_WAIT_S
        )
        for attempt in retries:
            with attempt:
                try:
                    if self._database is None:
                        self._database = open_database(self._settings)
                    total.add(self._shown(self._database))
                except UnavailableError as error:
                    self.close()
                    text = "database unavailable, retrying"
                    _log.warning(text, error=str(error), attempt=attempt.num)
                    raise
        return total

    def _stopped(self) -> bool:
        return self._stop.asked

    def _may_retry(self, error: Exception) -> bool:
        return isinstance(error, UnavailableError) and not self._stop.asked

    def close(self) -> None:
        """Close the connection."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _shown(self, database: Database) -> BatchSummary:
        if not self._terminal.is_terminal:
            return run_once(database, self._settings, self._dedupe_minutes, self._stopped)
        columns = (
            TextColumn("predicting"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._terminal, transient=True) as progress:
            task = progress.add_task("", total=None)
            return run_once(
                database,
                self._settings,
                self._dedupe_minutes,
                self._stopped,
                lambda done, total: progress.update(task, completed=done, total=total),
            )


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@program("ml.batch")
def main(
    *,
    once: Annotated[bool, typer.Option("--once", help="Run once and exit.")] = False,
    interval_seconds: Annotated[
        int, typer.Option(min=1, max=86_400, help="Interval between the starts of two runs.")
    ] = 60,
    dedupe_minutes: Annotated[
        int, typer.Option(min=1, max=1440, help="How long an open event suppresses further ones.")
    ] = 10,
) -> None:
    """Predict every active sensor that has new readings, and report breaches and anomalies.

    Exit code 1: the database cannot be used, or refused the rows of a sensor (with --once). Exit
    code 130: stopped before all sensors were done (with --once). SIGTERM and Ctrl-C stop it after
    the current sensor, a second signal stops it immediately.
    """
    stop = Stop(again=_interrupt)
    runner = _Runner(load_settings(), dedupe_minutes, stop)
    try:
        while not stop.asked:
            began = monotonic()
            summary = runner.run(_ATTEMPTS if once else None)
            typer.echo(summary)
            if once:
                _end(summary, stopped=stop.asked)
                return
            stop.wait(max(0.0, interval_seconds - (monotonic() - began)))
    except UnavailableError:
        if not stop.asked or once:
            raise
    finally:
        runner.close()


def _end(summary: BatchSummary, *, stopped: bool) -> None:
    if summary.failed:
        raise typer.Exit(1)
    if stopped and summary.done < summary.due:
        raise typer.Exit(130)


def _interrupt(number: int) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    app(prog_name="python -m ml.batch")
