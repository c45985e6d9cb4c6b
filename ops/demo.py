"""The whole pipeline on this machine. Only Python must be installed."""

import asyncio
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from contract.errors import SetupError
from contract.settings import child_environment, load_settings
from dataflows.state import make_store
from ops.children import Children, with_stack
from ops.post import EdgeClient
from ops.simulate import register_demo, simulate
from runtime.http_service import bind
from sql.database import Database
from sql.schema import apply_schema, open_database
from sql.statements import COUNT_ROWS, LATEST_EVENTS, LatestEvent, RowCounts

_PORT = 8001
_START_S = 60.0
_DRAIN_S = 30.0
_COLOURS = {"critical": "red", "warning": "yellow", "notice": "green"}


@dataclass
class Figures:
    """What the demo has counted so far."""

    accepted: int = 0
    rows: RowCounts = RowCounts(0, 0, 0, 0)  # noqa: RUF009 - a tuple
    latest: list[LatestEvent] = field(default_factory=list)
    """Newest first."""

    def read(self, database: Database) -> None:
        """Update the figures from the database."""
        (self.rows,) = database.query(COUNT_ROWS)
        self.latest = database.query(LATEST_EVENTS)


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """How the demo ended, in readings and rows."""

    accepted: int
    stored: int
    events: int
    notifications: int
    dead_letters: int
    elapsed_s: float


def run_demo(seconds: float, folder: Path | None, console: Console) -> DemoSummary:
    """Run broker, edge and flow as processes and post from 20 devices for `seconds`.

    0 seconds means until Ctrl-C. Waits until everything is stored, then stops the processes.
    Database, logs and recovery store are in `folder`, which is kept, or in a temporary folder.

    Raises:
        SetupError: a process ended unexpectedly, or not everything was stored in time.
        KeyboardInterrupt: raised after the processes have ended.
    """
    with _folder(folder) as place, Children(place) as children:
        return asyncio.run(_run(seconds, place, children, console))


async def _run(seconds: float, place: Path, children: Children, console: Console) -> DemoSummary:
    start = monotonic()
    broker = children.start("broker", "ops.broker", env=child_environment({}))
    assert broker.process.stdout is not None
    address = broker.process.stdout.readline().strip()
    children.check()
    values = {
        "KAFKA_BOOTSTRAP_SERVERS": address,
        "DB_ENGINE": "sqlite",
        "IOT_SQLITE_PATH": str(place / "demo.db"),
    }
    settings = load_settings(**{name.lower(): value for name, value in values.items()})
    apply_schema(settings)
    with open_database(settings) as database:
        devices = register_demo(database)
        environment = child_environment(values | {"IOT_LANG": settings.iot_lang})
        with claim_port(_PORT) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            children.start("edge", "ingest_edge", env=environment, listener=listener)
        recovery = place / "recovery"
        make_store(recovery)
        options = ("-r", str(recovery), "-s", "2", "-b", "0")
        flow = children.start(
            "flow",
            "bytewax.run",
            "dataflows.readings:flow()",
            *options,
            env=with_stack(environment),
        )
        figures = Figures()

        def accepted(readings: int) -> None:
            figures.accepted += readings

        async with EdgeClient(url, settings) as client:
            await client.wait_ready(_START_S, children.check)  # the edge's own error says more
            console.print(
                f"edge: {url}, in-memory broker: {address}, database: {place / 'demo.db'}",
                highlight=False,
                soft_wrap=True,
            )
            work = asyncio.create_task(simulate(client, devices, seconds, accepted))
            with _display(console) as show:
                while not work.done():
                    await asyncio.wait([work], timeout=0.5)
                    children.check()
                    figures.read(database)
                    show(figures, monotonic() - start)
                await work
                await _until_stored(figures, database, children)
                show(figures, monotonic() - start)
        children.stop(flow)
        figures.read(database)
    return DemoSummary(
        accepted=figures.accepted,
        stored=figures.rows.readings,
        events=figures.rows.events,
        notifications=figures.rows.notifications,
        dead_letters=figures.rows.dead_letters,
        elapsed_s=round(monotonic() - start, 1),
    )


async def _until_stored(figures: Figures, database: Database, children: Children) -> None:
    end = monotonic() + _DRAIN_S
    while figures.rows.readings < figures.accepted:
        children.check()
        if monotonic() > end:
            missing = figures.accepted - figures.rows.readings
            raise SetupError(f"{missing} accepted readings were not stored within {_DRAIN_S:.0f} s")
        await asyncio.sleep(0.1)
        figures.read(database)


@contextmanager
def _folder(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            used = any(folder.iterdir())
        except OSError as error:
            raise SetupError(f"--dir: {folder} cannot be used: {error.strerror}") from error
        if used:
            raise SetupError(f"--dir: {folder} is not empty; give an empty or new folder")
        yield folder
        return
    temporary = Path(tempfile.mkdtemp(prefix="iot-demo-"))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def claim_port(usual: int) -> socket.socket:
    """Return a listening socket for `Children.start`, on port `usual` or, if it is taken, on a free
    port.
    """
    for port in (usual, 0):
        try:
            listener = bind("127.0.0.1", port)
            listener.listen()  # two programs may bind a port, but only one may listen on it
        except (OSError, SetupError):
            continue
        return listener
    raise SetupError("no port of 127.0.0.1 is free: stop a program that listens there")


class _display:  # noqa: N801 - reads as a function where it is used
    """A live table on a terminal, otherwise a line every five seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._said = 0.0

    def __enter__(self) -> "_display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, figures: Figures, elapsed_s: float) -> None:
        if self._live:
            self._live.update(_table(figures, elapsed_s))
        elif elapsed_s - self._said >= 5:
            self._said = elapsed_s
            self._console.print(
                f"{elapsed_s:5.0f} s  accepted {figures.accepted}  stored {figures.rows.readings}  "
                f"lag {figures.accepted - figures.rows.readings}  events {figures.rows.events}"
            )


def _table(figures: Figures, elapsed_s: float) -> Group:
    table = Table(box=None, padding=(0, 3, 0, 0))
    for name in ("seconds", "accepted", "stored", "lag", "events", "notifications"):
        table.add_column(name, justify="right")
    lag = max(0, figures.accepted - figures.rows.readings)
    row = (
        f"{elapsed_s:.0f}",
        figures.accepted,
        figures.rows.readings,
        lag,
        figures.rows.events,
        figures.rows.notifications,
    )
    table.add_row(*map(str, row))
    lines = [
        Text(f"{str(event.created_at)[11:19]}  {event.message}", _COLOURS[event.event_type])
        for event in figures.latest
    ]
    return Group(table, Text(), *(lines or [Text("no events yet", "dim")]))
