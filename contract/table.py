"""Named columns that grow by rows: how everything that lives longer than a piece is kept.

A class names its columns, and single values beside them:

>>> class Levels(Table):
...     level: Ints = column(np.int8, 0)
...     gaps: Ints = column(np.int64, 0, shape=(4, ROWS))
...     late: int = single(0)
>>> levels = Levels()
>>> levels.grow(3)
>>> levels.level.tolist(), levels.gaps.shape
([0, 0, 0], (4, 3))

A snapshot says itself what it is made of, so no version number is kept in step by hand. Columns
that were added since are filled for the rows that are there. Whatever else differs is refused.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from contract.columns import Ints
from contract.errors import SetupError

ROWS = -1
"""Stands for the number of rows in a shape."""

Snapshot = dict[str, Any]
"""The columns and single values of a table by their names: plain values, and arrays; of a block its
fields and one array."""


@dataclass(frozen=True, slots=True)
class _Column:
    dtype: np.dtype[Any]
    fill: Any
    shape: tuple[int, ...]
    stored: np.dtype[Any]

    def fits(self, array: Any) -> bool:
        """Whether `array` is this column as a snapshot has it."""
        return (
            isinstance(array, np.ndarray)
            and array.dtype == self.stored
            and array.ndim == len(self.shape)
            and all(
                wanted in {size, ROWS} for wanted, size in zip(self.shape, array.shape, strict=True)
            )
        )

    def __str__(self) -> str:
        sizes = ", ".join("rows" if size == ROWS else str(size) for size in self.shape)
        return f"{self.stored.name} ({sizes})"

    def filled(self, rows: int) -> NDArray[Any]:
        """So many new rows."""
        shape = [rows if size == ROWS else size for size in self.shape]
        return np.full(shape, self.fill, self.dtype)


@dataclass(frozen=True, slots=True)
class _Block:
    fields: Mapping[str, float]
    """The fill of each, by name."""
    shape: tuple[int, ...]

    @property
    def axis(self) -> int:
        """Of the rows."""
        return self.shape.index(ROWS) + 1

    def filled(self, rows: int) -> NDArray[Any]:
        """So many new rows."""
        shape = [rows if size == ROWS else size for size in self.shape]
        return np.stack([np.full(shape, fill) for fill in self.fields.values()])

    def aligned(self, stored: tuple[tuple[str, ...], NDArray[Any]]) -> NDArray[Any]:
        """The array of a snapshot, by its own fields, as this block has them."""
        names, array = stored
        filled = self.filled(array.shape[self.axis])
        for index, name in enumerate(self.fields):
            if name in names:
                filled[index] = array[names.index(name)]
        return filled


@dataclass(frozen=True, slots=True)
class _Single:
    start: Any


def column(
    dtype: DTypeLike, fill: Any, shape: tuple[int, ...] = (ROWS,), stored: DTypeLike | None = None
) -> Any:
    """A column of `shape`, in which `ROWS` stands for the rows; a new row has `fill`. A snapshot
    has it as `stored`, where that is given and every value fits.
    """
    kind = np.dtype(dtype)
    return _Column(kind, fill, shape, kind if stored is None else np.dtype(stored))


def block(fields: Mapping[str, float], shape: tuple[int, ...] = (ROWS,)) -> Any:
    """Columns of float64 with one `shape`, as one array (fields, *shape), for what is taken and
    written together. `fields` has the fill of each by its name. A snapshot has the names with the
    array, so that fields can be added as columns are.
    """
    return _Block(fields, shape)


def fields_of(**parts: Iterable[str]) -> Iterator[str]:
    """The names of the fields of a block's parts.

    >>> list(fields_of(level=("mean", "size"), noise=("mean",)))
    ['level.mean', 'level.size', 'noise.mean']
    """
    for part, names in parts.items():
        for name in names:
            yield f"{part}.{name}"


def single(start: Any) -> Any:
    """A value that the table has once; `start` is what it begins with."""
    return _Single(start)


class Table:
    """Base of all states. A new table has no rows."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        """`shapes` are those of columns whose sizes are known only now."""
        self._size = 0
        self._columns: dict[str, _Column] = {}
        self._blocks: dict[str, _Block] = {}
        self._singles: dict[str, Any] = {}
        for kind in reversed(type(self).__mro__):
            for name, declared in vars(kind).items():
                if isinstance(declared, _Column):
                    shape = shapes.get(name, declared.shape)
                    self._columns[name] = _Column(
                        declared.dtype, declared.fill, shape, declared.stored
                    )
                elif isinstance(declared, _Block):
                    self._blocks[name] = declared
                elif isinstance(declared, _Single):
                    self._singles[name] = declared.start
        for name, start in self._singles.items():
            setattr(self, name, start)
        for name, array in self._filled(0).items():
            setattr(self, name, array)

    @property
    def columns(self) -> list[str]:
        """The names of all columns and blocks."""
        return [*self._columns, *self._blocks]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self._size

    def grow(self, rows: int) -> None:
        """Grow to `rows` rows; nothing happens where there are as many."""
        if rows != self._size:
            self._join(self._filled(rows - self._size), rows)

    def append(self, **columns: NDArray[Any]) -> None:
        """Add rows, which have the fill where no column is given."""
        new = len(next(iter(columns.values())))
        self._join(self._filled(new) | columns, self._size + new)

    def keep(self, rows: Ints | NDArray[np.intp] | NDArray[np.bool_]) -> None:
        """Keep these rows only, in this order."""
        for name, axis in self._axes().items():
            array = getattr(self, name)
            kept = array[rows] if axis == 0 else array[(slice(None),) * axis + (rows,)]
            setattr(self, name, kept)
            self._size = len(kept) if axis == 0 else kept.shape[axis]

    def settle(self) -> None:
        """Bring the columns up to date; called before each snapshot."""

    def snapshot(self) -> Snapshot:
        """A copy of all columns and single values."""
        self.settle()
        found: Snapshot = {name: getattr(self, name) for name in self._singles}
        for name, declared in self._columns.items():
            found[name] = getattr(self, name).astype(declared.stored)
        for name, parts in self._blocks.items():
            found[name] = (tuple(parts.fields), getattr(self, name).copy())
        return found

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Take over a copy of what a snapshot has; columns that it lacks get their fill.

        Raises:
            SetupError: it has columns that this table lacks, or columns of another kind.
        """
        rows = 0
        for name, value in snapshot.items():
            self._check(name, value)
            if (axis := self._axes().get(name)) is not None:
                rows = (value[1] if name in self._blocks else value).shape[axis]
        for name, start in self._singles.items():
            setattr(self, name, snapshot.get(name, start))
        arrays = self._filled(rows)
        for name in arrays.keys() & snapshot.keys():
            value = snapshot[name]
            if name in self._blocks:
                arrays[name] = self._blocks[name].aligned(value)
            else:
                arrays[name] = value.astype(self._columns[name].dtype)
        for name, array in arrays.items():
            setattr(self, name, array)
        self._size = rows

    def _check(self, name: str, value: Any) -> None:
        """See that a column or a single value of a snapshot is one of this table's."""
        schema = self.schema()
        if name not in schema:
            raise SetupError(f"it has {name}, which this version does not know")
        if name in self._blocks:
            names, array = value
            parts = self._blocks[name]
            if unknown := [field for field in names if field not in parts.fields]:
                raise SetupError(f"it has {name}.{unknown[0]}, which this version does not know")
            column = _Column(array.dtype, 0.0, (len(names), *parts.shape), np.dtype(np.float64))
            fits, value = column.fits(array), array
        elif name in self._columns:
            fits = self._columns[name].fits(value)
        else:
            fits = type(value) is type(self._singles[name])
        if not fits:
            raise SetupError(f"it has {_kind(value)} as {name}, and not {schema[name]}")

    def schema(self) -> dict[str, str]:
        """What a snapshot is made of: each column and single value by its name, as text."""
        columns = {name: str(declared) for name, declared in self._columns.items()}
        blocks = {
            name: f"float64 ({', '.join(parts.fields)}) {parts.shape}"
            for name, parts in self._blocks.items()
        }
        singles = {name: type(start).__name__ for name, start in self._singles.items()}
        return singles | columns | blocks

    def _filled(self, rows: int) -> dict[str, NDArray[Any]]:
        return {
            name: declared.filled(rows) for name, declared in (self._columns | self._blocks).items()
        }

    def _axes(self) -> dict[str, int]:
        """Of each array, the axis of its rows."""
        axes = {name: declared.shape.index(ROWS) for name, declared in self._columns.items()}
        return axes | {name: parts.axis for name, parts in self._blocks.items()}

    def _join(self, new: Mapping[str, NDArray[Any]], rows: int) -> None:
        for name, axis in self._axes().items():
            setattr(self, name, np.concatenate((getattr(self, name), new[name]), axis=axis))
        self._size = rows


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype.name} {value.shape}"
    return type(value).__name__


