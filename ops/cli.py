"""`iot`: the command for operators and developers."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from contract.version import VERSION
from ops.verbs.check_edge import check_edge_command
from ops.verbs.demo import demo_command
from ops.verbs.devices import devices_add, devices_list, devices_new_key, devices_revoke_keys
from ops.verbs.doctor import doctor_command
from ops.verbs.dry_run import dry_run_command
from ops.verbs.events import events_ack, events_list, events_resolve, events_show
from ops.verbs.explain import explain_command
from ops.verbs.feed import feed_command
from ops.verbs.flow import flow_command
from ops.verbs.incidents import incidents_command
from ops.verbs.replay import replay_command
from ops.verbs.rules import rules_command
from ops.verbs.services import PROGRAMS, become
from ops.verbs.simulate import simulate_command
from ops.verbs.status import status_command
from ops.verbs.tail import tail_readings_command
from runtime.shell import program

_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Examples:\n\niot demo\n\niot devices add boiler --sensor temperature:temperature:C",
    help="Move IoT readings from HTTP through Kafka and Bytewax into a database.",
)
devices_app = typer.Typer(
    no_args_is_help=True, help="Manage devices, their sensors and their keys."
)
events_app = typer.Typer(no_args_is_help=True, help="List, acknowledge and resolve events.")
tail_app = typer.Typer(no_args_is_help=True, help="Print what arrives on the topic.")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"iot {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def _add(
    group: typer.Typer, name: str, command: Callable[..., None], *examples: str, **options: Any
) -> None:
    epilog = "\n\n".join(("Examples:" if len(examples) > 1 else "Example:", *examples))
    group.command(name, epilog=epilog, **options)(program("iot")(command))


_add(app, "demo", demo_command, "iot demo --seconds 60", "iot demo --dir kept")
for _name, (_module, _help) in PROGRAMS.items():
    app.command(
        _name, help=_help, context_settings=_PASSED_ON, add_help_option=False, options_metavar=""
    )(become(_module))
_flow = (flow_command, "iot flow --recovery recovery", "iot flow --processes 4")
_add(app, "flow", *_flow)
_add(app, "run", *_flow, hidden=True)
_add(
    app, "simulate", simulate_command,
    "iot simulate --seconds 60",
    "iot simulate --scenario drift --out drift.jsonl",
)  # fmt: skip
_add(app, "feed", feed_command, "iot feed readings.csv --device boiler --speed 10")
_add(
    app, "dry-run", dry_run_command,
    "iot dry-run --input drift.jsonl --rules drift.rules.json",
)  # fmt: skip
_add(app, "rules", rules_command, "iot rules > rules.json")
_add(
    app, "replay", replay_command,
    "iot replay --dry-run --rules rules.json",
    "iot replay --into live --from 2026-01-01 --sensors 7,8",
)  # fmt: skip
_add(app, "incidents", incidents_command, "iot incidents", "iot incidents --since 7d --limit 100")
_add(app, "explain", explain_command, "iot explain 438684cb")
_add(app, "check-edge", check_edge_command, "iot check-edge http://127.0.0.1:8001")
_add(app, "status", status_command, "iot status", "iot status http://127.0.0.1:9101 --json")
_add(app, "doctor", doctor_command, "iot doctor --recovery recovery")
_add(
    devices_app, "add", devices_add,
    "iot devices add boiler --sensor water:temperature:C --critical water:5:90",
)  # fmt: skip
_add(devices_app, "list", devices_list, "iot devices list")
_add(devices_app, "new-key", devices_new_key, "iot devices new-key boiler --label line-2")
_add(devices_app, "revoke-keys", devices_revoke_keys, "iot devices revoke-keys boiler")
_add(
    events_app, "list", events_list,
    "iot events list --status open",
    "iot events list --device boiler --since 2h --level warning",
    "iot events list --since 2026-01-01 --until 2026-02-01 --code NO_DATA --json",
)  # fmt: skip
_add(events_app, "show", events_show, "iot events show 12", "iot events show 438684cb --json")
_add(
    events_app, "ack", events_ack,
    "iot events ack 12",
    "iot events ack 12 15 --incident --by anna --note 'valve stuck, closed by hand'",
)  # fmt: skip
_add(
    events_app, "resolve", events_resolve,
    "iot events resolve 12",
    "iot events resolve 12 --by anna --note 'sensor was replaced'",
)  # fmt: skip
_add(tail_app, "readings", tail_readings_command, "iot tail readings --from-beginning --count 10")
app.add_typer(devices_app, name="devices")
app.add_typer(events_app, name="events")
app.add_typer(tail_app, name="tail")


def main() -> None:
    """Entry point of the command `iot`."""
    app()


if __name__ == "__main__":
    main()
