"""Times as both databases take them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.columns import Ints


def as_text(ms: Ints) -> NDArray[Any]:
    """(N,) of str, epoch milliseconds UTC as datetime2(3) shows them. Cheap where equal times stand
    together, as those of a packet do.

    >>> as_text(np.array([1732442400007])).tolist()
    ['2024-11-24 10:00:00.007']
    """
    return _as_text(ms, "ms")


def microseconds_as_text(us: Ints) -> NDArray[Any]:
    """(N,) of str, epoch microseconds UTC: three decimals where they say it all, else six. Such
    texts sort as their times do, and an equal time has always the same one.

    >>> microseconds_as_text(np.array([1732442400007000, 1732442400007001])).tolist()
    ['2024-11-24 10:00:00.007', '2024-11-24 10:00:00.007001']
    """
    ms, rest = np.divmod(us, 1000)
    if not rest.any():
        return as_text(ms)
    return np.where(rest == 0, as_text(ms), _as_text(us, "us"))


def text_of(ms: int) -> str:
    """The text of one time in milliseconds.

    >>> text_of(1732442400007)
    '2024-11-24 10:00:00.007'
    """
    return str(as_text(np.array([ms])).item())


def _as_text(times: Ints, unit: str) -> NDArray[Any]:
    first = np.flatnonzero(np.diff(times, prepend=times[:1] - 1))
    text = np.datetime_as_string(times[first].astype(f"datetime64[{unit}]"))
    letters = text.view(np.uint32).reshape(len(first), text.itemsize // 4)
    letters[:, 10] = ord(" ")  # for a T
    return np.repeat(text.astype(object), np.diff(first, append=len(times)))
