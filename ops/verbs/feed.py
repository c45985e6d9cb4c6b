"""`iot feed`: post a CSV file to the edge."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from contract.settings import load_settings
from ops.devices import register, sensor_spec
from ops.feed import feed, read_csv
from ops.post import EdgeClient
from ops.verbs.terminal import URL, Url, checked_name, err
from sql.schema import open_database


def feed_command(
    file: Annotated[
        Path, typer.Argument(help="CSV file: a time column, then one column for each sensor.")
    ],
    device: Annotated[
        str, typer.Option(help="Name of the device. It is created if it is missing.")
    ],
    speed: Annotated[
        float, typer.Option(min=0, help="Multiple of real time. 0: as fast as the edge accepts it.")
    ] = 1,
    url: Url = URL,
) -> None:
    """Post a CSV file to the edge, with the times in the file."""
    settings = load_settings()
    checked_name(device)
    series = read_csv(file)
    with open_database(settings) as database:
        registered = register(database, device, [sensor_spec(name) for name in series.sensors])
    columns = (
        TextColumn(device, markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as progress:
        task = progress.add_task("", total=series.readings)

        async def run() -> None:
            async with EdgeClient(url, settings) as client:
                await client.wait_ready()
                await feed(client, series, registered, speed, lambda n: progress.advance(task, n))

        asyncio.run(run())
    print(
        f"{len(series.ts)} rows of {len(series.sensors)} sensors: "
        f"{series.readings} readings accepted for {device} ({registered.uuid})"
    )
