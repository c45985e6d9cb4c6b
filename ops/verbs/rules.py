"""`iot rules`: print the rules as a file."""

from typing import Annotated

import msgspec
import typer

from contract.settings import load_settings
from rules.models import MODELS
from rules.tables import rule_tables
from sql.schema import open_database


def rules_command(
    *,
    models: Annotated[
        bool, typer.Option("--models", help="Also print the models that are active now.")
    ] = False,
) -> None:
    """Print the rules in the database as JSON.

    The output is a rules file for `iot dry-run` and `iot replay`.
    """
    with open_database(load_settings()) as database:
        tables = {
            table: rows
            for table, rows in rule_tables(database).items()
            if models or table != MODELS.table
        }
    print(msgspec.json.format(msgspec.json.encode(tables)).decode())
