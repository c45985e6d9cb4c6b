"""How a process ended, in words."""

import signal


def end_of(code: int) -> str:
    """Describe how a process ended, from its return code in `Popen`.

    >>> end_of(3), end_of(-11)
    ('ended with code 3', 'died of SIGSEGV')
    """
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"died of signal {-code}"
