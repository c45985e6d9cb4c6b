"""Create, find and list devices and sensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_hex
from uuid import NAMESPACE_URL, uuid5

from contract.errors import SetupError
from sql.database import Database
from sql.statements import LIST_DEVICES

_TYPES = {"temperature", "humidity", "air_quality", "voltage", "power", "pressure"}
_NAMESPACE = uuid5(NAMESPACE_URL, "iot-pipeline")


@dataclass(frozen=True, slots=True)
class SensorSpec:
    """A sensor to create, with the ranges outside which it is at WARN or CRITICAL."""

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
    """A sensor without ranges. A missing type is taken from the name. A missing unit stays
    unknown: what a device measures in is for its owner to say.
    """
    kind = kind or (name.lower() if name.lower() in _TYPES else "other")
    return SensorSpec(name, kind, unit)


def register(database: Database, name: str, sensors: Sequence[SensorSpec]) -> RegisteredDevice:
    """Return the device `name` with `sensors`. What is missing is created, the rest is kept.

    New uuids are derived from the names, so the same names give the same device everywhere.

    Raises:
        SetupError: several devices have that name, or the device or a sensor cannot be used.
    """
    existing = find(database, name)
    uuid = existing.uuid if existing else str(uuid5(_NAMESPACE, name))
    if not existing:
        database.execute("add_device", uuid, name, "gateway")
    for sensor in sensors:
        sensor_uuid = existing and existing.sensors.get(sensor.name)
        if not sensor_uuid:
            sensor_uuid = str(uuid5(_NAMESPACE, f"{uuid}/{sensor.name}"))
            database.execute("add_sensor", uuid, sensor_uuid, sensor.type, sensor.name, sensor.unit)
        for severity, (low, high) in sensor.ranges.items():
            title = f"{sensor.name} {severity}"
            database.execute("add_threshold", sensor_uuid, title, severity, low, high)
    registered = find(database, name)
    missing = [
        sensor.name for sensor in sensors if not registered or sensor.name not in registered.sensors
    ]
    if registered is None or missing:
        raise SetupError(
            f"device {name}: {', '.join(missing) or 'the device'} is inactive, or its name has "
            "characters that the database cannot store: activate it, or use another name"
        )
    return registered


def find(database: Database, name: str) -> RegisteredDevice | None:
    """Find the device `name`. None if there is none.

    Raises:
        SetupError: several devices have that name.
    """
    devices = [device for device in list_devices(database, name) if device.name == name]
    if len(devices) > 1:
        raise SetupError(f"{len(devices)} devices are named {name}: rename all but one of them")
    return devices[0] if devices else None


def new_key(database: Database, name: str, label: str) -> tuple[RegisteredDevice, str]:
    """Create a key for the device `name`. Only its SHA-256 is stored.

    Raises:
        SetupError: no device has that name, or several do.
    """
    device = _existing(database, name)
    key = token_hex(32)
    digest = sha256(key.encode()).hexdigest()
    database.execute("add_device_key", device.uuid, digest, label or None)
    return device, key


def revoke_keys(database: Database, name: str) -> None:
    """Revoke all keys of the device `name`.

    Raises:
        SetupError: no device has that name, or several do.
    """
    database.execute("revoke_device_keys", _existing(database, name).uuid)


def _existing(database: Database, name: str) -> RegisteredDevice:
    device = find(database, name)
    if device is None:
        raise SetupError(f"no device is named {name}: `iot devices list` shows all devices")
    return device


def list_devices(database: Database, name: str | None = None) -> list[RegisteredDevice]:
    """All devices, or those named `name`."""
    names: dict[str, str] = {}
    sensors: dict[str, dict[str, str]] = {}
    for row in database.query(LIST_DEVICES, name):
        uuid = str(row.device_uuid).lower()
        names[uuid] = row.device
        if row.sensor is not None:
            sensors.setdefault(uuid, {})[row.sensor] = str(row.sensor_uuid).lower()
    return [RegisteredDevice(uuid, names[uuid], sensors.get(uuid, {})) for uuid in names]
