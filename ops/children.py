"""The processes that a command starts: none outlives it, and one that dies is reported."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from contract.errors import SetupError
from runtime.ending import end_of

_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Child:
    """A child process and the file with its standard error."""

    name: str
    process: subprocess.Popen[str]
    log: Path


class Children:
    """Starts processes, and stops them in reverse order on every exit from the block.

    On Linux the kernel also kills them when the parent is killed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    def __enter__(self) -> "Children":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in reversed(self._children):
            self.stop(child)

    def start(
        self,
        name: str,
        module: str,
        *arguments: str,
        env: Mapping[str, str],
        listener: socket.socket | None = None,
    ) -> Child:
        """Start `python -m module arguments`.

        Standard error goes to `NAME.log`. Standard output can be read from the process. A service
        listens on `listener` if one is given.
        """
        inherited = [] if listener is None else [listener.fileno()]
        options = [f"--inherited-socket={descriptor}" for descriptor in inherited]
        log = self._folder / f"{name}.log"
        try:
            stderr = log.open("a", encoding="utf-8")
        except OSError as error:
            raise SetupError(f"{log} cannot be written: {error.strerror}") from error
        with stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments, *options],
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                pass_fds=inherited,
                start_new_session=True,  # Ctrl-C is for us: we stop them in order
                # called from the main thread, before there are other threads
                preexec_fn=ends_with(os.getpid()) if sys.platform == "linux" else None,  # noqa: PLW1509
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raise `SetupError` with the last lines of the log if a process has ended unexpectedly."""
        for child in self._children:
            code = child.process.poll()
            if code is not None:
                lines = child.log.read_text(encoding="utf-8", errors="replace").splitlines()
                last = (
                    " / ".join([line for line in lines if line.strip()][-2:]) or "its log is empty"
                )
                raise SetupError(f"the process {child.name} {end_of(code)}: {last}")

    def stop(self, child: Child) -> None:
        """Terminate the process, and kill it after 10 s."""
        if child in self._children:
            self._children.remove(child)
        process = child.process
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


def with_stack(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that writes its stack to standard error if it crashes."""
    return {**environment, "PYTHONFAULTHANDLER": "1"}


def ends_with(parent: int) -> Callable[[], None]:
    """A `preexec_fn` for a child process that must end when `parent` does.

    Works on Linux only. The child must be started from the main thread, before there are others.
    """
    pr_set_pdeathsig = 1
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the call
            os._exit(1)

    return prepare
