"""Several processes on one port: a parent that serves nothing, and its workers.

The parent binds the port and passes the socket to each worker. So a taken port is reported once,
before anything starts. A worker that dies takes no waiting connections with it, as it would if each
worker had its own queue (`SO_REUSEPORT`). Its successor needs no address. The first worker starts
alone: an error that stops it would stop the others too, and is reported once.

The workers' metrics are added up through files in a temporary directory that only the owner can
read (prometheus_client's multiprocess mode), so a counter does not drop when a worker dies. A
worker stops gracefully when its parent is gone, because its standard input ends.
"""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from shutil import rmtree
from tempfile import mkdtemp
from threading import Thread
from time import monotonic, sleep

import structlog
from prometheus_client.multiprocess import mark_process_dead

from contract.errors import NO_USE
from contract.settings import same_environment
from runtime.ending import end_of
from runtime.shell import Stop

_PAUSES_S = (0.5, 1, 2, 4, 8, 16, 30, 30)
"""Pauses before the first, second, ... restart after a failure. After the last one we give up."""
_STEADY_S = 60.0
"""A worker that ran for this long resets the count of failures in a row."""
_LOOK_S = 0.1
_STOP_S = 30.0
"""How long workers may take to stop: 15 s for requests in flight, then 10 s for the broker."""
_log = structlog.get_logger("workers")


def run_workers(command: Sequence[str], count: int, listener: socket.socket) -> int:
    """Keep `count` workers running until SIGTERM or Ctrl-C, and return the exit code.

    The number of the inherited socket is appended to `command`. A second signal kills the workers.
    """
    metrics = mkdtemp(prefix="iot-metrics-")  # mode 0700
    stop = Stop(again=lambda _: None)  # a second signal kills them, see `_end`
    environment = same_environment({"PROMETHEUS_MULTIPROC_DIR": metrics})
    start = _Start([*command, str(listener.fileno())], environment, metrics, listener)
    workers = [_Worker(index, start) for index in range(count)]
    try:
        while not stop.asked:
            for worker in workers:
                code = worker.look_after()
                if code is not None:
                    return code
                if not worker.has_worked:  # the others start when it works
                    break
            sleep(_LOOK_S)
        return 0
    finally:
        _end(workers, stop)
        rmtree(metrics, ignore_errors=True)


def become_worker(descriptor: int) -> tuple[socket.socket, Callable[[], None]]:
    """In a worker: return the inherited socket, and what to call when it accepts connections."""
    Thread(target=_end_with_parent, name="parent", daemon=True).start()

    def ready() -> None:
        os.write(sys.stdout.fileno(), b"ready\n")

    return socket.socket(fileno=descriptor), ready


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class _Start:
    command: Sequence[str]
    environment: dict[str, str]
    metrics: str
    listener: socket.socket

    def __call__(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.command,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self.listener.fileno()],
            start_new_session=True,  # Ctrl-C is for us: we stop them in order
        )


@dataclass(slots=True)
class _Worker:
    index: int
    start: _Start
    ready: bool = False
    """Whether the process accepts connections."""
    has_worked: bool = False
    """Whether any of its processes accepted connections."""
    process: "subprocess.Popen[bytes] | None" = None
    failures: int = 0
    start_at: float = field(default_factory=monotonic)
    started_at: float = 0.0

    def look_after(self) -> int | None:
        """Start the process if it is not running and the pause is over.

        Returns the exit code if it must not be restarted.
        """
        if self.process is None:
            if monotonic() >= self.start_at:
                self.started_at = monotonic()
                self.process = self.start()
            return None
        code = self.process.poll()
        if code is not None:
            return self._ended(self.process, code)
        assert self.process.stdout is not None
        if not self.ready and select.select([self.process.stdout], [], [], 0)[0]:
            self.ready = bool(os.read(self.process.stdout.fileno(), 16))
            if self.ready:
                self.has_worked = True
                _log.info("worker ready", worker=self.index, pid=self.process.pid)
        return None

    def _ended(self, process: "subprocess.Popen[bytes]", code: int) -> int | None:
        _close(process)
        self.process, self.ready = None, False
        mark_process_dead(process.pid, self.start.metrics)  # type: ignore[no-untyped-call]
        if code == NO_USE or not self.has_worked:  # its last log line says why
            return code if code > 0 else 1
        self.failures = 1 if monotonic() - self.started_at > _STEADY_S else self.failures + 1
        if self.failures > len(_PAUSES_S):
            _log.error("a worker failed too often in a row, giving up", how=end_of(code))
            return 1
        pause = _PAUSES_S[self.failures - 1]
        _log.error("worker ended, restarting it", pid=process.pid, how=end_of(code), in_s=pause)
        self.start_at = monotonic() + pause
        return None


def _close(process: "subprocess.Popen[bytes]") -> None:
    """Close our ends of the pipes."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _end(workers: Sequence[_Worker], stop: Stop) -> None:
    running = [worker.process for worker in workers if worker.process is not None]
    for process in running:
        process.terminate()
    end = monotonic() + _STOP_S
    while any(process.poll() is None for process in running):
        if stop.count > 1 or monotonic() > end:
            for process in running:
                process.kill()
        sleep(_LOOK_S)
    for process in running:
        _close(process)
