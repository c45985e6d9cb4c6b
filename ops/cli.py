"""`iot`: what an operator, a data engineer or a newcomer types."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import wraps
from json import dumps
from pathlib import Path
from shlex import quote
from signal import SIGINT, SIGTERM, default_int_handler, signal
from sys import stdout
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    track,
)
from rich.progress import open as rich_open
from rich.table import Table
from rich.text import Text

from contract.errors import IotError, SetupError
from contract.packet import MAX_VALUE
from contract.settings import load_settings
from ops.check_edge import checks, edge_wants_key, run_checks
from ops.demo import run_demo
from ops.devices import (
    SensorSpec,
    list_devices,
    new_key,
    register,
    revoke_keys,
    sensor_spec,
)
from ops.doctor.examine import examine
from ops.doctor.finding import State
from ops.dry_run import DryRun, read_records, read_rules
from ops.explain.explanation import as_json, explain
from ops.explain.tables import tables
from ops.feed import feed, read_csv
from ops.post import EdgeClient
from ops.replay.plan import DRY_RUN
from ops.replay.run import CutOffError, Request, replay
from ops.replay.tables import as_json as replay_json
from ops.replay.tables import tables as replay_tables
from ops.run import METRICS_PORT, FleetPlan, run
from ops.scenarios import Name, make_scenario, write_scenario
from ops.simulate import DEVICES, register_demo, simulate
from ops.status import ask
from ops.status_tables import status_tables
from ops.tail import reading_text, tail_readings
from rules.tables import rule_tables
from runtime.log import configure_log
from runtime.private import keep_private
from runtime.tls import client_context
from sql.schema import open_database

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="IoT readings from HTTP through Kafka and Bytewax to the database.",
)
devices_app = typer.Typer(no_args_is_help=True, help="Devices and their sensors.")
app.add_typer(devices_app, name="devices")
tail_app = typer.Typer(no_args_is_help=True, help="What is on the topic, as it comes.")
app.add_typer(tail_app, name="tail")

_out = Console(emoji=False)
_err = Console(stderr=True, emoji=False)
_Url = Annotated[str, typer.Option(help="Address of the edge.")]
_URL = "http://127.0.0.1:8001"


def _told(command: Callable[..., None]) -> Callable[..., None]:
    """Errors of ours end in one line and exit code 1, Ctrl-C and SIGTERM in 130: no traceback."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        configure_log()
        for number in (SIGINT, SIGTERM):  # a shell's background job starts with SIGINT ignored
            signal(number, default_int_handler)
        try:
            command(*arguments, **options)
        except IotError as error:
            _err.print(f"iot: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            _err.print("iot: stopped")
            raise typer.Exit(130) from error

    return run


@app.command()
@_told
def demo(
    seconds: Annotated[
        float, typer.Option(min=0, help="How long devices post; 0: until Ctrl-C.")
    ] = 30,
    json: Annotated[bool, typer.Option("--json", help="End with the summary as JSON.")] = False,
    dir: Annotated[  # noqa: A002 - the option's name
        Path | None, typer.Option(help="Keep database, logs and recovery store in this folder.")
    ] = None,
) -> None:
    """Run the whole pipeline here: in-memory broker, edge, flow, SQLite and 20 devices."""
    summary = run_demo(seconds, dir, _err)
    if json:
        print(dumps(asdict(summary)))
        return
    table = Table(title="summary", show_header=False)
    for name, value in asdict(summary).items():
        table.add_row(name.replace("_", " "), str(value))
    _out.print(table)


@app.command("run")
@_told
def run_command(
    recovery: Annotated[
        Path, typer.Option(help="Recovery root: a directory for each process is made in it.")
    ] = Path("recovery"),
    processes: Annotated[
        int, typer.Option(min=1, max=1000, help="How many, each with its share of partitions.")
    ] = 1,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="One Bytewax cluster of them, around one store.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65000,
            help="Of the first process; the next has the next. Default: METRICS_PORT, else 9101.",
        ),
    ] = None,
    snapshot_seconds: Annotated[
        int, typer.Option(min=1, max=3600, help="From one snapshot to the next.")
    ] = 10,
) -> None:
    """Run the flow, and keep it running.

    A process that dies is started again, and goes on from its last snapshot. With another number
    of --processes than before, the state of each partition moves to who takes it now. Ctrl-C and
    SIGTERM end all of them after the batch in hand, with a snapshot; a second one at once.
    """
    settings = load_settings()
    port = metrics_port or settings.metrics_port or METRICS_PORT
    run(settings, FleetPlan(recovery, processes, cluster, port, snapshot_seconds))


