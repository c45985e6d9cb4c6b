"""What all our programs share: log, file modes, signals, errors, exit codes.

Exit codes: 0 done, 1 failed, 78 fails again until something outside is fixed (sysexits' CONFIG),
130 stopped by Ctrl-C or SIGTERM.
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
    """Log to standard error, and make new files readable by this user only."""
    configure_log()
    keep_private()


def exit_code(error: BaseException | None) -> int:
    """78 if a restart does not help, else 1."""
    return NO_USE if isinstance(error, SettingError | SetupError) else 1


def program(
    name: str, stopped: str = "stopped"
) -> Callable[[Callable[_Arguments, None]], Callable[_Arguments, None]]:
    """Decorate the command of a program.

    An error of ours is printed in one line, with exit code 1. Ctrl-C and SIGTERM print `stopped`,
    with exit code 130. Neither prints a traceback.
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
    """Replace the traceback of an uncaught error with one line, if an error of ours is the cause.

    `ours` finds the cause.
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
    """Counts SIGTERM and SIGINT instead of their default action.

    The first signal asks the program to stop gracefully. The second calls `again` with its number.
    """

    def __init__(self, again: Callable[[int], None] = leave_at_once) -> None:
        self.count = 0
        self._again = again
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    @property
    def asked(self) -> bool:
        """Whether the program should stop."""
        return self.count > 0

    def ask(self) -> None:
        """Ask the program to stop, as a signal does."""
        self.count += 1

    def wait(self, seconds: float) -> None:
        """Wait for `seconds`, or until the program should stop."""
        until = monotonic() + seconds
        while not self.asked and (rest := until - monotonic()) > 0:
            sleep(min(rest, _SLICE_S))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            self._again(number)
