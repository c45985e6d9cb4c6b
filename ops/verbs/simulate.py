"""`iot simulate`: post from demo devices, or write a scenario for a dry run."""

import asyncio
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from contract.errors import SetupError
from contract.settings import load_settings
from ops.post import EdgeClient
from ops.scenarios import Name, make_scenario, write_scenario
from ops.simulate import DEVICES, register_demo, simulate
from ops.verbs import terminal
from ops.verbs.terminal import URL, Url, err
from sql.schema import open_database


def simulate_command(
    context: typer.Context,
    *,
    url: Url = URL,
    seconds: Annotated[
        float, typer.Option(min=0, help="How long devices post. 0: until Ctrl-C.")
    ] = 0,
    devices: Annotated[int, typer.Option(min=1, max=1000, help="Number of devices.")] = DEVICES,
    scenario: Annotated[
        Name | None, typer.Option(help="Write this scenario for dry-run instead of posting.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="NAME.jsonl. Also writes NAME.rules.json and NAME.expected.json."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the scenario. The same seed writes the same files.")
    ] = 0,
) -> None:
    """Register demo devices with thresholds, and post their readings to a running edge.

    With --scenario and --out, post nothing. Instead write records for `iot dry-run`, their rules,
    and the events that it must print with default settings.
    """
    given = {
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) and source.name != "DEFAULT"
    }
    if scenario:
        if wrong := sorted(given - {"scenario", "out", "seed"}):
            option = wrong[0].replace("_", "-")
            raise SetupError(f"--{option} cannot be used with --scenario, which posts nothing")
        if out is None:
            raise SetupError("--scenario needs --out NAME.jsonl")
        generated = make_scenario(scenario, seed)
        files = write_scenario(generated, out)
        print(f"{len(generated.posts)} records and heartbeats; expected events: {files.expected}")
        print(f"iot dry-run --input {quote(str(out))} --rules {quote(str(files.rules))}")
        return
    if wrong := sorted(given & {"out", "seed"}):
        raise SetupError(f"--{wrong[0]} requires --scenario")
    settings = load_settings()
    with open_database(settings) as database:
        registered = register_demo(database, devices)
    sent = 0

    async def run() -> None:
        def accepted(readings: int) -> None:
            nonlocal sent
            sent += readings
            status.update(f"{sent} readings accepted")

        async with EdgeClient(url, settings) as client:
            await client.wait_ready()
            await simulate(client, registered, seconds, accepted)

    with err.status("waiting for the edge") as status:
        asyncio.run(run())
    terminal.out.print(f"{sent} readings accepted")