def snapshot_of(tables: Mapping[str, Table]) -> dict[str, Snapshot]:
    """The snapshots of tables by their names."""
    return {name: table.snapshot() for name, table in tables.items()}


def restore(tables: Mapping[str, Table], snapshot: Mapping[str, Snapshot]) -> None:
    """Give each table its snapshot; one that has none stays as it is.

    A name with a slash has a parameter behind it, as `rollups/60000`. A snapshot under another
    parameter is left out.

    Raises:
        SetupError: there is a snapshot of a table that is none of these, or that does not fit.
    """
    known = {name.partition("/")[0] for name in tables}
    for name, state in snapshot.items():
        if name.partition("/")[0] not in known:
            raise _no_fit(name, "this version does not know it")
        if name not in tables:
            continue
        try:
            tables[name].restore(state)
        except SetupError as error:
            raise _no_fit(name, str(error)) from error


def _no_fit(name: str, why: str) -> SetupError:
    return SetupError(
        "the recovery directory was written by another version of this program, whose state does "
        f"not fit this one ({name}: {why}): start with a new directory. The flow then takes the "
        "topic from START_FROM on; what is stored is not stored again"
    )


def fingerprint(tables: Mapping[str, Table]) -> str:
    """16 hexadecimal digits that stand for the names and kinds of everything in a snapshot."""
    text = repr(sorted((name, sorted(table.schema().items())) for name, table in tables.items()))
    return blake2b(text.encode(), digest_size=8).hexdigest()


def bytes_of(tables: Mapping[str, Table]) -> int:
    """How large all columns are together, in bytes."""
    return sum(getattr(table, name).nbytes for table in tables.values() for name in table.columns)
