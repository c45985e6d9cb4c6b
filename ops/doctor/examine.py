"""All checks, in the order in which an operator would run them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import time

from contract.errors import SettingError
from contract.settings import Settings, load_settings
from ops.doctor.broker import check_broker
from ops.doctor.database import check_database
from ops.doctor.finding import Finding, State, guarded
from ops.doctor.machine import (
    DiskLimits,
    Port,
    check_disks,
    check_open_files,
    check_ports,
    usual_ports,
)
from ops.doctor.recovery import check_recovery
from ops.run import METRICS_PORT


def examine(
    recovery: Path,
    limits: DiskLimits | None = None,
    ports: Sequence[Port] | None = None,
    now: Callable[[], float] = time,
) -> Iterator[Finding]:
    """Check everything that a pipeline on this machine needs. Changes nothing.

    A check that raises is reported, and the other checks still run. If a setting is wrong, the
    checks that need no settings still run. `ports` defaults to `usual_ports`, and `now` is this
    machine's clock, in epoch seconds.
    """
    settings: Settings | None = None
    try:
        settings = load_settings()
    except SettingError as error:
        yield Finding(State.FAIL, "settings", f"{error}: broker and database are not checked")
    disks = [recovery]
    if settings is not None:
        yield Finding(State.OK, "settings", f"valid; the database is {settings.engine}")
        yield from _key(settings)
        yield from guarded("broker", check_broker(settings))
        yield from guarded("database", check_database(settings, now))
        if settings.engine == "sqlite":
            disks.append(settings.iot_sqlite_path)
    yield from guarded("recovery", check_recovery(recovery))
    yield from guarded("disk", check_disks(disks, limits or DiskLimits()))
    port = METRICS_PORT if settings is None else settings.metrics_port or METRICS_PORT
    yield from guarded("ports", check_ports(ports or usual_ports(port)))
    yield from guarded("open files", check_open_files())


def _key(settings: Settings) -> Iterator[Finding]:
    if settings.ingest_api_key is None:
        text = "INGEST_API_KEY is not set: anyone who can reach the edge can post"
        yield Finding(State.WARN, "key", text)
    else:
        yield Finding(State.OK, "key", "INGEST_API_KEY is set")
