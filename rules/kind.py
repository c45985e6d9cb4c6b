"""The interface of a kind of rule, and what the kinds share."""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from contract.columns import Floats, Ints
from contract.level import Level
from contract.table import Table
from rules.panes import Panes, Windows
from sql.statements import Query

CLEAR_AFTER = 5
"""Default for the number of consecutive quiet panes that clear a level."""
RAISE_AFTER_SLOWLY = 3
"""Default for the number of consecutive panes before a forecast or a detector raises a level."""
LEVELS = {"warning": Level.WARN, "critical": Level.CRITICAL}
SEVERITIES = {level: severity for severity, level in LEVELS.items()}

Severity = Literal["info", "warning", "critical"]
"""A row of severity `info` never raises a level."""
Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Rule(Protocol):
    """What every rule has."""

    @property
    def table(self) -> str:
        """The table of its row."""

    @property
    def id(self) -> int:
        """The id of its row."""

    @property
    def sensor_id(self) -> int:
        """The sensor that it watches."""

    @property
    def level(self) -> Level:
        """The level that it raises."""

    @property
    def raise_after(self) -> int:
        """The number of consecutive panes that must meet its condition."""

    @property
    def clear_after(self) -> int:
        """The number of consecutive quiet panes that clear the level."""


R = TypeVar("R", bound=Rule)
Texts = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Source(Generic[R]):
    """A table whose rows become rules."""

    table: str
    statement: str
    """The statement that lists its rows; see `sql.database`."""
    columns: tuple[str, ...]
    """The names of the statement's result columns."""
    rules_of: Callable[[Mapping[str, Any]], list[R]]
    """The rules of a row. Raises ValueError if the row is invalid."""

    @property
    def query(self) -> Query[Any]:
        """Lists all rows."""
        return Query(self.statement, self._row)

    @property
    def query_of_sensors(self) -> Query[Any]:
        """Lists the rows of some sensors, if the database engine's folder has such a statement."""
        return Query(f"{self.statement}_of_sensors", self._row, ("sensor_ids",))

    @property
    def _row(self) -> type[Any]:
        return namedtuple("Row", self.columns)


@dataclass(frozen=True, slots=True)
class Group:
    """Rules of one kind as columns, sorted by sensor. K rules."""

    sensor_id: Ints
    """(K,) ascending."""
    number: Ints
    """(K,) index into `Rules.rule`."""
    level: NDArray[np.int8]
    """(K,) WARN or CRITICAL."""
    raise_after: Ints
    """(K,) consecutive panes that must meet the condition."""
    bounds: Floats
    """(B, K) the bounds of each rule, defined by the kind."""


class Memory(Table):
    """What a kind keeps from earlier panes."""

    def use(self, rules: Sequence[Any]) -> None:
        """Replace the rules with these (K,). Rules that stay keep their history."""
        raise NotImplementedError

    def forget(self, rules: NDArray[np.intp]) -> None:
        """Drop the history of some rules, by their index."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Judged:
    """The result for N panes, each judged by one rule."""

    met: NDArray[np.bool_]
    """(N,) whether the rule's condition is met."""
    holds: NDArray[np.bool_]
    """(N,) whether the rule holds a level that is already raised."""
    noted: Floats | None = None
    """(4, N) or fewer rows: figures for the event of a pane that raises the level."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Closed panes, and their context. P panes."""

    panes: Panes
    windows: Windows
    value: Floats
    """The readings of the panes, in their order; `panes.count` of each."""
    readings_before: Ints
    """(P,) number of the sensor's readings in earlier panes."""
    usual: Floats
    """(P,) the slow mean of the sensor's earlier panes; NaN while it is unknown."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a level was raised."""

    message: str
    """The name of one of the kind's texts."""
    words: dict[str, str]
    """The values of its placeholders."""
    payload: dict[str, Any]
    value: float | None = None
    """The value that the event reports, if it is not the mean of the pane."""


@dataclass(frozen=True, slots=True)
class Told:
    """A rule in an operator's words."""

    name: str
    condition: str
    reset: str


