"""Latency from a reading that crosses a threshold, posted over HTTP, to its event's row.

Edge, broker, flow and SQLite run as processes on this machine, as in `iot demo`. Each sensor sends
one reading per second; from time to time it leaves its range for three seconds. A pane of 1 Hz
readings closes when the next reading but one arrives, so every figure includes one second and the
grace period.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time
from typing import Any

from contract.event import event_key
from contract.settings import Settings, child_environment, load_settings
from dataflows.state.stores import make_store
from ops.children import Children
from ops.demo import claim_port
from ops.devices import RegisteredDevice, SensorSpec, register
from ops.post import EdgeClient, iso
from rules.threshold import THRESHOLD
from sql import statements
from sql.database import Database
from sql.schema import apply_schema, open_database

SENSORS = 60
_SPEC = SensorSpec("sensor", "temperature", "°C", {"warning": (0.0, 50.0)})
_PERIOD_S, _BEYOND_S, _QUIET_S = 13, 3, 7
"""Each sensor leaves its range once per period, for `_BEYOND_S`, but not before `_QUIET_S`."""
_POLL_S = 0.01
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """The measured latencies, in milliseconds."""

    crossings: int
    p50_ms: float
    p99_ms: float
    bound_ms: float
    """The target: one second, the grace period, and half a second for everything else."""


def run(seconds: float, progress: Callable[[str], None]) -> Result:
    """Let `SENSORS` sensors send for `seconds`, and time the event of each crossing.

    Raises:
        SetupError: a process ended unexpectedly.
        TimeoutError: an event was not stored within 10 s.
    """
    with TemporaryDirectory(prefix="bench-latency-") as name, Children(Path(name)) as children:
        return asyncio.run(_run(seconds, Path(name), children, progress))


async def _run(
    seconds: float, folder: Path, children: Children, progress: Callable[[str], None]
) -> Result:
    broker = children.start("broker", "ops.broker", env=child_environment({}))
    assert broker.process.stdout is not None
    values = {
        "KAFKA_BOOTSTRAP_SERVERS": broker.process.stdout.readline().strip(),
        "DB_ENGINE": "sqlite",
        "IOT_SQLITE_PATH": str(folder / "bench.db"),
    }
    settings = load_settings(**{name.lower(): value for name, value in values.items()})
    apply_schema(settings)
    with open_database(settings) as database:
        devices = [register(database, f"device {index}", [_SPEC]) for index in range(SENSORS)]
        environment = child_environment(values)
        with claim_port(0) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            children.start("edge", "ingest_edge", env=environment, listener=listener)
        recovery = folder / "recovery"
        make_store(recovery)
        options = ("-r", str(recovery), "-s", "10", "-b", "0")
        children.start(
            "flow", "bytewax.run", "dataflows.readings:flow()", *options, env=environment
        )
        watch = _Watch(database, children)
        async with EdgeClient(url, settings) as client:
            await client.wait_ready()
            progress(f"{SENSORS} sensors send one reading per second for {seconds:.0f} s")
            start = time() + 1
            senders = [
                asyncio.create_task(_send(client, index, device, start, seconds, watch))
                for index, device in enumerate(devices)
            ]
            looks = asyncio.create_task(watch.look())
            await asyncio.gather(*senders)
            await asyncio.wait_for(watch.all_seen(), _PATIENCE_S)
            looks.cancel()
    return _result(sorted(watch.took_s), settings)


def _result(took_s: list[float], settings: Settings) -> Result:
    def at(share: float) -> float:
        return round(1000 * took_s[min(len(took_s) - 1, int(share * len(took_s)))], 1)

    return Result(len(took_s), at(0.5), at(0.99), 1000 + settings.grace_ms + 500)


async def _send(  # noqa: PLR0917 - the sender, its readings, its target, and the watch
    client: EdgeClient,
    index: int,
    device: RegisteredDevice,
    start: float,
    seconds: float,
    watch: "_Watch",
) -> None:
    phase = random.Random(index)
    offset, first = phase.random(), _QUIET_S + phase.randrange(_PERIOD_S)
    for turn in range(int(seconds)):
        at = start + turn + offset
        await asyncio.sleep(at - time())
        since = turn - first
        beyond = since >= 0 and since % _PERIOD_S < _BEYOND_S
        if beyond and since % _PERIOD_S == 0 and turn + _BEYOND_S < seconds:
            watch.expect(index + 1, int(at * 1000), at)
        reading = {
            "sensor_uuid": device.sensors[_SPEC.name],
            "value": 60.0 if beyond else 20.0,
            "ts": iso(int(at * 1000)),
        }
        await client.post({"device_uuid": device.uuid, "readings": [reading]})


class _Watch:
    """Polls for expected events."""

    def __init__(self, database: Database, children: Children) -> None:
        self._database = database
        self._children = children
        self._expected: dict[str, float] = {}
        self.took_s: list[float] = []

    def expect(self, sensor_id: int, ts: int, at: float) -> None:
        """Expect the event of the pane that contains a reading of this time."""
        end = ts // 1000 * 1000 + 1000
        self._expected[event_key(sensor_id, end, THRESHOLD.code)] = at

    async def look(self) -> None:
        """Record when each event appears."""
        while True:
            self._children.check()
            for key, at in list(self._expected.items()):
                if self._rows(key):
                    self.took_s.append(time() - at)
                    del self._expected[key]
            await asyncio.sleep(_POLL_S)

    async def all_seen(self) -> None:
        """Wait until all events have appeared."""
        while self._expected:
            await asyncio.sleep(_POLL_S)

    def _rows(self, key: str) -> list[Any]:
        return self._database.query(statements.EVENT_BY_KEY, key, f"{key}~")
