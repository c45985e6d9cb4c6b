"""`python -m sql`: the schema of the configured database."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from contract.errors import IotError
from contract.settings import Settings, load_settings
from runtime.private import keep_private
from sql.check import damaged, differences
from sql.schema import apply_schema, script_text

app = typer.Typer(
    no_args_is_help=False, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)


@app.callback(invoke_without_command=True)
def _default(context: typer.Context) -> None:
    """The schema of the configured database; without a command, bring it up to date."""
    if context.invoked_subcommand is None:
        _told(_apply)


@app.command("apply")
def apply_command() -> None:
    """Bring the schema up to date: create what is missing. Can be run again."""
    _told(_apply)


@app.command("check")
def check_command() -> None:
    """Say what is missing or differs; exit code 1 when something does."""
    _told(_check)


@app.command("print")
def print_command(
    name: Annotated[str | None, typer.Argument(help="One script; all without it.")] = None,
) -> None:
    """Print the scripts in the order in which they are applied, for sqlcmd or sqlite3."""
    _told(lambda settings: print(script_text(settings, name)))


def _apply(settings: Settings) -> None:
    keep_private()

    def tell(name: str) -> None:
        print(f"applying {name}", flush=True)

    new = apply_schema(settings, tell)
    new += apply_schema(settings, tell, again=damaged(settings))
    print(f"{settings.database}: " + ("applied" if new else "up to date"))


def _check(settings: Settings) -> None:
    found = differences(settings)
    for line in found:
        print(line)
    if found:
        print(
            f"{settings.database}: {len(found)} to mend. `python -m sql` applies scripts and makes "
            "views, procedures and triggers anew; `python -m sql print` shows how the rest is made",
            file=sys.stderr,
        )
        raise typer.Exit(1)
    print(f"{settings.database}: nothing is missing, nothing differs")


def _told(command: Callable[[Settings], None]) -> None:
    try:
        command(load_settings())
    except IotError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        print("stopped; run it again to go on", file=sys.stderr)
        raise typer.Exit(130) from None


if __name__ == "__main__":
    app(prog_name="python -m sql")
