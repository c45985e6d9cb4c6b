"""Run the flow as processes and keep them running: `iot flow` (`iot run`).

Each process has a range of partitions and its own recovery store. With --cluster, all processes are
one Bytewax cluster with one store. A process that ends unexpectedly is restarted, after a pause
that doubles each time. After too many failures in a row everything stops with an error, and the
caller decides what to do.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import monotonic, sleep

import structlog

from contract.errors import NO_USE, SetupError
from contract.partitions import partitions_text
from contract.settings import Settings, same_environment
from dataflows.log import TopicWatch
from dataflows.log import group as group_of
from dataflows.state import arrange
from ops.children import ends_with, with_stack
from runtime.ending import end_of
from runtime.kafka import kafka_access
from runtime.shell import Stop
from runtime.topic import ensure_topic

METRICS_PORT = 9101
"""Default metrics port of the first process."""
_PAUSES_S = (0.5, 1, 2, 4, 8, 16, 30, 30)
"""Pauses before the first, second, ... restart after a failure. After the last one we give up."""
_STEADY_S = 60.0
"""A process that ran for this long resets the count of failures in a row."""
_LOOK_S = 0.1
_log = structlog.get_logger("run")


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What to run, and how."""

    recovery: Path
    """The recovery directory."""
    processes: int
    cluster: bool
    """One Bytewax cluster, instead of independent processes."""
    metrics_port: int
    """Port of the first process. Each further process has the next port."""
    snapshot_seconds: int


class _Group:
    """Processes that run together: a single one, or those of a cluster, which depend on each other.

    `members` are their command lines and environments.
    """

    def __init__(self, name: str, members: list[tuple[list[str], dict[str, str]]]) -> None:
        self._name = name
        self._members = members
        self._failures = 0
        self._started_at = 0.0
        self._start_at = 0.0
        self.running: list[subprocess.Popen[bytes]] = []

    def look_after(self) -> None:
        """Start the processes if they are not running and the pause is over.

        Raises:
            SetupError: they failed too often in a row, or reported that they cannot run.
        """
        if any(process.poll() is not None for process in self.running):
            self._failed()
        if not self.running and monotonic() >= self._start_at:
            self._started_at = monotonic()
            for command, environment in self._members:
                self.running.append(_started(command, environment))
                _log.info("flow process started", flow=self._name, pid=self.running[-1].pid)

    def kill(self) -> None:
        """Kill the processes."""
        for process in self.running:
            process.kill()
            process.wait()

    def _failed(self) -> None:
        sleep(_LOOK_S)  # other cluster members may be about to report the cause
        codes = [code for process in self.running if (code := process.poll()) is not None]
        self.kill()
        self.running = []
        now = monotonic()
        self._failures = 1 if now - self._started_at > _STEADY_S else self._failures + 1
        if NO_USE in codes:
            raise SetupError(f"the flow of {self._name} cannot run: see its last log line above")
        if self._failures > len(_PAUSES_S):
            raise SetupError(
                f"the flow of {self._name} failed {self._failures} times in a row, and last "
                f"{end_of(codes[0])}: see its last log lines above"
            )
        pause = _PAUSES_S[self._failures - 1]
        _log.error(
            "the flow ended, restarting it",
            flow=self._name,
            code=codes[0],
            how=end_of(codes[0]),
            in_s=pause,
        )
        self._start_at = now + pause


def _started(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us: we stop them in order
        preexec_fn=ends_with(os.getpid()) if sys.platform == "linux" else None,  # noqa: PLW1509
    )


def run(settings: Settings, plan: FleetPlan) -> None:
    """Keep the flow running until SIGTERM or Ctrl-C.

    The first signal stops every process gracefully, a second signal kills them.

    Raises:
        IotError: see its subclasses. No process is running any more.
    """
    stop = Stop(again=lambda _: None)  # a second signal kills them, see `_end`
    groups, watch = _groups(settings, plan), _watch(settings)
    try:
        while not stop.asked:
            for group in groups:
                group.look_after()
            sleep(_LOOK_S)
            if watch is not None and watch.grown:
                _end(groups, stop)
                groups, watch = _groups(settings, plan), _watch(settings)
    except SetupError as error:  # logged before the others end: they may wait for the database
        _log.error("giving up, stopping the other processes", reason=str(error))
        raise
    finally:
        _end(groups, stop)


def _watch(settings: Settings) -> TopicWatch | None:
    """Watches for new partitions, if the processes read all partitions."""
    if settings.partitions is not None:
        return None
    topic = settings.kafka_topic
    return TopicWatch(kafka_access(settings), topic, group_of(topic), None)


def _groups(settings: Settings, plan: FleetPlan) -> list[_Group]:
    topic = settings.kafka_topic
    count = ensure_topic(kafka_access(settings), topic)
    partitions = settings.partitions or frozenset(range(count))
    if missing := partitions - frozenset(range(count)):  # checked before state moves
        raise SetupError(
            f"KAFKA_PARTITIONS: the topic {topic} has no partition {partitions_text(missing)}; "
            f"it has {count}, numbered from 0"
        )
    ranges = [partitions] if plan.cluster else split(partitions, plan.processes)
    directories = arrange(plan.recovery, topic, ranges)
    members = []
    for index in range(plan.processes):
        directory = directories[0 if plan.cluster else index]
        command = [
            sys.executable, "-m", "bytewax.run", "dataflows.readings:flow()",
            "-r", str(directory), "-s", str(plan.snapshot_seconds), "-b", "0",
        ]  # fmt: skip
        values = {
            "KAFKA_PARTITIONS": directory.name,
            "METRICS_PORT": str(plan.metrics_port + index),
        }
        members.append((command, with_stack(same_environment(values))))
    if not plan.cluster:
        return [
            _Group(f"partitions {directory.name}", [member])
            for directory, member in zip(directories, members, strict=True)
        ]
    addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(plan.processes))
    for index, (command, _) in enumerate(members):
        command += ["-i", str(index), "-a", addresses]
    return [_Group("the cluster", members)]


def split(partitions: frozenset[int], processes: int) -> list[frozenset[int]]:
    """Split the partitions into `processes` ranges, as evenly as possible.

    Raises:
        SetupError: there are more processes than partitions.

    >>> from contract.partitions import partitions_text
    >>> [partitions_text(part) for part in split(frozenset(range(12)), 5)]
    ['0-2', '3-5', '6-7', '8-9', '10-11']
    """
    if processes > len(partitions):
        raise SetupError(
            f"--processes: {processes} processes cannot share {len(partitions)} partitions; each "
            "process needs at least one"
        )
    ordered = sorted(partitions)
    each, more = divmod(len(ordered), processes)
    ends = [each * index + min(index, more) for index in range(processes + 1)]
    return [frozenset(ordered[a:b]) for a, b in pairwise(ends)]


def _end(groups: Sequence[_Group], stop: Stop) -> None:
    """Terminate all processes and wait until they end. Kill them at a second signal."""
    running = [process for group in groups for process in group.running]
    for process in running:
        process.terminate()
    while any(process.poll() is None for process in running):
        if stop.count > 1:
            for group in groups:
                group.kill()
        sleep(_LOOK_S)


def free_ports(count: int) -> list[int]:
    """Return `count` ports of this machine that are free now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
