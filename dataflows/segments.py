"""Arrays whose equal values stand together, and columns that grow with the number of rows."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints

_Scalar = TypeVar("_Scalar", bound=np.generic)


def begins(*columns: Ints | Floats) -> NDArray[np.bool_]:
    """(N,) whether a run of equal values, of all columns together, begins here.

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
    """(R,) how long the runs that begin at `starts` are, of an array of `total`.

    >>> lengths(np.array([0, 2]), 5).tolist()
    [2, 3]
    """
    return np.diff(starts, append=total)


def grown(column: NDArray[_Scalar], size: int, value: Any) -> NDArray[_Scalar]:
    """The column with a last axis of `size`; what is new of it is `value`. The same array where
    nothing is.
    """
    new = size - column.shape[-1]
    if not new:
        return column
    more = np.full((*column.shape[:-1], new), value, column.dtype)
    return np.concatenate((column, more), axis=-1)
