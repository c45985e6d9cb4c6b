"""The processes that a command starts: none outlives it, and one that dies is told about."""

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
    """A process of ours and the file that has its standard error."""

    name: str
    process: subprocess.Popen[str]
    log: Path


class Children:
    """Starts processes, and ends them in reverse order when the block is left, however it is left.

    On Linux the kernel ends them too when the parent is killed.
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
        """Start `python -m module arguments`; its output goes to `NAME.log`, standard output of
        it can be read from the process. A service answers on `listener` when one is given.
        """
        handed_on = [] if listener is None else [listener.fileno()]
        options = [f"--inherited-socket={descriptor}" for descriptor in handed_on]
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
                pass_fds=handed_on,
                start_new_session=True,  # Ctrl-C is ours: we end them in order
                # started from the main thread, before there are others
                preexec_fn=ends_with(os.getpid()) if sys.platform == "linux" else None,  # noqa: PLW1509
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raise `SetupError` with the last lines of its log when a process has ended by itself."""
        for child in self._children:
            code = child.process.poll()
            if code is not None:
                lines = child.log.read_text(encoding="utf-8", errors="replace").splitlines()
                last = (
                    " / ".join([line for line in lines if line.strip()][-2:]) or "it said nothing"
                )
                raise SetupError(f"the process {child.name} {end_of(code)}: {last}")

    def stop(self, child: Child) -> None:
        """Ask the process to end, and make it after 10 s."""
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
    """The environment for a process that writes its stack to standard error when it crashes."""
    return {**environment, "PYTHONFAULTHANDLER": "1"}


def ends_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes its program, so that it ends when `parent` does: on Linux
    only, and started from the main thread before there are others.
    """
    pr_set_pdeathsig = 1
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before we could ask
            os._exit(1)

    return prepare
