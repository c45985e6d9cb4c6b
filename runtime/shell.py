"""What every program of ours does around its work: log, files, signals, errors, exit codes.

Exit codes: 0 done, 1 failed, 78 will fail again until something outside is fixed (sysexits'
CONFIG), 130 stopped by Ctrl-C or SIGTERM.
"""

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from time import monotonic, sleep
from types import FrameType, TracebackType
from typing import ParamSpec

import typer

from contract.errors import NO_USE, IotError, SettingError, SetupError, error_of_ours
from runtime.log import configure_log, say
from runtime.private import keep_private

STOPPED = 130
_SLICE_S = 0.2
_Arguments = ParamSpec("_Arguments")


def begin() -> None:
    """Log to standard error, and keep the files that this process makes to its user."""
    configure_log()
    keep_private()


def exit_code(error: BaseException | None) -> int:
    """78 where starting again does not help, else 1."""
    return NO_USE if isinstance(error, SettingError | SetupError) else 1


def program(
    name: str, stopped: str = "stopped"
) -> Callable[[Callable[_Arguments, None]], Callable[_Arguments, None]]:
    """Make a function a program's command: errors of ours end it in one line and exit code 1,
    Ctrl-C and SIGTERM in the line `stopped` and 130. There is no traceback for either.
    """

    def decorate(command: Callable[_Arguments, None]) -> Callable[_Arguments, None]:
        @wraps(command)
        def run(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> None:
            begin()
            for number in (signal.SIGINT, signal.SIGTERM):  # a background job ignores SIGINT
                signal.signal(number, signal.default_int_handler)
            try:
                command(*arguments, **options)
            except IotError as error:
                say(f"{name}: {error}")
                raise typer.Exit(1) from error
            except KeyboardInterrupt as error:
                say(f"{name}: {stopped}")
                raise typer.Exit(STOPPED) from error

        return run

    return decorate


def report_uncaught(ours: Callable[[BaseException], IotError | None] = error_of_ours) -> None:
    """End this process with one line, and not with a traceback, where an error of ours is the cause
    of one that nothing has caught. `ours` finds it.
    """

    def report(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            sys.exit(STOPPED)
        cause = ours(error)
        if cause is None:
            sys.__excepthook__(kind, error, trace)
            return
        say(str(cause))
        sys.exit(exit_code(cause))

    sys.excepthook = report


def leave_at_once(number: int) -> None:
    """End this process as the signal would."""
    os._exit(128 + number)


class Stop:
    """Counts SIGTERM and SIGINT from now on, in place of what they do. The first asks the program
    to end in order; at a second one `again` is called with its number.
    """

    def __init__(self, again: Callable[[int], None] = leave_at_once) -> None:
        self.count = 0
        self._again = again
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    @property
    def asked(self) -> bool:
        """Whether the program is to end."""
        return self.count > 0

    def ask(self) -> None:
        """Ask as a signal does."""
        self.count += 1

    def wait(self, seconds: float) -> None:
        """Wait for so long, or until the program is to end."""
        until = monotonic() + seconds
        while not self.asked and (rest := until - monotonic()) > 0:
            sleep(min(rest, _SLICE_S))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            self._again(number)
