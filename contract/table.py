"""Tables of named columns that grow by rows. All long-lived state is kept in them.

A class declares its columns and its single values:

>>> class Levels(Table):
...     level: Ints = column(np.int8, 0)
...     gaps: Ints = column(np.int64, 0, shape=(4, ROWS))
...     late: int = single(0)
>>> levels = Levels()
>>> levels.grow(3)
>>> levels.level.tolist(), levels.gaps.shape
([0, 0, 0], (4, 3))

A snapshot describes its own columns, so there is no version number to maintain. Columns that were
added since the snapshot get their fill value, and whole numbers may be stored narrower than before.
Any other difference is refused.
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
"""The columns and single values of a table by name: plain values and arrays, or for a block its
field names and one array."""


@dataclass(frozen=True, slots=True)
class _Column:
    dtype: np.dtype[Any]
    fill: Any
    shape: tuple[int, ...]
    stored: np.dtype[Any]

    @property
    def axis(self) -> int:
        """The axis of the rows."""
        return self.shape.index(ROWS)

    def fits(self, array: Any) -> bool:
        """Whether `array` is a snapshot of this column. Whole numbers may be stored wider."""
        return (
            isinstance(array, np.ndarray)
            and (array.dtype == self.stored or _narrower(array, self.stored))
            and array.ndim == len(self.shape)
            and all(
                wanted in {size, ROWS} for wanted, size in zip(self.shape, array.shape, strict=True)
            )
        )

    def __str__(self) -> str:
        sizes = ", ".join("rows" if size == ROWS else str(size) for size in self.shape)
        return f"{self.stored.name} ({sizes})"

    def filled(self, rows: int) -> NDArray[Any]:
        """`rows` new rows."""
        shape = [rows if size == ROWS else size for size in self.shape]
        return np.full(shape, self.fill, self.dtype)


@dataclass(frozen=True, slots=True)
class _Block:
    fields: Mapping[str, float]
    """The fill value of each field, by name."""
    shape: tuple[int, ...]

    @property
    def axis(self) -> int:
        """The axis of the rows."""
        return self.shape.index(ROWS) + 1

    def filled(self, rows: int) -> NDArray[Any]:
        """`rows` new rows."""
        shape = [rows if size == ROWS else size for size in self.shape]
        return np.stack([np.full(shape, fill) for fill in self.fields.values()])

    def aligned(self, stored: tuple[tuple[str, ...], NDArray[Any]]) -> NDArray[Any]:
        """The array of a snapshot, rearranged to the fields of this block."""
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
    """Declare a column of `shape`, in which `ROWS` stands for the number of rows. New rows get
    `fill`. A snapshot stores the column as dtype `stored`, if given; every value must fit.
    """
    kind = np.dtype(dtype)
    return _Column(kind, fill, shape, kind if stored is None else np.dtype(stored))


def block(fields: Mapping[str, float], shape: tuple[int, ...] = (ROWS,)) -> Any:
    """Declare float64 columns of equal `shape` that are read and written together, as one array
    (fields, *shape). `fields` has the fill value of each field by name. A snapshot includes the
    names, so that fields can be added like columns.
    """
    return _Block(fields, shape)


def fields_of(**parts: Iterable[str]) -> Iterator[str]:
    """The field names of a block that consists of parts.

    >>> list(fields_of(level=("mean", "size"), noise=("mean",)))
    ['level.mean', 'level.size', 'noise.mean']
    """
    for part, names in parts.items():
        for name in names:
            yield f"{part}.{name}"


def single(start: Any) -> Any:
    """Declare a value that the table has once, with its initial value."""
    return _Single(start)


class Table:
    """Base class of all state. A new table has no rows."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        """`shapes` has the shapes of columns whose size is only known at run time."""
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
        self._arrays: dict[str, _Column | _Block] = self._columns | self._blocks
        for name, start in self._singles.items():
            setattr(self, name, start)
        for name, declared in self._arrays.items():
            setattr(self, name, declared.filled(0))

    @property
    def columns(self) -> list[str]:
        """The names of all columns and blocks."""
        return list(self._arrays)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self._size

    def grow(self, rows: int) -> None:
        """Grow to `rows` rows. Does nothing if the table already has that many."""
        if rows != self._size:
            self._extend(rows - self._size, {})

    def append(self, **columns: NDArray[Any]) -> None:
        """Add rows. Columns that are not given get their fill value."""
        self._extend(len(next(iter(columns.values()))), columns)

    def keep(self, rows: Ints | NDArray[np.intp] | NDArray[np.bool_]) -> None:
        """Keep only these rows, in this order."""
        for name, declared in self._arrays.items():
            kept = getattr(self, name)[(slice(None),) * declared.axis + (rows,)]
            setattr(self, name, kept)
            self._size = kept.shape[declared.axis]

    def settle(self) -> None:
        """Bring the columns up to date. Called before each snapshot."""

    def snapshot(self) -> Snapshot:
        """A copy of all columns and single values."""
        self.settle()
        snapshot: Snapshot = {name: getattr(self, name) for name in self._singles}
        for name, declared in self._columns.items():
            snapshot[name] = getattr(self, name).astype(declared.stored)
        for name, parts in self._blocks.items():
            snapshot[name] = (tuple(parts.fields), getattr(self, name).copy())
        return snapshot

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Load a copy of a snapshot. Columns that are missing in it get their fill value.

        Raises:
            SetupError: the snapshot has unknown columns, or columns of another type or shape.
        """
        rows = 0
        for name, value in snapshot.items():
            self._check(name, value)
            if name in self._arrays:
                array = value[1] if name in self._blocks else value
                rows = array.shape[self._arrays[name].axis]
        for name, start in self._singles.items():
            setattr(self, name, snapshot.get(name, start))
        arrays = {name: declared.filled(rows) for name, declared in self._arrays.items()}
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
        """Check that a column or a single value of a snapshot belongs to this table."""
        schema = self.schema()
        if name not in schema:
            raise SetupError(f"this version has no {name}")
        if name in self._blocks:
            names, array = value
            parts = self._blocks[name]
            if unknown := [field for field in names if field not in parts.fields]:
                raise SetupError(f"this version has no {name}.{unknown[0]}")
            column = _Column(array.dtype, 0.0, (len(names), *parts.shape), np.dtype(np.float64))
            fits, value = column.fits(array), array
        elif name in self._columns:
            fits = self._columns[name].fits(value)
        else:
            fits = type(value) is type(self._singles[name])
        if not fits:
            raise SetupError(f"{name} is {_kind(value)}, expected {schema[name]}")

    def schema(self) -> dict[str, str]:
        """The type and shape of each column and single value in a snapshot, as text, by name."""
        columns = {name: str(declared) for name, declared in self._columns.items()}
        blocks = {
            name: f"float64 ({', '.join(parts.fields)}) {parts.shape}"
            for name, parts in self._blocks.items()
        }
        singles = {name: type(start).__name__ for name, start in self._singles.items()}
        return singles | columns | blocks

    def _extend(self, rows: int, given: Mapping[str, NDArray[Any]]) -> None:
        for name, declared in self._arrays.items():
            new = given[name] if name in given else declared.filled(rows)
            joined = np.concatenate((getattr(self, name), new), axis=declared.axis)
            setattr(self, name, joined)
        self._size += rows


