"""All checks, in the order in which an operator would make them."""

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
    """Look at everything that a pipeline on this machine needs, and change nothing.

    A check that breaks is told as it is and ends no other; where a setting is wrong, what needs no
    settings is looked at all the same. `ports` are the usual ones, and `now` is this machine's
    clock, epoch seconds.
    """
    settings: Settings | None = None
    try:
        settings = load_settings()
    except SettingError as error:
        yield Finding(State.FAIL, "settings", f"{error}: broker and database are not looked at")
    disks = [recovery]
    if settings is not None:
        yield Finding(State.OK, "settings", f"read; the database is {settings.engine}")
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
        text = "INGEST_API_KEY is not set: anyone who reaches the edge may post"
        yield Finding(State.WARN, "key", text)
    else:
        yield Finding(State.OK, "key", "INGEST_API_KEY is set")
