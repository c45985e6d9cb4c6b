"""SQL Server: how to connect, cut scripts, and read its errors.

`pyodbc` is imported here and nowhere else, so only when SQL Server is chosen.
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
"""Our files for SQL Server are single procedure calls; the procedures hold the transactions."""
turn = nullcontext()

_LONG = 2_000
"""More characters than this are a long text."""
_STATEMENTS = Path(__file__).parent / "statements"
_NO_SUCH_DATABASE = {911, 4060}
_RETRY = {
    -2, 20, 64, 121, 233, 596, 701, 802, 921, 922, 927, 976, 978, 983, 1105, 1204, 1205, 1222, 3960,
    6005, 8645, 8651, 9001, 9002, 10053, 10054, 10060, 10928, 10929, 17142, 18401, 40197, 40501,
    40613, 41301, 41302, 41305, 41325, 41839, 49918, 49919, 49920,
}  # fmt: skip
"""Away, starting, or short of something that may be had again: memory, locks, disk."""
_TIMED_OUT = ("HYT00", "HYT01")
_RETRY_STATES = ("40001", "08S01", "08001", "IMC", *_TIMED_OUT)
"""How SQLSTATEs begin."""
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
        if not _NO_SUCH_DATABASE & _numbers(error):
            raise
        if not create:
            raise SetupError(
                f"{settings.database} does not exist, or this user may not open it: run "
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
    """What stands between lines that say GO, as `sqlcmd` cuts it."""
    pieces = re.split(r"^\s*GO\s*$", script, flags=re.MULTILINE | re.IGNORECASE)
    return [piece for piece in pieces if piece.strip()]


def execute(connection: Any, statement: str, parameters: Sequence[object]) -> Any:
    """Begin a statement. A long text goes as nvarchar(max), where the driver would make it ntext,
    which OPENJSON and some collations refuse.
    """
    cursor = connection.cursor()
    long = [isinstance(one, str) and len(one) > _LONG for one in parameters]
    if any(long):
        whole = (_pyodbc().SQL_WVARCHAR, 0, 0)
        cursor.setinputsizes([whole if is_long else None for is_long in long])
    return cursor.execute(statement, tuple(parameters))


@contextmanager
def alone(settings: Settings, connection: Any) -> Iterator[None]:
    """By a lock of the server's, of this connection."""
    what = "@Resource = N'iot_schema', @LockOwner = N'Session'"
    mode = "@LockMode = N'Exclusive', @LockTimeout = -1"
    connection.execute(f"EXEC sp_getapplock {what}, {mode}").close()
    try:
        yield
    finally:
        connection.execute(f"EXEC sp_releaseapplock {what}").close()


def check(connection: Any) -> None:
    """A server's database has no file that could be replaced under a connection."""


def finish(cursor: Any) -> None:
    """Take every result: behind the first may lie an error, and closing early ends the rest."""
    while cursor.nextset():
        pass
    cursor.close()


def blame(error: Exception) -> type[IotError]:
    """By the server's error numbers, else by SQLSTATE."""
    numbers, state = _numbers(error), str(error.args[0]) if error.args else ""
    if numbers & _CONFLICT:
        return ConflictError
    if numbers & _REFUSED or state[:2] in ("22", "23"):  # the standard's data and integrity errors
        return RefusedError
    if numbers & _RETRY or state.startswith(_RETRY_STATES):
        return TimedOutError if state in _TIMED_OUT else UnavailableError
    return SetupError


def _numbers(error: Exception) -> set[int]:
    """The native error numbers, several where the driver tells several errors at once: each stands
    in parentheses behind its text.

    >>> sorted(_numbers(Exception("28000", "a (1) b (18456) (SQLDriverConnect); c (4060)")))
    [4060, 18456]
    """
    text = str(error.args[-1]) if error.args else ""
    found = re.findall(r"\((-?\d+)\)(?= \(SQL\w+\)|;|$)", text)
    return {int(number) for number in found}


def _pyodbc() -> Any:
    try:
        import pyodbc  # noqa: PLC0415 - needs the system's libodbc, which SQLite users lack
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
        "ConnectRetryCount": "0",  # we connect anew ourselves, and know what was lost
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


def odbc_driver(settings: Settings) -> str:
    """The name or file of the driver that is used; it is there.

    Raises:
        SetupError: pyodbc or the system library is missing.
        SettingError: there is no driver, or not the one that is named.
    """
    driver = _driver(settings)
    if driver not in _pyodbc().drivers() and not Path(driver).is_file():
        raise SettingError(
            f"ODBC_DRIVER: {driver} is neither a registered driver (odbcinst -q -d) nor a file: "
            "correct it, or leave it out for Microsoft's own"
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
        "or pip install 'iot-pipeline[mssql]', or name a driver"
    )
