"""Which sensors a device has: asked of the database once, then remembered for a while."""

from collections.abc import Collection
from json import dumps
from time import monotonic

from contract.errors import IotError
from ingest_edge.lookups import Lookups
from ingest_edge.metrics import LOOKUPS
from ingest_edge.packets import Device
from sql.database import Database
from sql.statements import DEVICES_OF_SENSORS, SENSORS_OF_DEVICE

UNKNOWN_TTL_S = 2.0
"""How long "there is none" is believed; short, so that a new device is let in at once."""
_DEVICES = 50_000
_SENSORS = 500_000
_UNKNOWN = 50_000


class Directory:
    """Devices by uuid and by sensor.

    An answer is good for `ttl_s` seconds, and, when the database is away, for as long as it stays
    away. What is not there is remembered for 2 s, in a place of its own, so that nonsense pushes
    nothing real out. Memory is bounded: 50 000 devices, 500 000 sensors by id.
    """

    def __init__(self, lookups: Lookups, ttl_s: float) -> None:
        self._lookups = lookups
        self._ttl_s = ttl_s
        self._devices: dict[str, tuple[float, Device]] = {}
        self._owners: dict[int, tuple[float, str]] = {}
        self._unknown: dict[str | int, float] = {}

    def fresh(self, uuid: str) -> Device | None:
        """The device, if that is known without asking. `uuid` is in its canonical form."""
        known = self._devices.get(uuid)
        return known[1] if known and monotonic() < known[0] + self._ttl_s else None

    async def device(self, uuid: str, lacking: Collection[str] = ()) -> Device | None:
        """The device, or None; one query, and none if it is known and fresh.

        `lacking` are sensors that the caller misses: then an answer is good for 2 s only.

        Raises:
            UnavailableError: the database is away, and the answer is not known from before.
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
            found = await self._lookups.ask(uuid, lambda database: _ask_device(database, uuid))
        except IotError:
            if known is None or not self._unknown.keys() >= set(lacking):
                raise
            LOOKUPS.stale.inc()
            return known[1]
        LOOKUPS.miss.inc()
        self._devices.pop(uuid, None)
        if found is None:
            self._remember_unknown(uuid, asked_at)
        else:
            _bound(self._devices, _DEVICES)
            self._devices[uuid] = (asked_at, found)
            self._remember_lacking(self._devices[uuid], lacking)
        return found

    async def owners(self, sensor_ids: Collection[int]) -> dict[int, str]:
        """For each active sensor among `sensor_ids`, the uuid of its device; one query at most.

        Raises:
            UnavailableError: as with `device`.
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
                found = await self._lookups.ask(
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
                    if number in found:
                        _bound(self._owners, _SENSORS)
                        self._owners[number] = (now, found[number])
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
        self._unknown.pop(key, None)
        _bound(self._unknown, _UNKNOWN)
        self._unknown[key] = at


def _bound(
    entries: dict[str, tuple[float, Device]]
    | dict[int, tuple[float, str]]
    | dict[str | int, float],
    most: int,
) -> None:
    """Make room for one more: the entry that was asked for longest ago goes."""
    if len(entries) >= most:
        del entries[next(iter(entries))]  # type: ignore[arg-type]


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
