"""Free ports for the programs that tests start."""

import os
import socket
from contextlib import ExitStack, suppress
from itertools import count

_LOWEST, _EACH, _SHARES = 12_000, 2_000, 10
"""Below the ports of outgoing connections, which could take a port before its program does."""
_turns = count(os.getpid())


def free_ports(number: int = 1) -> int:
    """The first of `number` ports in a row that are free.

    The workers of pytest-xdist use different ranges, and a process does not return the same port
    twice before it has returned all others.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", f"gw{os.getpid()}").removeprefix("gw")
    lowest = _LOWEST + int(worker) % _SHARES * _EACH
    for turn in _turns:
        first = lowest + turn * 8 % (_EACH - number)
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + number):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise AssertionError("unreachable")