class Kind(Generic[R]):
    """One kind of rule."""

    number: ClassVar[int]
    """Stored in recovery files, and never changes."""
    name: ClassVar[str]
    code: ClassVar[str]
    """The code of the events that it causes."""
    field: ClassVar[str] = ""
    """Its field in an edition of the rules; empty if its rules are derived from others."""
    rule_type: ClassVar[type[Any] | None] = None
    """The class of its rules."""
    sources: ClassVar[tuple[Source[Any], ...]] = ()
    texts: ClassVar[Texts]
    """language -> name -> event message."""
    breaches: ClassVar[bool] = False
    """Whether its rules are a user's bounds for values: a pane that breaches one is not normal for
    the sensor, and one that breaches none is no emergency."""
    width: ClassVar[int] = 0
    """The number of bounds of a rule."""
    judges_late: ClassVar[bool] = True
    """Whether it judges the panes of late readings too."""
    timed: ClassVar[bool] = True
    """Whether a condition that has lasted `raise_after` seconds raises the level, even if the
    sensor had fewer panes in that time."""
    stands: ClassVar[bool] = False
    """Whether a condition that the last pane met is still met while the sensor sends nothing."""
    alerts: ClassVar[bool] = False
    """Whether a level that it raises also raises an alert, a row of `alerts`."""

    def chosen(self, rules: Sequence[R]) -> list[R]:
        """The rules that apply, in order."""
        return sorted(rules, key=lambda rule: (rule.sensor_id, rule.table, rule.id, -rule.level))

    def key(self, rule: R) -> tuple[str, str, int]:
        """The rule's identity across editions. Stored in recovery files."""
        return "", rule.table, rule.id

    def schema(self, rule: R) -> int:
        """The lowest schema of an edition that can hold the rule; see `rules.tables`."""
        return 1

    def derived(self, rules: Callable[["Kind[Any]"], tuple[Any, ...]]) -> tuple[R, ...]:
        """The rules, if they are derived from others; `rules` returns the rules of a kind."""
        return rules(self)

    def bounds(self, rule: R) -> tuple[float, ...]:
        """The rule's bounds: `width` numbers."""
        raise NotImplementedError

    def memory(self) -> Memory | None:
        """A new memory between panes; None for a kind that needs none."""
        return None

    def judge(
        self, bounds: Floats, pane: NDArray[np.intp], rule: Ints, closed: Closed, memory: Any
    ) -> Judged:
        """Judge (N,) panes, indices into `closed`, by (N,) rules, indices into the group. Their
        bounds are (B, N). The panes of a rule are consecutive and sorted by end.
        """
        raise NotImplementedError

    def breached(self, bounds: Floats, pane: NDArray[np.intp], closed: Closed) -> NDArray[np.bool_]:
        """(N,) whether each pane breaches the bound; only of kinds with `breaches`."""
        raise NotImplementedError

    def cause(self, rule: R, pane: int, closed: Closed, noted: Floats, unit: str) -> Cause:
        """Why the pane raised the level. `noted` (4,) has the judge's figures."""
        raise NotImplementedError

    def is_cause(self, rule: R, payload: Mapping[str, Any]) -> bool:
        """Whether the rule raised the event with that payload. An id alone is not enough: two
        tables, or two levels, may have rules with the same id.
        """
        return bool(rule.id == payload.get("threshold_id") and rule.level.name == payload.get("to"))

    def panes_before(self, payload: Mapping[str, Any]) -> int:
        """The most panes that the judge had used before those that raised the event."""
        return 0

    def told(self, rule: R, unit: str) -> Told:
        """The rule in words."""
        raise NotImplementedError

    def alone(self, rule: R, *, whole: bool) -> Any:
        """The table rule that stands in for this one in an explanation: every pane that meets its
        condition raises the level. `whole`: the panes begin with the sensor's first reading.
        """
        return msgspec.structs.replace(rule, raise_after=1)  # type: ignore[type-var]

    def at_once(self, rule: R) -> R:
        """The rule with a level that clears at the first quiet pane."""
        return msgspec.structs.replace(rule, clear_after=1)  # type: ignore[type-var]

    def said(self, rule: R, asked: Sequence[int], held: Sequence[int]) -> list[str]:
        """Each pane compared with the rule, by the levels raised and held: `beyond` its condition,
        `held` (between the bound and the reset bound) or `inside`.
        """
        return [
            "beyond" if raised == rule.level else "held" if kept == rule.level else "inside"
            for raised, kept in zip(asked, held, strict=True)
        ]

    def detail(self, rule: R, closed: Closed, unit: str) -> list[str]:
        """Further figures that decided each pane, in words."""
        return [""] * len(closed.panes.end)


def span(low: float | None, high: float | None) -> tuple[float, float]:
    """Both bounds as numbers; infinite where there is none."""
    return -inf if low is None else low, or_inf(high)


def or_inf(bound: float | None) -> float:
    """An upper bound as a number; infinite if there is none."""
    return inf if bound is None else bound


def finite(value: float) -> float | None:
    """The value; None if JSON cannot hold it."""
    return value if isfinite(value) else None


def checked_count(name: str, value: int | None, usual: int, least: int = 1) -> int:
    """The count in a row's column, or `usual` if the column is empty.

    Raises:
        ValueError: the count is out of range.
    """
    if value is None:
        return usual
    if not least <= value <= 10_000:
        raise ValueError(f"{name} must be between {least} and 10000")
    return value


def check_bounds(bounds: Mapping[str, float | None]) -> None:
    """Check the bounds of a change, by column: at least one is set, and each is above 0.

    Raises:
        ValueError: a bound is invalid, or none is set.
    """
    if all(bound is None for bound in bounds.values()):
        raise ValueError("no bound is set")
    for name, bound in bounds.items():
        if bound is not None and bound <= 0:
            raise ValueError(f"{name} must be above 0")


_Row = TypeVar("_Row", bound=msgspec.Struct)


def checked_row(values: Mapping[str, Any], kind: type[_Row], unused: Sequence[str] = ()) -> _Row:
    """The row as `kind`, with only known columns and finite numbers.

    Raises:
        ValueError: a column is unknown, or a number is not finite.
        msgspec.ValidationError: a value has the wrong type.
    """
    known = {*kind.__struct_fields__, *unused, "created_at", "updated_at"}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"unknown column {unknown[0]}")
    row = msgspec.convert(values, kind)
    for name in kind.__struct_fields__:
        value = getattr(row, name)
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(f"{name} must be a finite number")
    return row
