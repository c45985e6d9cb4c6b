"""Devices and sensors as `iot` makes and finds them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_hex
from uuid import NAMESPACE_URL, uuid5

from contract.errors import SetupError
from sql.database import Database
from sql.statements import LIST_DEVICES

_UNITS = {
    "temperature": "°C",
    "humidity": "%",
    "air_quality": "ppm",
    "voltage": "V",
    "power": "W",
    "pressure": "hPa",
}
_NAMESPACE = uuid5(NAMESPACE_URL, "iot-pipeline")


@dataclass(frozen=True, slots=True)
class SensorSpec:
    """A sensor to be made, with the ranges outside which it is at WARN or CRITICAL."""

    name: str
    type: str
    unit: str
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """severity (`warning`, `critical`) -> (min, max)."""


@dataclass(frozen=True, slots=True)
class RegisteredDevice:
    """A device that exists, and its active sensors by name."""

    uuid: str
    name: str
    sensors: Mapping[str, str]
    """name -> sensor_uuid."""


def sensor_spec(name: str, kind: str = "", unit: str = "") -> SensorSpec:
    """A sensor without ranges; type and unit are guessed from the name where they are not given."""
    kind = kind or (name.lower() if name.lower() in _UNITS else "other")
    return SensorSpec(name, kind, unit or _UNITS.get(kind, ""))


def register(database: Database, name: str, sensors: Sequence[SensorSpec]) -> RegisteredDevice:
    """The device of that name with those sensors; what is missing is made, the rest stays.

    New uuids follow from the names, so the same names give the same device everywhere.

    Raises:
        SetupError: several devices have that name.
    """
    found = find(database, name)
    uuid = found.uuid if found else str(uuid5(_NAMESPACE, name))
    if not found:
        database.execute("add_device", uuid, name, "gateway")
    for sensor in sensors:
        sensor_uuid = found and found.sensors.get(sensor.name)
        if not sensor_uuid:
            sensor_uuid = str(uuid5(_NAMESPACE, f"{uuid}/{sensor.name}"))
            database.execute("add_sensor", uuid, sensor_uuid, sensor.type, sensor.name, sensor.unit)
        for severity, (low, high) in sensor.ranges.items():
            title = f"{sensor.name} {severity}"
            database.execute("add_threshold", sensor_uuid, title, severity, low, high)
    made = find(database, name)
    missing = [one.name for one in sensors if not made or one.name not in made.sensors]
    if made is None or missing:
        raise SetupError(
            f"device {name}: {', '.join(missing) or 'its name'} is set inactive, or has characters "
            "that the database's varchar columns do not keep"
        )
    return made


def find(database: Database, name: str) -> RegisteredDevice | None:
    """The device of that name.

    Raises:
        SetupError: several devices have that name.
    """
    found = [one for one in list_devices(database, name) if one.name == name]
    if len(found) > 1:
        raise SetupError(f"{len(found)} devices are named {name}: rename all but one of them")
    return found[0] if found else None


def new_key(database: Database, name: str, label: str) -> tuple[RegisteredDevice, str]:
    """A new key of the device of that name. Only its SHA-256 is kept.

    Raises:
        SetupError: no device has that name, or several have.
    """
    device = _existing(database, name)
    key = token_hex(32)
    digest = sha256(key.encode()).hexdigest()
    database.execute("add_device_key", device.uuid, digest, label or None)
    return device, key


def revoke_keys(database: Database, name: str) -> None:
    """Revoke all keys of the device of that name.

    Raises:
        SetupError: no device has that name, or several have.
    """
    database.execute("revoke_device_keys", _existing(database, name).uuid)


def _existing(database: Database, name: str) -> RegisteredDevice:
    device = find(database, name)
    if device is None:
        raise SetupError(f"no device is named {name}: `iot devices list` shows those there are")
    return device


def list_devices(database: Database, name: str | None = None) -> list[RegisteredDevice]:
    """All devices, or those of that name."""
    names: dict[str, str] = {}
    sensors: dict[str, dict[str, str]] = {}
    for row in database.query(LIST_DEVICES, name):
        uuid = str(row.device_uuid).lower()
        names[uuid] = row.device
        if row.sensor is not None:
            sensors.setdefault(uuid, {})[row.sensor] = str(row.sensor_uuid).lower()
    return [RegisteredDevice(uuid, names[uuid], sensors.get(uuid, {})) for uuid in names]
