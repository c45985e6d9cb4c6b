"""SQL Server: how to connect, cut scripts, and read its errors.

`pyodbc` is imported here and nowhere else, so only when SQL Server is chosen.
"""

import platform
import re
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from contract.errors import (
    ConflictError,
    IotError,
    RefusedError,
    SettingError,
    SetupError,
    UnavailableError,
)
from contract.settings import Settings

begin = None
"""Our files for SQL Server are single procedure calls; the procedures hold the transactions."""
turn = nullcontext()

_STATEMENTS = Path(__file__).parent / "statements"
_NO_SUCH_DATABASE = (911, 4060)
_RETRY = {
    -2, 20, 64, 121, 233, 1205, 1222, 6005, 10053, 10054, 10060, 10928, 10929, 40197, 40501, 40613,
    41301, 41302, 41305, 41325, 41839, 49918, 49919, 49920,
}  # fmt: skip
_RETRY_STATES = {"40001", "08S01", "08001", "HYT00", "HYT01"}
_CONFLICT = {2601, 2627}
_REFUSED = {220, 245, 515, 517, 547, 2628, 8114, 8115, 8152}


def connect(settings: Settings, *, create: bool) -> Any:
    """Log in; with `create`, make the database `DB_NAME` when the server has none.

    A statement may take `DB_QUERY_TIMEOUT_SECONDS`, except with `create`: a schema script takes
    what it takes.
    """
    pyodbc = _pyodbc()
    try:
        connection = _log_in(pyodbc, settings, settings.db_name)
    except pyodbc.Error as error:
        if _number(error) not in _NO_SUCH_DATABASE:
            raise
        if not create:
            raise SetupError(
                f"{settings.database} does not exist, or this user may not open it: run "
                "`python -m sql` to create it"
            ) from error
        with _log_in(pyodbc, settings, "master") as master:
            script = (_STATEMENTS / "create_database.sql").read_text(encoding="utf-8")
            master.execute(script, settings.db_name)
        connection = _log_in(pyodbc, settings, settings.db_name)
    connection.timeout = 0 if create else settings.db_query_timeout_seconds
    return connection


def _log_in(pyodbc: Any, settings: Settings, database: str) -> Any:
    return pyodbc.connect(
        connection_string(settings, _driver(settings), database),
        autocommit=True,
        timeout=settings.db_login_timeout_seconds,
    )


def batches(script: str) -> list[str]:
    """What stands between lines that say GO, as `sqlcmd` cuts it."""
    pieces = re.split(r"^\s*GO\s*$", script, flags=re.MULTILINE | re.IGNORECASE)
    return [piece for piece in pieces if piece.strip()]


def finish(cursor: Any) -> None:
    """Take every result: behind the first may lie an error, and closing early ends the rest."""
    while cursor.nextset():
        pass
    cursor.close()


def blame(error: Exception) -> type[IotError]:
    """By the server's error number, else by SQLSTATE."""
    number, state = _number(error), str(error.args[0]) if error.args else ""
    if number in _CONFLICT:
        return ConflictError
    if number in _REFUSED or state[:2] in ("22", "23"):  # the standard's data and integrity errors
        return RefusedError
    if number in _RETRY or state in _RETRY_STATES:
        return UnavailableError
    return SetupError


def _number(error: Exception) -> int | None:
    """The native error number, which ODBC puts in parentheses before the function's name."""
    found = re.search(r"\((-?\d+)\) \(SQL", str(error.args[-1]) if error.args else "")
    return int(found.group(1)) if found else None


def _pyodbc() -> Any:
    try:
        import pyodbc  # noqa: PLC0415 - needs the system's libodbc, which SQLite users lack
    except ImportError as error:
        raise SetupError(
            f"DB_ENGINE: SQL Server needs pyodbc and the system library unixodbc ({error}): "
            "pip install 'iot-pipeline[mssql]' and apt-get install unixodbc"
        ) from error
    return pyodbc


def connection_string(settings: Settings, driver: str, database: str) -> str:
    """What the ODBC driver is given; each value in braces, so that none can end it early."""
    assert settings.db_password is not None  # load_settings refuses that
    parts = {
        "DRIVER": driver,
        "SERVER": f"{settings.db_host},{settings.db_port}",
        "DATABASE": database,
        "UID": settings.db_user,
        "PWD": settings.db_password.get_secret_value(),
        "Encrypt": "yes" if settings.db_encrypt else "no",
        "TrustServerCertificate": "yes" if settings.db_trust_server_certificate else "no",
        "APP": "iot-pipeline",
    }
    if settings.db_multi_subnet_failover:
        parts["MultiSubnetFailover"] = "yes"
    if settings.db_failover_partner:
        parts["Failover_Partner"] = settings.db_failover_partner
    return "".join(f"{name}={{{value.replace('}', '}}')}}};" for name, value in parts.items())


def _distribution() -> str:
    """The folder of the wheel that fits this Linux; any other system has to name its driver."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "none"
    names = f"{release.get('ID', '')} {release.get('ID_LIKE', '')}"
    for mark, folder in (("debian", "debian_ubuntu"), ("alpine", "alpine"), ("suse", "suse")):
        if mark in names:
            return folder
    return "rhel"


def _driver(settings: Settings) -> str:
    """`ODBC_DRIVER`, else a registered Microsoft driver, else the one in `mssql-python-odbc`."""
    if settings.odbc_driver:
        return settings.odbc_driver
    registered = set(_pyodbc().drivers())
    for name in ("ODBC Driver 18 for SQL Server", "ODBC Driver 17 for SQL Server"):
        if name in registered:
            return name
    wheel = find_spec("mssql_python_odbc")
    for folder in (wheel and wheel.submodule_search_locations) or ():
        place = Path(folder) / "libs" / "linux" / _distribution() / platform.machine() / "lib"
        for file in sorted(place.glob("libmsodbcsql-*.so*")):
            return str(file)
    raise SettingError(
        "ODBC_DRIVER: no Microsoft ODBC driver is registered: install one, "
        "or pip install 'iot-pipeline[mssql]', or name a driver"
    )
