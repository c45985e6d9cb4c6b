"""`iot rules`: print the rules as a file."""

import msgspec

from contract.settings import load_settings
from rules.tables import rule_tables
from sql.schema import open_database


def rules_command() -> None:
    """Print the rules in the database as JSON.

    The output is a rules file for `iot dry-run` and `iot replay`.
    """
    with open_database(load_settings()) as database:
        tables = rule_tables(database)
    print(msgspec.json.format(msgspec.json.encode(tables)).decode())
