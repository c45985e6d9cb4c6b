"""`python -m tests.clocks FILE MODULE ARGUMENTS...`: a program of ours on a machine whose clock is
wrong by as many seconds as FILE says, which is read again at each look: a step of the clock is a
change of the file. The monotonic clock is as it is.
"""

import runpy
import sys
import time
from contextlib import suppress
from pathlib import Path


def main() -> None:
    """Set the clock, and become the program."""
    _, file, module, *arguments = sys.argv
    real, real_ns, place = time.time, time.time_ns, Path(file)
    last = [0.0]

    def skew() -> float:
        with suppress(OSError, ValueError):  # it is being written
            last[0] = float(place.read_text())
        return last[0]

    time.time = lambda: real() + skew()
    time.time_ns = lambda: real_ns() + int(skew() * 1_000_000_000)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
