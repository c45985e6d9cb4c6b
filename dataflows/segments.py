"""Segments of sorted arrays: runs of equal values."""

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints


def begins(*columns: Ints | Floats) -> NDArray[np.bool_]:
    """(N,) whether a segment begins here: any of the columns differs from the element before.

    >>> begins(np.array([3, 3, 4]), np.array([7, 8, 8])).tolist()
    [True, True, True]
    >>> begins(np.array([3, 3, 4])).tolist()
    [True, False, True]
    """
    first = np.ones(len(columns[0]), bool)
    if len(first):
        first[1:] = columns[0][1:] != columns[0][:-1]
        for column in columns[1:]:
            first[1:] |= column[1:] != column[:-1]
    return first


def lengths(starts: NDArray[np.intp], total: int) -> NDArray[np.intp]:
    """(R,) the lengths of the segments that begin at `starts`, in an array of length `total`.

    >>> lengths(np.array([0, 2]), 5).tolist()
    [2, 3]
    """
    return np.diff(starts, append=total)
