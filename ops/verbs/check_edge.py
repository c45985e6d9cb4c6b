"""`iot check-edge`: post good and bad packets, and check the responses."""

from typing import Annotated

import typer
from rich.progress import track
from rich.table import Table
from rich.text import Text

from contract.errors import SetupError
from contract.settings import load_settings
from ops.check_edge import checks, edge_requires_key, run_checks
from ops.devices import register, sensor_spec
from ops.verbs.terminal import URL, err, out
from runtime.tls import client_context
from sql.schema import open_database


def check_edge_command(
    url: Annotated[str, typer.Argument(help="Address of the edge.")] = URL,
    device: Annotated[
        str, typer.Option(help="device_uuid to post as. Default: a test device.")
    ] = "",
    sensor: Annotated[str, typer.Option(help="sensor_uuid of that device.")] = "",
    device_key: Annotated[
        str, typer.Option(help="Key of that device. Default: INGEST_API_KEY.")
    ] = "",
) -> None:
    """Post a good packet and every kind of bad packet, and check the responses.

    Without --device and --sensor, the device "check-edge" is created in the configured database.
    """
    if bool(device) != bool(sensor):
        raise SetupError("give --device and --sensor together, or neither")
    settings = load_settings()
    url = url.rstrip("/")
    context = client_context(settings)
    keyed = edge_requires_key(url, context)
    if not device:
        with open_database(settings) as database:
            registered = register(database, "check-edge", [sensor_spec("check")])
        device, sensor = registered.uuid, registered.sensors["check"]
    keys = {}
    if device_key:
        keys["X-Device-Key"] = device_key
    elif settings.ingest_api_key:
        keys["X-API-Key"] = settings.ingest_api_key.get_secret_value()
    if keyed and not keys:
        raise SetupError("the edge requires a key: set INGEST_API_KEY, or give --device-key")
    table = Table("", "request", "expected", "status", "response", box=None)
    wrong = 0
    wanted = checks(device, sensor, keyed=keyed)
    for outcome in track(
        run_checks(url, keys, wanted, context), "checking", len(wanted),
        console=err, transient=True, disable=not err.is_terminal,
    ):  # fmt: skip
        wrong += not outcome.right
        table.add_row(
            "[green]OK[/]" if outcome.right else "[red]FAIL[/]",
            outcome.check.name,
            str(outcome.check.expected),
            str(outcome.status or "-"),
            Text(outcome.detail),
        )
    out.print(table)
    if wrong:
        raise SetupError(f"{wrong} of {len(wanted)} responses are wrong")
    out.print(f"all {len(wanted)} responses are correct")