def _narrower(array: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    """Whether whole numbers also fit in a dtype."""
    if array.dtype.kind != "i" or dtype.kind != "i":
        return False
    bounds = np.iinfo(dtype)
    return not array.size or bool(bounds.min <= array.min() and array.max() <= bounds.max)


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype.name} {value.shape}"
    return type(value).__name__


def snapshot_of(tables: Mapping[str, Table]) -> dict[str, Snapshot]:
    """The snapshots of tables, by name."""
    return {name: table.snapshot() for name, table in tables.items()}


def restore(tables: Mapping[str, Table], snapshot: Mapping[str, Snapshot]) -> None:
    """Load the snapshot of each table. A table without a snapshot is left unchanged.

    A name may have a parameter after a slash, such as `rollups/60000`. A snapshot with a parameter
    that no table has is ignored.

    Raises:
        SetupError: a snapshot belongs to an unknown table, or does not fit its table.
    """
    known = {name.partition("/")[0] for name in tables}
    for name, state in snapshot.items():
        if name.partition("/")[0] not in known:
            raise _no_fit(name, "this version has no such table")
        if name not in tables:
            continue
        try:
            tables[name].restore(state)
        except SetupError as error:
            raise _no_fit(name, str(error)) from error


def _no_fit(name: str, why: str) -> SetupError:
    return SetupError(
        "the recovery directory was written by another version of this program, and this version "
        f"cannot read its state ({name}: {why}): start with a new directory. The flow then reads "
        "the topic from START_FROM; rows that are already stored are not stored again"
    )


def fingerprint(tables: Mapping[str, Table]) -> str:
    """A hash of the names, types and shapes of everything in a snapshot: 16 hexadecimal digits."""
    text = repr(sorted((name, sorted(table.schema().items())) for name, table in tables.items()))
    return blake2b(text.encode(), digest_size=8).hexdigest()


def bytes_of(tables: Mapping[str, Table]) -> int:
    """The total size of all columns, in bytes."""
    return sum(getattr(table, name).nbytes for table in tables.values() for name in table.columns)
