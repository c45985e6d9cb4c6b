"""Checks of this machine: ports, disks, open files."""

import resource
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage

from ops.doctor.finding import Finding, State
from ops.doctor.recovery import existing
from ops.status import EdgeStatus, Flow, Process, ServiceStatus, asked

_FILES = 4_096
_CLOCK_S = 2.0
"""How far an edge's clock may differ from the broker's."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port that one of our processes listens on."""

    number: int
    kind: type[Process]
    remedy: str


@dataclass(frozen=True, slots=True)
class DiskLimits:
    """Free bytes below which a disk is reported."""

    warn: int = 1 << 30
    fail: int = 100 << 20


def usual_ports(metrics_port: int) -> tuple[Port, ...]:
    """The ports of an edge, a flow and a prediction service."""
    return (
        Port(8001, EdgeStatus, "python -m ingest_edge --port"),
        Port(metrics_port, Flow, "iot run --metrics-port"),
        Port(8002, ServiceStatus, "python -m ml.service --port"),
    )


def check_ports(ports: Sequence[Port]) -> Iterator[Finding]:
    """Check that each port is free, or that the expected process listens on it."""
    names = {EdgeStatus: "an edge", Flow: "a flow", ServiceStatus: "a prediction service"}
    for port in ports:
        name = names[port.kind]
        process = asked(f"http://127.0.0.1:{port.number}")
        if isinstance(process, EdgeStatus) and abs(process.clock_ahead) >= _CLOCK_S:
            way = "ahead of" if process.clock_ahead > 0 else "behind"
            text = (
                f"the edge's clock is {abs(process.clock_ahead):.1f} s {way} the broker's: "
                "readings without a timestamp get a wrong time; synchronize both with NTP"
            )
            yield Finding(State.FAIL, "clock", text)
        if isinstance(process, port.kind):
            yield Finding(State.OK, "ports", f"{port.number}: {name} of ours is running on it")
        elif _free(port.number):
            yield Finding(State.OK, "ports", f"{port.number} is free for {name}")
        else:
            text = (
                f"{port.number} is taken by something other than {name}: stop that program "
                f"(ss -ltnp), or use another port ({port.remedy})"
            )
            yield Finding(State.FAIL, "ports", text)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def check_disks(paths: Sequence[Path], limits: DiskLimits) -> Iterator[Finding]:
    """Check the free space on the disk of each path."""
    for path in paths:
        free = disk_usage(existing(path)).free
        text = f"{free / 2**30:.1f} GiB free for {path}"
        if free >= limits.warn:
            yield Finding(State.OK, "disk", text)
        else:
            state = State.FAIL if free < limits.fail else State.WARN
            yield Finding(state, "disk", f"{text}: free some space, a full disk stops the flow")


def check_open_files() -> Iterator[Finding]:
    """Check how many connections an edge can have."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= _FILES:
        yield Finding(State.OK, "open files", "no limit" if limit < 0 else f"up to {limit}")
        return
    text = f"only {limit}, and each device connected to the edge needs one: raise ulimit -n"
    yield Finding(State.WARN, "open files", text)