@app.command("simulate")
@_told
def simulate_command(
    context: typer.Context,
    *,
    url: _Url = _URL,
    seconds: Annotated[float, typer.Option(min=0, help="How long; 0: until Ctrl-C.")] = 0,
    devices: Annotated[int, typer.Option(min=1, max=1000, help="How many devices.")] = DEVICES,
    scenario: Annotated[
        Name | None, typer.Option(help="Write this scenario for dry-run, and post nothing.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="NAME.jsonl; beside it NAME.rules.json and NAME.expected.json."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the scenario; equal seeds write equal files.")
    ] = 0,
) -> None:
    """Register demo devices with thresholds, and let them post to a running edge.

    Or, with --scenario and --out, write records for `iot dry-run`, the rules for them, and the
    events that it must print under default settings.
    """
    given = {
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) and source.name != "DEFAULT"
    }
    if scenario:
        if wrong := sorted(given - {"scenario", "out", "seed"}):
            option = wrong[0].replace("_", "-")
            raise SetupError(f"--{option} does not go with --scenario, which posts nothing")
        if out is None:
            raise SetupError("--scenario needs --out NAME.jsonl")
        made = make_scenario(scenario, seed)
        files = write_scenario(made, out)
        print(f"{len(made.posts)} records and heartbeats; {files.expected} says what they lead to")
        print(f"iot dry-run --input {quote(str(out))} --rules {quote(str(files.rules))}")
        return
    if wrong := sorted(given & {"out", "seed"}):
        raise SetupError(f"--{wrong[0]} goes with --scenario only")
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

    with _err.status("waiting for the edge") as status:
        asyncio.run(run())
    _out.print(f"{sent} readings accepted")


@app.command("feed")
@_told
def feed_command(
    file: Annotated[Path, typer.Argument(help="CSV: a time, then a column for each sensor.")],
    device: Annotated[str, typer.Option(help="Name of the device; it is made when missing.")],
    speed: Annotated[
        float, typer.Option(min=0, help="Times real time; 0: as fast as the edge takes it.")
    ] = 1,
    url: _Url = _URL,
) -> None:
    """Post a CSV file through the edge, with the file's own times."""
    settings = load_settings()
    _check_name(device)
    series = read_csv(file)
    with open_database(settings) as database:
        registered = register(database, device, [sensor_spec(name) for name in series.sensors])
    columns = (
        TextColumn(device, markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err) as progress:
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


@app.command("dry-run")
@_told
def dry_run_command(
    file: Annotated[
        Path,
        typer.Option(
            "--input", help="One record of the topic a line: partition, arrival, value (JSON)."
        ),
    ],
    rules: Annotated[
        Path | None,
        typer.Option(help="JSON: rows of alert_thresholds and so on, by their tables' names."),
    ] = None,
    windows: Annotated[bool, typer.Option("--windows", help="Print all windows, too.")] = False,
    batch: Annotated[
        int, typer.Option(min=1, help="How many records to take at once; it changes nothing.")
    ] = 1000,
) -> None:
    """Run the engine over a file of records, with no broker and no database.

    Prints a line of JSON for each window, event, late reading, rollup and prediction, in order of
    time, and a summary.
    """
    run = DryRun(read_rules(rules), load_settings(), windows=windows)
    try:
        with rich_open(
            file, "rb", description="reading", console=_err, transient=True,
            disable=not _err.is_terminal,
        ) as lines:  # fmt: skip
            run.run(read_records(lines, str(file)), batch)
    except OSError as error:
        raise SetupError(f"{file} cannot be read: {error.strerror}") from error
    encode = msgspec.json.encode
    try:
        for line in run.lines():
            stdout.buffer.write(encode(line) + b"\n")
        stdout.buffer.write(encode({"kind": "summary"} | asdict(run.summary())) + b"\n")
        stdout.buffer.flush()
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())


@app.command("rules")
@_told
def rules_command() -> None:
    """Print the rules in the database, as a file for --rules of dry-run and replay."""
    with open_database(load_settings()) as database:
        found = rule_tables(database)
    print(msgspec.json.format(msgspec.json.encode(found)).decode())


