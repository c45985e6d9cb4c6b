"""From a reading that crosses a threshold, posted over HTTP, to its event's row.

Edge, broker, flow and SQLite run as processes on this machine, as in `iot demo`. Each sensor sends
a reading a second; now and then it leaves its range for three seconds. A pane of 1 Hz readings is
complete, and closes, when the next reading but one arrives, so that a second and the grace are in
every figure.
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
"""Each sensor leaves its range once in so many seconds, for so many, but not in the first few."""
_POLL_S = 0.01
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """What was seen, in milliseconds."""

    crossings: int
    p50_ms: float
    p99_ms: float
    bound_ms: float
    """A second, the grace, and half a second for everything else."""


def run(seconds: float, say: Callable[[str], None]) -> Result:
    """Let `SENSORS` sensors send for so long, and time the events of those that cross.

    Raises:
        SetupError: a process ended by itself.
        TimeoutError: an event did not come within 10 s.
    """
    with TemporaryDirectory(prefix="bench-latency-") as name, Children(Path(name)) as children:
        return asyncio.run(_run(seconds, Path(name), children, say))


async def _run(
    seconds: float, folder: Path, children: Children, say: Callable[[str], None]
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
            say(f"{SENSORS} sensors send a reading a second for {seconds:.0f} s")
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


async def _send(  # noqa: PLR0917 - who sends what, where to, and who is told
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
    """Looks for expected events, again and again."""

    def __init__(self, database: Database, children: Children) -> None:
        self._database = database
        self._children = children
        self._expected: dict[str, float] = {}
        self.took_s: list[float] = []

    def expect(self, sensor_id: int, ts: int, at: float) -> None:
        """The event of the pane that a reading of this time lies in."""
        end = ts // 1000 * 1000 + 1000
        self._expected[event_key(sensor_id, end, THRESHOLD.code)] = at

    async def look(self) -> None:
        """Note when each is there."""
        while True:
            self._children.check()
            for key, at in list(self._expected.items()):
                if self._rows(key):
                    self.took_s.append(time() - at)
                    del self._expected[key]
            await asyncio.sleep(_POLL_S)

    async def all_seen(self) -> None:
        """Return when all are there."""
        while self._expected:
            await asyncio.sleep(_POLL_S)

    def _rows(self, key: str) -> list[Any]:
        return self._database.query(statements.EVENT_BY_KEY, key, f"{key}~")
