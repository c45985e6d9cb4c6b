"""`iot devices`: devices, their sensors and their keys."""

from dataclasses import replace
from json import dumps
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from contract.errors import SetupError
from contract.packet import MAX_VALUE
from contract.settings import load_settings
from ops.devices import SensorSpec, list_devices, new_key, register, revoke_keys, sensor_spec
from ops.verbs.terminal import URL, Url, checked_name, err, out
from sql.schema import open_database


def devices_add(
    name: Annotated[str, typer.Argument(help="Name of the device.")],
    sensor: Annotated[
        list[str], typer.Option(help="NAME, NAME:TYPE or NAME:TYPE:UNIT. Repeat for each sensor.")
    ],
    warning: Annotated[
        list[str], typer.Option(help="NAME:MIN:MAX. Outside this range the sensor is at WARN.")
    ] = [],  # noqa: B006 - typer copies it
    critical: Annotated[
        list[str], typer.Option(help="NAME:MIN:MAX. Outside this range the sensor is at CRITICAL.")
    ] = [],  # noqa: B006 - typer copies it
    url: Url = URL,
) -> None:
    """Register a device and its sensors.

    Devices, sensors and thresholds that already exist are kept.
    """
    checked_name(name)
    specs = {}
    for text in sensor:
        parts = text.split(":")
        if not 0 < len(parts[0]) <= 255 or len(parts) > 3:
            raise SetupError(f"--sensor {text}: give NAME, NAME:TYPE or NAME:TYPE:UNIT")
        specs[parts[0]] = sensor_spec(*parts)
    for severity, ranges in (("warning", warning), ("critical", critical)):
        for text in ranges:
            _add_range(specs, severity, text)
    settings = load_settings()
    with open_database(settings) as database:
        device = register(database, name, list(specs.values()))
    readings = [{"sensor_uuid": uuid, "value": 20.5} for uuid in device.sensors.values()]
    body = dumps({"device_uuid": device.uuid, "readings": readings})
    print(f"device {name} is {device.uuid}. Post a reading:")
    print(f"curl -X POST {url}/ingest/packets -H 'Content-Type: application/json' -d '{body}'")
    if any(spec.ranges for spec in specs.values()):
        err.print(
            "a running flow applies new thresholds within "
            f"{settings.rules_refresh_seconds:g} s, and to the readings of the minute before",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip


def _add_range(specs: dict[str, SensorSpec], severity: str, text: str) -> None:
    name, _, bounds = text.partition(":")
    low, _, high = bounds.partition(":")
    if name not in specs:
        raise SetupError(f"--{severity} {text}: there is no --sensor {name}")
    try:
        span = float(low), float(high)
    except ValueError as error:
        raise SetupError(f"--{severity} {text}: give NAME:MIN:MAX, with numbers") from error
    if not -MAX_VALUE < span[0] < span[1] < MAX_VALUE:
        raise SetupError(f"--{severity} {text}: MIN must be below MAX, and both within 1e10")
    specs[name] = replace(specs[name], ranges={**specs[name].ranges, severity: span})


def devices_new_key(
    name: Annotated[str, typer.Argument(help="Name of the device.")],
    label: Annotated[str, typer.Option(help="What the key is for, up to 100 characters.")] = "",
) -> None:
    """Create a key that lets only this device post.

    The key is shown once.
    """
    if len(label) > 100:
        raise SetupError("--label: give up to 100 characters")
    with open_database(load_settings()) as database:
        device, key = new_key(database, name, label)
    err.print(f"key of {name} ({device.uuid}), shown only once:", markup=False, highlight=False)
    print(key)
    err.print("send it as the header X-Device-Key", highlight=False)


def devices_revoke_keys(name: Annotated[str, typer.Argument(help="Name of the device.")]) -> None:
    """Revoke all keys of a device.

    Edges stop accepting them within SENSOR_MAP_TTL_SECONDS.
    """
    settings = load_settings()
    with open_database(settings) as database:
        revoke_keys(database, name)
    out.print(
        f"all keys of {name} are revoked; edges with this setting stop accepting them within "
        f"{settings.sensor_map_ttl_seconds:g} s",
        markup=False, highlight=False,
    )  # fmt: skip


def devices_list() -> None:
    """List all devices and their active sensors."""
    with open_database(load_settings()) as database:
        table = Table("device, sensors", "uuid", box=None)
        for device in list_devices(database):
            table.add_row(Text(device.name), device.uuid, style="bold")
            for name, uuid in device.sensors.items():
                table.add_row(Text(f"  {name}"), uuid)
    out.print(table)
