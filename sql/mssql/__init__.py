"""SQL Server: connecting, splitting scripts, and classifying errors.

`pyodbc` is only imported here, so it is only needed for SQL Server.
"""

import platform
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from contract.errors import (
    ConflictError,
    IotError,
    RefusedError,
    SettingError,
    SetupError,
    TimedOutError,
    UnavailableError,
)
from contract.settings import Settings

begin = None
"""Our files for SQL Server are single procedure calls, and the procedures use transactions."""
rows_a_batch = 4_000
"""From 5 000 locks in one statement on, SQL Server would lock the whole table."""
writers = 8
between_scripts = "\nGO\n"
turn = nullcontext()

_LONG = 2_000
"""Longest text, in characters, that is passed as an ordinary parameter."""
_STATEMENTS = Path(__file__).parent / "statements"
_NO_SUCH_DATABASE = {911, 4060}
_RETRY = {
    -2, 20, 64, 121, 233, 596, 701, 802, 921, 922, 927, 976, 978, 983, 1105, 1204, 1205, 1222, 3960,
    6005, 8645, 8651, 9001, 9002, 10053, 10054, 10060, 10928, 10929, 17142, 18401, 40197, 40501,
    40613, 41301, 41302, 41305, 41325, 41839, 49918, 49919, 49920,
}  # fmt: skip
"""Unavailable, starting, or temporarily short of memory, locks or disk."""
_TIMED_OUT = ("HYT00", "HYT01")
_RETRY_STATES = ("40001", "08S01", "08001", "IMC", *_TIMED_OUT)
"""Prefixes of SQLSTATEs."""
_CONFLICT = {2601, 2627}
_REFUSED = {220, 245, 515, 517, 547, 2628, 8114, 8115, 8152}


def connect(settings: Settings, *, create: bool) -> Any:
    """Log in. With `create`, create the database `DB_NAME` if it does not exist.

    A statement may take `DB_QUERY_TIMEOUT_SECONDS`. With `create` there is no limit, because a
    schema script may take long.
    """
    pyodbc = _pyodbc()
    try:
        connection = _log_in(pyodbc, settings, settings.db_name)
    except pyodbc.Error as error:
        if not _NO_SUCH_DATABASE & _numbers(error):
            raise
        if not create:
            raise SetupError(
                f"{settings.database} does not exist, or this user cannot open it: run "
                "`python -m sql` to create it"
            ) from error
        with _log_in(pyodbc, settings, "master") as master:
            script = (_STATEMENTS / "create_database.sql").read_text(encoding="utf-8")
            finish(master.execute(script, settings.db_name))
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
    """Split a script at lines that contain only GO, like `sqlcmd`."""
    pieces = re.split(r"^\s*GO\s*$", script, flags=re.MULTILINE | re.IGNORECASE)
    return [piece for piece in pieces if piece.strip()]


def execute(connection: Any, statement: str, parameters: Sequence[object]) -> Any:
    """Start a statement. A long text is passed as nvarchar(max). The driver would choose ntext,
    which OPENJSON and some collations refuse.
    """
    cursor = connection.cursor()
    long = [isinstance(value, str) and len(value) > _LONG for value in parameters]
    if any(long):
        whole = (_pyodbc().SQL_WVARCHAR, 0, 0)
        cursor.setinputsizes([whole if is_long else None for is_long in long])
    return cursor.execute(statement, tuple(parameters))


@contextmanager
def alone(settings: Settings, connection: Any) -> Iterator[None]:
    """Take an application lock of the server, owned by this connection."""
    what = "@Resource = N'iot_schema', @LockOwner = N'Session'"
    mode = "@LockMode = N'Exclusive', @LockTimeout = -1"
    connection.execute(f"EXEC sp_getapplock {what}, {mode}").close()
    try:
        yield
    finally:
        connection.execute(f"EXEC sp_releaseapplock {what}").close()


