"""Databases that tests share with the programs which they start."""

from datetime import datetime
from decimal import Decimal

from contract.settings import Settings
from rules.tables import sources

_OF_A_SERVER = (
    "db_host", "db_port", "db_user", "db_name", "db_encrypt", "db_trust_server_certificate",
    "odbc_driver",
)  # fmt: skip


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that lead a process to the same database."""
    values = {"DB_ENGINE": settings.engine, "IOT_SQLITE_PATH": str(settings.iot_sqlite_path)}
    if settings.engine == "mssql":
        assert settings.db_password is not None
        given = {name: getattr(settings, name) for name in _OF_A_SERVER}
        values |= {name.upper(): str(value) for name, value in given.items() if value is not None}
        values["DB_PASSWORD"] = settings.db_password.get_secret_value()
    return values


def plain(value: object) -> object:
    """A value of a row as SQLite has it: times as text, to the millisecond or, where it has them,
    the microsecond; numbers as int or float.
    """
    if isinstance(value, datetime):
        digits = "microseconds" if value.microsecond % 1000 else "milliseconds"
        return value.isoformat(" ", digits)
    if isinstance(value, Decimal):
        return float(value)
    return int(value) if isinstance(value, bool) else value


RULE_ROWS = {source.statement: source.query for source in sources()}
"""What lists the rows of each table of rules, by the statement's name."""
