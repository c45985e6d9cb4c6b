"""Formats times for both databases."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.columns import Ints


def as_text(ms: Ints) -> NDArray[Any]:
    """(N,) of str: epoch milliseconds UTC, formatted like datetime2(3). Fast if equal times are
    adjacent, as in a packet.

    >>> as_text(np.array([1732442400007])).tolist()
    ['2024-11-24 10:00:00.007']
    """
    return _as_text(ms, "ms")


def microseconds_as_text(us: Ints) -> NDArray[Any]:
    """(N,) of str: epoch microseconds UTC, with three decimals if that is exact, else six. The
    texts sort like the times, and equal times have equal texts.

    >>> microseconds_as_text(np.array([1732442400007000, 1732442400007001])).tolist()
    ['2024-11-24 10:00:00.007', '2024-11-24 10:00:00.007001']
    """
    ms, rest = np.divmod(us, 1000)
    if not rest.any():
        return as_text(ms)
    return np.where(rest == 0, as_text(ms), _as_text(us, "us"))


def text_of(ms: int) -> str:
    """Format one time in milliseconds.

    >>> text_of(1732442400007)
    '2024-11-24 10:00:00.007'
    """
    return str(as_text(np.array([ms])).item())


def _as_text(times: Ints, unit: str) -> NDArray[Any]:
    first = np.flatnonzero(np.diff(times, prepend=times[:1] - 1))
    text = np.datetime_as_string(times[first].astype(f"datetime64[{unit}]"))
    letters = text.view(np.uint32).reshape(len(first), text.itemsize // 4)
    letters[:, 10] = ord(" ")  # replaces the T
    return np.repeat(text.astype(object), np.diff(first, append=len(times)))