def check(connection: Any) -> None:
    """Nothing to check: the file of a server's database cannot be replaced while it is open."""


def finish(cursor: Any) -> None:
    """Read every result: errors may follow the first, and closing early would cancel the rest."""
    while cursor.nextset():
        pass
    cursor.close()


def blame(error: Exception) -> type[IotError]:
    """Classify by the server's error numbers, else by SQLSTATE."""
    numbers, state = _numbers(error), str(error.args[0]) if error.args else ""
    if numbers & _CONFLICT:
        return ConflictError
    if numbers & _REFUSED or state[:2] in ("22", "23"):  # the standard's data and integrity errors
        return RefusedError
    if numbers & _RETRY or state.startswith(_RETRY_STATES):
        return TimedOutError if state in _TIMED_OUT else UnavailableError
    return SetupError


def _numbers(error: Exception) -> set[int]:
    """The native error numbers; several if the driver reports several errors at once. Each is in
    parentheses after its text.

    >>> sorted(_numbers(Exception("28000", "a (1) b (18456) (SQLDriverConnect); c (4060)")))
    [4060, 18456]
    """
    text = str(error.args[-1]) if error.args else ""
    numbers = re.findall(r"\((-?\d+)\)(?= \(SQL\w+\)|;|$)", text)
    return {int(number) for number in numbers}


def _pyodbc() -> Any:
    try:
        import pyodbc  # noqa: PLC0415 - needs libodbc, which SQLite users do not have
    except ModuleNotFoundError as error:
        raise SetupError(
            "DB_ENGINE: SQL Server needs pyodbc, which is not installed: "
            "pip install 'iot-pipeline[mssql]'"
        ) from error
    except ImportError as error:
        raise SetupError(
            f"DB_ENGINE: SQL Server needs the system library unixODBC, which cannot be loaded "
            f"({error}): apt-get install unixodbc, or your system's package of that name"
        ) from error
    return pyodbc


def connection_string(settings: Settings, driver: str, database: str) -> str:
    """The ODBC connection string. Each value is in braces, so that it cannot end early."""
    assert settings.db_password is not None  # load_settings requires it
    parts = {
        "DRIVER": driver,
        "SERVER": f"{settings.db_host},{settings.db_port}",
        "DATABASE": database,
        "UID": settings.db_user,
        "PWD": settings.db_password.get_secret_value(),
        "Encrypt": "yes" if settings.db_encrypt else "no",
        "TrustServerCertificate": "yes" if settings.db_trust_server_certificate else "no",
        "APP": "iot-pipeline",
        "ConnectRetryCount": "0",  # we reconnect ourselves, because we know what was lost
    }
    if settings.db_multi_subnet_failover:
        parts["MultiSubnetFailover"] = "yes"
    if settings.db_failover_partner:
        parts["Failover_Partner"] = settings.db_failover_partner
    return "".join(f"{name}={{{value.replace('}', '}}')}}};" for name, value in parts.items())


def _distribution() -> str:
    """The folder in the wheel for this Linux. Other systems have to name their driver."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "none"
    names = f"{release.get('ID', '')} {release.get('ID_LIKE', '')}"
    for mark, folder in (("debian", "debian_ubuntu"), ("alpine", "alpine"), ("suse", "suse")):
        if mark in names:
            return folder
    return "rhel"


def odbc_driver(settings: Settings) -> str:
    """The name or file of the driver in use, after checking that it exists.

    Raises:
        SetupError: pyodbc or the system library is missing.
        SettingError: there is no driver, or the named one does not exist.
    """
    driver = _driver(settings)
    if driver not in _pyodbc().drivers() and not Path(driver).is_file():
        raise SettingError(
            f"ODBC_DRIVER: {driver} is neither a registered driver (odbcinst -q -d) nor a file: "
            "correct it, or unset it to use Microsoft's driver"
        )
    return driver


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
        "run pip install 'iot-pipeline[mssql]', or set ODBC_DRIVER to another driver"
    )
