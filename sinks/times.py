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
    first = np.flatnonzero(np.diff(ms, prepend=ms[:1] - 1))
    text = np.datetime_as_string(ms[first].astype("datetime64[ms]"))
    letters = text.view(np.uint32).reshape(len(first), text.itemsize // 4)
    letters[:, 10] = ord(" ")  # for a T
    return np.repeat(text.astype(object), np.diff(first, append=len(ms)))


def text_of(ms: int) -> str:
    """The same of one time.

    >>> text_of(1732442400007)
    '2024-11-24 10:00:00.007'
    """
    return str(as_text(np.array([ms])).item())
