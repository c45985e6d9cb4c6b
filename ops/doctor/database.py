"""Checks of the database: driver, connection, clock and schema."""

from collections.abc import Callable, Iterator

from contract.settings import Settings
from ops.doctor.finding import Finding, State, guarded
from sql.check import differences
from sql.database import Database
from sql.schema import open_database
from sql.statements import NOW_MS

_SKEW_S = 2.0


def check_database(settings: Settings, now: Callable[[], float]) -> Iterator[Finding]:
    """Check that the database answers and that its schema is this program's.

    `now` is this machine's clock, in epoch seconds. Without an ODBC driver nothing else is checked.

    Raises:
        IotError: see `Database`.
    """
    if settings.engine == "mssql":
        drivers = list(guarded("ODBC driver", _driver(settings)))
        yield from drivers
        if drivers[-1].state is State.FAIL:
            return  # a connection would fail for the same reason
    with Database(settings) as database:
        before = now()
        (clock,) = database.query(NOW_MS)
        ours = (before + now()) / 2
    yield Finding(State.OK, "database", f"{settings.database} answers")
    yield from guarded("clock", _clock(settings, clock.now_ms / 1000 - ours))
    yield from guarded("schema", _schema(settings))


def _driver(settings: Settings) -> Iterator[Finding]:
    from sql.mssql import odbc_driver  # noqa: PLC0415 - as for the engine, only where it is chosen

    yield Finding(State.OK, "ODBC driver", odbc_driver(settings))


def _clock(settings: Settings, skew: float) -> Iterator[Finding]:
    text = f"the clocks of the database and this machine are {abs(skew):.1f} s apart"
    if abs(skew) < _SKEW_S:
        yield Finding(State.OK, "clock", text)
        return
    text += (
        f": {settings.database} is {'ahead' if skew > 0 else 'behind'}; synchronize both "
        "with NTP (chronyc tracking, timedatectl)"
    )
    yield Finding(State.FAIL, "clock", text)


def _schema(settings: Settings) -> Iterator[Finding]:
    open_database(settings).close()
    differing = differences(settings)
    if not differing:
        yield Finding(State.OK, "schema", "up to date")
        return
    more = f", and {len(differing) - 1} more" if len(differing) > 1 else ""
    text = f"{differing[0]}{more}: `python -m sql check` lists them"
    yield Finding(State.WARN, "schema", text)