@app.command("replay")
@_told
def replay_command(
    *,
    begin: Annotated[
        str | None,
        typer.Option("--from", help="Time or offset of the first row; default: the log's start."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Of the first row after it; default: now.")
    ] = None,
    sensors: Annotated[
        str | None, typer.Option(help="Ids, as 7,8: only rows of these count. Default: all.")
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(help="Judge all of it by these tables, see `iot rules`; others as they are."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell which events differ from the database's.")
    ] = False,
    into: Annotated[
        str | None,
        typer.Option(help="live: correct the database. Any name: a database in DIR/NAME/iot.db."),
    ] = None,
    margin: Annotated[
        str | None,
        typer.Option(
            help="Read only so much before and after the span, as 2h, and not the whole log: "
            "levels, detectors and silences that began earlier are then not known."
        ),
    ] = None,
    notify: Annotated[
        bool, typer.Option("--notify", help="With live: new events are unread, not read.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="End with one JSON object.")] = False,
    dir: Annotated[  # noqa: A002 - the option's name
        Path, typer.Option(help="Folder of the runs that are going on, or kept.")
    ] = Path("replay"),
) -> None:
    """Read the log again, beside the live flow, and tell which events differ.

    A time is ISO-8601 (UTC without a zone) or epoch seconds.
    A whole number below 1e9 is an offset: in each partition, the arrival time of the record there.
    Rows count by their event time.
    The whole log is read, whatever the span: its edges are as the live flow had them.

    Into live nothing is written twice, and events that no longer hold become superseded.
    Cut off, the same command goes on.
    """
    if dry_run == (into is not None):
        raise SetupError("give --dry-run, or --into live, or --into NAME")
    request = Request(
        into=into or DRY_RUN,
        begin=begin,
        end=end,
        sensors=_sensor_ids(sensors),
        rules=rules,
        margin=margin,
        notify=notify,
        directory=dir,
    )
    try:
        report = replay(request, load_settings(), _err)
    except CutOffError as error:
        _err.print(f"iot: {error}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(130) from error
    for part in replay_tables(report):
        (_err if json else _out).print(part)
    if json:
        print(msgspec.json.encode(replay_json(report, request.into)).decode())


def _sensor_ids(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if not all(part.isdecimal() for part in text.split(",")):
        raise SetupError(f"--sensors {text}: give ids, as 7,8")
    return tuple(sorted({int(part) for part in text.split(",")}))


@app.command("explain")
@_told
def explain_command(
    key: Annotated[str, typer.Argument(help="event_key, or at least its first 8 digits.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the rules, panes, arrivals and timers that led to an event."""
    with open_database(load_settings()) as database:
        told = explain(database, key)
    if json:
        print(msgspec.json.encode(as_json(told)).decode())
        return
    _out.print(*tables(told))


@app.command("check-edge")
@_told
def check_edge_command(
    url: Annotated[str, typer.Argument(help="Address of the edge.")] = _URL,
    device: Annotated[
        str, typer.Option(help="device_uuid to post as; default: one made for it.")
    ] = "",
    sensor: Annotated[str, typer.Option(help="sensor_uuid of that device.")] = "",
    device_key: Annotated[
        str, typer.Option(help="The device's own key; default: INGEST_API_KEY.")
    ] = "",
) -> None:
    """Post a good packet and each kind of bad one, and show whether the answers are right.

    Without --device and --sensor, the device "check-edge" is made in the configured database.
    """
    if bool(device) != bool(sensor):
        raise SetupError("give --device and --sensor together, or neither")
    settings = load_settings()
    url = url.rstrip("/")
    context = client_context(settings)
    keyed = edge_wants_key(url, context)
    if not device:
        with open_database(settings) as database:
            made = register(database, "check-edge", [sensor_spec("check")])
        device, sensor = made.uuid, made.sensors["check"]
    keys = {}
    if device_key:
        keys["X-Device-Key"] = device_key
    elif settings.ingest_api_key:
        keys["X-API-Key"] = settings.ingest_api_key.get_secret_value()
    if keyed and not keys:
        raise SetupError("the edge wants a key: set INGEST_API_KEY, or give --device-key")
    table = Table("", "what was sent", "right", "came", "what the edge said", box=None)
    wrong = 0
    wanted = checks(device, sensor, keyed=keyed)
    for outcome in track(
        run_checks(url, keys, wanted, context), "asking", len(wanted),
        console=_err, transient=True, disable=not _err.is_terminal,
    ):  # fmt: skip
        wrong += not outcome.right
        table.add_row(
            "[green]yes[/]" if outcome.right else "[red]NO[/]",
            outcome.check.name,
            str(outcome.check.expected),
            str(outcome.status or "-"),
            Text(outcome.detail),
        )
    _out.print(table)
    if wrong:
        raise SetupError(f"{wrong} of {len(wanted)} answers are not right")
    _out.print(f"all {len(wanted)} answers are right")


@app.command("status")
@_told
def status_command(
    url: Annotated[
        list[str] | None,
        typer.Argument(
            help="Metrics of a process, say http://127.0.0.1:9101; default: all that run here.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how far running processes are: lag, levels, sinks, snapshots, what was refused."""
    status = ask(url or [])
    if json:
        print(msgspec.json.encode(status).decode())
        return
    _out.print(status_tables(status))


@tail_app.command("readings")
@_told
def tail_readings_command(
    begin: Annotated[
        bool, typer.Option("--from-beginning", help="Begin with the first record that is there.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(min=1, help="End after that many lines.", show_default=False)
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(min=0, help="End when nothing has come for that many seconds."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """Show the readings on the topic as they come, until Ctrl-C: one line a reading.

    A record that is no packet is a line of its own. Nothing is committed.
    """
    for line in tail_readings(load_settings(), begin=begin, most=count, wait_s=wait):
        print(msgspec.json.encode(line).decode() if json else reading_text(line), flush=True)


@app.command("doctor")
@_told
def doctor_command(
    recovery: Annotated[Path, typer.Option(help="Recovery root of the flow.")] = Path("recovery"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look whether everything around the pipeline is as it must be; exit code 1 when it is not.

    Settings, broker, topics, database, schema, recovery stores, disks, ports: a line each, OK,
    WARN or FAIL, with what to do. Nothing is changed.
    """
    with _err.status("looking"):
        findings = list(examine(recovery))
    failed = sum(finding.state is State.FAIL for finding in findings)
    if json:
        print(msgspec.json.encode({"failed": failed, "findings": findings}).decode())
    elif _out.is_terminal:
        table = Table("", "", "", box=None, show_header=False)
        for finding in findings:
            style = {State.OK: "green", State.WARN: "yellow", State.FAIL: "bold red"}[finding.state]
            table.add_row(Text(finding.state, style), finding.about, Text(finding.text))
        _out.print(table)
    else:
        for finding in findings:
            print(f"{finding.state:<4}  {finding.about:<14}  {finding.text}")
    if failed:
        raise typer.Exit(1)


@devices_app.command("add")
@_told
def devices_add(
    name: Annotated[str, typer.Argument(help="Name of the device.")],
    sensor: Annotated[
        list[str], typer.Option(help="NAME, NAME:TYPE or NAME:TYPE:UNIT; once for each sensor.")
    ],
    warning: Annotated[
        list[str], typer.Option(help="NAME:MIN:MAX: outside of it the sensor is at WARN.")
    ] = [],  # noqa: B006 - typer copies it
    critical: Annotated[
        list[str], typer.Option(help="NAME:MIN:MAX: outside of it the sensor is at CRITICAL.")
    ] = [],  # noqa: B006 - typer copies it
    url: _Url = _URL,
) -> None:
    """Register a device with its sensors; what is there already stays."""
    _check_name(name)
    specs = {}
    for text in sensor:
        parts = text.split(":")
        if not 0 < len(parts[0]) <= 255 or len(parts) > 3:
            raise SetupError(f"--sensor {text}: give NAME, NAME:TYPE or NAME:TYPE:UNIT")
        specs[parts[0]] = sensor_spec(*parts)
    for severity, ranges in (("warning", warning), ("critical", critical)):
        for text in ranges:
            _add_range(specs, severity, text)
    with open_database(load_settings()) as database:
        device = register(database, name, list(specs.values()))
    readings = [{"sensor_uuid": uuid, "value": 20.5} for uuid in device.sensors.values()]
    body = dumps({"device_uuid": device.uuid, "readings": readings})
    print(f"device {name} is {device.uuid}. Post a reading:")
    print(f"curl -X POST {url}/ingest/packets -H 'Content-Type: application/json' -d '{body}'")


def _check_name(name: str) -> None:
    if not 0 < len(name) <= 255:
        raise SetupError("the name of a device has 1 to 255 characters")


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


@devices_app.command("new-key")
@_told
def devices_new_key(
    name: Annotated[str, typer.Argument(help="Name of the device.")],
    label: Annotated[str, typer.Option(help="What the key is for; at most 100 characters.")] = "",
) -> None:
    """Make a key with which only this device can post, and show it once."""
    if len(label) > 100:
        raise SetupError("--label has at most 100 characters")
    with open_database(load_settings()) as database:
        device, key = new_key(database, name, label)
    _err.print(f"key of {name} ({device.uuid}), shown only now:", markup=False, highlight=False)
    print(key)
    _err.print("send it as the header X-Device-Key", highlight=False)


@devices_app.command("revoke-keys")
@_told
def devices_revoke_keys(name: Annotated[str, typer.Argument(help="Name of the device.")]) -> None:
    """Revoke all keys of a device; edges stop taking them within SENSOR_MAP_TTL_SECONDS."""
    settings = load_settings()
    with open_database(settings) as database:
        revoke_keys(database, name)
    _out.print(
        f"all keys of {name} are revoked; edges with this setting stop taking them within "
        f"{settings.sensor_map_ttl_seconds:g} s",
        markup=False, highlight=False,
    )  # fmt: skip


@devices_app.command("list")
@_told
def devices_list() -> None:
    """Show all devices and their active sensors."""
    with open_database(load_settings()) as database:
        table = Table("device, sensors", "uuid", box=None)
        for device in list_devices(database):
            table.add_row(Text(device.name), device.uuid, style="bold")
            for name, uuid in device.sensors.items():
                table.add_row(Text(f"  {name}"), uuid)
    _out.print(table)


def main() -> None:
    """Entry of the command `iot`."""
    keep_private()
    app()


if __name__ == "__main__":
    main()
