"""A cache of the sensors of each device, filled from the database."""

from collections.abc import Collection
from json import dumps
from time import monotonic

from cachetools import FIFOCache

from contract.errors import IotError
from ingest_edge.lookups import Lookups
from ingest_edge.metrics import LOOKUPS
from ingest_edge.packets import Device
from sql.database import Database
from sql.statements import DEVICES_OF_SENSORS, SENSORS_OF_DEVICE

UNKNOWN_TTL_S = 2.0
"""How long an unknown id is cached; short, so that a new device is accepted soon."""
_DEVICES = 50_000
_SENSORS = 500_000
_UNKNOWN = 50_000


class Directory:
    """Devices by uuid and by sensor.

    An entry is valid for `ttl_s` seconds, and while the database is unavailable for as long as the
    outage lasts. Unknown ids are cached for 2 s in a separate map, so that they never evict real
    entries. Memory is bounded: 50 000 devices, 500 000 sensors by id.
    """

    def __init__(self, lookups: Lookups, ttl_s: float) -> None:
        self._lookups = lookups
        self._ttl_s = ttl_s
        # with the times at which they were read: entries outlive `ttl_s` while the database is away
        self._devices: FIFOCache[str, tuple[float, Device]] = FIFOCache(_DEVICES)
        self._owners: FIFOCache[int, tuple[float, str]] = FIFOCache(_SENSORS)
        self._unknown: FIFOCache[str | int, float] = FIFOCache(_UNKNOWN)

    def fresh(self, uuid: str) -> Device | None:
        """The device, if it is cached and fresh. `uuid` is in its canonical form."""
        known = self._devices.get(uuid)
        return known[1] if known and monotonic() < known[0] + self._ttl_s else None

    async def device(self, uuid: str, lacking: Collection[str] = ()) -> Device | None:
        """The device, or None if there is no such device. Takes one query, or none if the device is
        cached and fresh.

        `lacking` are sensors that the caller did not find: a cached device is then valid for 2 s
        only.

        Raises:
            UnavailableError: the database is unavailable, and the device is not cached.
        """
        known = self._devices.get(uuid)
        ttl = min(self._ttl_s, UNKNOWN_TTL_S) if lacking else self._ttl_s
        if known is not None and monotonic() < known[0] + ttl:
            LOOKUPS.hit.inc()
            self._remember_lacking(known, lacking)
            return known[1]
        if known is None and self._is_unknown(uuid):
            return None
        asked_at = monotonic()
        try:
            device = await self._lookups.ask(uuid, lambda database: _ask_device(database, uuid))
        except IotError:
            if known is None or not self._unknown.keys() >= set(lacking):
                raise
            LOOKUPS.stale.inc()
            return known[1]
        LOOKUPS.miss.inc()
        self._devices.pop(uuid, None)
        if device is None:
            self._remember_unknown(uuid, asked_at)
        else:
            self._devices[uuid] = (asked_at, device)
            self._remember_lacking(self._devices[uuid], lacking)
        return device

    async def owners(self, sensor_ids: Collection[int]) -> dict[int, str]:
        """The uuid of the device of each active sensor among `sensor_ids`. Takes at most one query.

        Raises:
            UnavailableError: the database is unavailable, and a sensor is not cached.
        """
        now = monotonic()
        wanted = set(sensor_ids)
        missing = sorted(
            number
            for number in wanted
            if not (number in self._owners and now < self._owners[number][0] + self._ttl_s)
            and not self._is_unknown(number)
        )
        if missing:
            try:
                owners = await self._lookups.ask(
                    tuple(missing), lambda database: _ask_owners(database, missing)
                )
            except IotError:
                if any(number not in self._owners for number in missing):
                    raise
                LOOKUPS.stale.inc()
            else:
                LOOKUPS.miss.inc()
                for number in missing:
                    self._owners.pop(number, None)
                    if number in owners:
                        self._owners[number] = (now, owners[number])
                    else:
                        self._remember_unknown(number, now)
        else:
            LOOKUPS.hit.inc()
        return {number: self._owners[number][1] for number in wanted if number in self._owners}

    def _is_unknown(self, key: str | int) -> bool:
        at = self._unknown.get(key)
        if at is None or at + UNKNOWN_TTL_S <= monotonic():
            return False
        LOOKUPS.unknown.inc()
        return True

    def _remember_lacking(self, known: tuple[float, Device], lacking: Collection[str]) -> None:
        for sensor in lacking:
            if sensor not in known[1].sensors:
                self._remember_unknown(sensor, known[0])

    def _remember_unknown(self, key: str | int, at: float) -> None:
        self._unknown[key] = at


def _ask_device(database: Database, uuid: str) -> Device | None:
    rows = database.query(SENSORS_OF_DEVICE, uuid)
    if not rows:
        return None
    sensors = {
        str(row.sensor_uuid).lower(): row.sensor_id for row in rows if row.sensor_id is not None
    }
    return Device(next(row.device_id for row in rows), uuid, sensors)


def _ask_owners(database: Database, sensor_ids: list[int]) -> dict[int, str]:
    rows = database.query(DEVICES_OF_SENSORS, dumps(sensor_ids))
    return {row.sensor_id: str(row.device_uuid).lower() for row in rows}
