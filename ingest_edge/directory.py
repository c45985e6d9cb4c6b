"""Which sensors a device has: asked of the database once, then remembered for a while."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TypeVar

import structlog

from contract.errors import IotError, UnavailableError
from contract.settings import Settings
from ingest_edge.packets import Device, sensor_key
from sql.database import Database, open_database

_UNKNOWN_TTL_S = 2.0
"""How long "there is none" is believed; short, so that a new device is let in at once."""
_AWAY_S = 2.0
"""How long a database that failed is left in peace: nobody waits for its time-out meanwhile."""
_ENTRIES = 50_000
_V = TypeVar("_V")
_log = structlog.get_logger("directory")


class Directory:
    """Devices by uuid and by sensor, through one connection in a thread of its own.

    An answer is good for `SENSOR_MAP_TTL_SECONDS`, and, when the database is away, for as long as
    it stays away. Asked for a device again because a sensor was missing, it asks the database
    anew when its answer is older than 2 s.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="directory")
        self._database: Database | None = None
        self._away_until = 0.0
        self._devices: dict[str, tuple[float, Device | None]] = {}
        self._owners: dict[int, tuple[float, str | None]] = {}

    async def open(self) -> None:
        """Connect.

        Raises:
            IotError: by blame, see `open_database`.
        """
        await self._in_thread(self._connect)

    async def close(self) -> None:
        """Disconnect and end the thread."""
        await self._in_thread(self._disconnect)
        self._thread.shutdown()

    async def device(self, uuid: str, *, with_sensors: set[str] | None = None) -> Device | None:
        """The device, or None; asked again where it lacks one of `with_sensors`.

        Raises:
            UnavailableError: the database is away, and the answer is not known from before.
        """
        uuid = sensor_key(uuid)
        known = self._devices.get(uuid)
        lacking = known is not None and (
            known[1] is None or bool(with_sensors and not with_sensors <= known[1].sensors.keys())
        )
        return await self._answer(self._devices, uuid, lacking, self._ask_device)

    async def owner(self, sensor_id: int) -> str | None:
        """The uuid of the device that the active sensor belongs to, or None.

        Raises:
            UnavailableError: as with `device`.
        """
        known = self._owners.get(sensor_id)
        lacking = known is not None and known[1] is None
        return await self._answer(self._owners, sensor_id, lacking, self._ask_owner)

    async def _answer(
        self,
        answers: "dict[_K, tuple[float, _V | None]]",
        key: "_K",
        lacking: bool,
        ask: "Callable[[Database, _K], _V | None]",
    ) -> _V | None:
        ttl = _UNKNOWN_TTL_S if lacking else self._settings.sensor_map_ttl_seconds
        known = answers.get(key)
        if known is not None and monotonic() - known[0] < ttl:
            return known[1]
        try:
            if monotonic() < self._away_until:
                raise UnavailableError("the database is away")
            found = await self._in_thread(lambda: ask(self._connect(), key))
        except IotError as error:
            if monotonic() >= self._away_until:
                self._away_until = monotonic() + _AWAY_S
                _log.warning("database away, answering from memory", error=str(error))
                await self._in_thread(self._disconnect)
            if known is None:
                raise
            return known[1]
        if len(answers) >= _ENTRIES:
            answers.pop(next(iter(answers)))
        answers[key] = (monotonic(), found)
        return found

    async def _in_thread(self, call: Callable[[], _V]) -> _V:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _connect(self) -> Database:
        if self._database is None:
            self._database = open_database(self._settings)
        return self._database

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    @staticmethod
    def _ask_device(database: Database, uuid: str) -> Device | None:
        rows = database.query("sensors_of_device", uuid)
        if not rows:
            return None
        sensors = {sensor_key(row[1]): row[2] for row in rows if row[2] is not None}
        return Device(rows[0][0], uuid, sensors)

    @staticmethod
    def _ask_owner(database: Database, sensor_id: int) -> str | None:
        rows = database.query("device_of_sensor", sensor_id)
        return sensor_key(rows[0][0]) if rows else None


_K = TypeVar("_K", str, int)
