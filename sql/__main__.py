"""Manage the schema of the configured database."""

import sys
from typing import Annotated

import typer

from contract.settings import load_settings
from runtime.shell import program
from sql.check import damaged, differences
from sql.schema import apply_schema, script_text

app = typer.Typer(
    no_args_is_help=False, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)

_program = program("sql", stopped="stopped; run it again to continue")


@app.callback(invoke_without_command=True)
def _default(context: typer.Context) -> None:
    """Manage the schema of the configured database. Without a command, bring it up to date."""
    if context.invoked_subcommand is None:
        _apply()


@app.command("apply", epilog="Example: python -m sql apply")
def apply_command() -> None:
    """Bring the schema up to date by creating what is missing. Safe to run again."""
    _apply()


@app.command("check", epilog="Example: python -m sql check")
@_program
def check_command() -> None:
    """Show what is missing or differs. The exit code is 1 if anything does."""
    settings = load_settings()
    lines = differences(settings)
    for line in lines:
        print(line)
    if lines:
        print(
            f"{settings.database}: {len(lines)} to fix. `python -m sql` applies scripts and "
            "recreates views, procedures and triggers; `python -m sql print` shows how to create "
            "the rest",
            file=sys.stderr,
        )
        raise typer.Exit(1)
    print(f"{settings.database}: nothing is missing or different")


@app.command("print", epilog="Example: python -m sql print | sqlcmd -S localhost -d iot")
@_program
def print_command(
    name: Annotated[
        str | None, typer.Argument(help="Name of one script. Default: all scripts.")
    ] = None,
) -> None:
    """Print the scripts in the order in which they are applied, for sqlcmd or sqlite3."""
    print(script_text(load_settings(), name))


@_program
def _apply() -> None:
    settings = load_settings()

    def report(name: str) -> None:
        print(f"applying {name}", flush=True)

    new = apply_schema(settings, report)
    new += apply_schema(settings, report, again=damaged(settings))
    print(f"{settings.database}: " + ("applied" if new else "up to date"))


if __name__ == "__main__":
    app(prog_name="python -m sql")
