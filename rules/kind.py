"""What a kind of rule has to give, and what the kinds share."""

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
"""How many quiet panes in a row end a level, where the rule does not say."""
RAISE_AFTER_SLOWLY = 3
"""How many panes in a row a forecast or a detector needs to be believed."""
LEVELS = {"warning": Level.WARN, "critical": Level.CRITICAL}
SEVERITIES = {level: severity for severity, level in LEVELS.items()}

Severity = Literal["info", "warning", "critical"]
"""A row of severity `info` asks for no level, anywhere."""
Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Rule(Protocol):
    """What every rule says."""

    @property
    def table(self) -> str:
        """Where its row is."""

    @property
    def id(self) -> int:
        """Of its row."""

    @property
    def sensor_id(self) -> int:
        """The sensor that it watches."""

    @property
    def level(self) -> Level:
        """What it asks for."""

    @property
    def raise_after(self) -> int:
        """How many panes in a row must ask for it."""

    @property
    def clear_after(self) -> int:
        """How many quiet panes in a row end it."""


R = TypeVar("R", bound=Rule)
Texts = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Source(Generic[R]):
    """A table that rules are made of."""

    table: str
    statement: str
    """What lists its rows, see `sql.database`."""
    columns: tuple[str, ...]
    """The names of what that gives."""
    rules_of: Callable[[Mapping[str, Any]], list[R]]
    """The rules of a row. Raises ValueError where the row makes no sense."""

    @property
    def query(self) -> Query[Any]:
        """Lists all rows."""
        return Query(self.statement, self._row)

    @property
    def query_of_sensors(self) -> Query[Any]:
        """Lists those of some sensors, where the engine's folder has such a statement."""
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
    """(K,) how many panes in a row must ask for it."""
    bounds: Floats
    """(B, K) what the kind compares with."""


class Memory(Table):
    """What a kind keeps of the panes of its rules."""

    def use(self, rules: Sequence[Any]) -> None:
        """From now on these (K,) are the rules; those that stay keep what is known."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Judged:
    """N panes against a rule each."""

    met: NDArray[np.bool_]
    """(N,) whether the rule's condition is met."""
    holds: NDArray[np.bool_]
    """(N,) whether it keeps a level that stands."""
    noted: Floats | None = None
    """(4, N), or fewer rows: what the event of a pane that raises the level will need to tell."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Closed panes, and what else rules may look at. P panes."""

    panes: Panes
    windows: Windows
    readings_before: Ints
    """(P,) how many readings of the sensor came before the pane."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a level was raised."""

    message: str
    """Which of the kind's texts."""
    words: dict[str, str]
    """What stands in it."""
    payload: dict[str, Any]


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
    """The code of events that it causes."""
    field: ClassVar[str] = ""
    """Its name in an edition of the rules; empty where its rules are made of others."""
    rule_type: ClassVar[type[Any] | None] = None
    """The class of its rules."""
    sources: ClassVar[tuple[Source[Any], ...]] = ()
    texts: ClassVar[Texts]
    """language -> name -> message of an event."""
    width: ClassVar[int] = 0
    """How many bounds a rule has."""

    def chosen(self, rules: Sequence[R]) -> list[R]:
        """Those that count, in their order."""
        return sorted(rules, key=lambda one: (one.sensor_id, one.table, one.id, -one.level))

    def key(self, rule: R) -> tuple[str, str, int]:
        """What stays the same of a rule when others change; in recovery files."""
        return "", rule.table, rule.id

    def schema(self, rule: R) -> int:
        """The lowest schema of an edition that can hold the rule, see `rules.tables`."""
        return 1

    def derived(self, rules: Callable[["Kind[Any]"], tuple[Any, ...]]) -> tuple[R, ...]:
        """The rules, where they are made of others: `rules` gives those of a kind."""
        return rules(self)

    def bounds(self, rule: R) -> tuple[float, ...]:
        """`width` numbers."""
        raise NotImplementedError

    def memory(self) -> Memory | None:
        """What is kept between panes; None for a kind that needs nothing."""
        return None

    def judge(
        self, bounds: Floats, pane: NDArray[np.intp], rule: Ints, closed: Closed, memory: Any
    ) -> Judged:
        """Judge (N,) panes, indices into `closed`, by (N,) rules, indices into the group, whose
        bounds are (B, N). Each rule's panes stand together, by their ends.
        """
        raise NotImplementedError

    def cause(self, rule: R, pane: int, closed: Closed, noted: Floats, unit: str) -> Cause:
        """Why the pane raised the level; `noted` (4,) is what the judge noted."""
        raise NotImplementedError

    def is_cause(self, rule: R, payload: Mapping[str, Any]) -> bool:
        """Whether an event with that payload was raised by the rule; ids alone may stand for rules
        of two tables, and of two levels.
        """
        return bool(rule.id == payload.get("threshold_id") and rule.level.name == payload.get("to"))

    def panes_before(self, payload: Mapping[str, Any]) -> int:
        """How many panes before those that raised an event the judge had looked at, at most."""
        return 0

    def told(self, rule: R, unit: str) -> Told:
        """The rule in words."""
        raise NotImplementedError

    def alone(self, rule: R, *, whole: bool) -> Any:
        """The rule of the tables that stands for it when it is explained: it asks with every pane
        that meets its condition. `whole`: the panes begin with the sensor's first reading.
        """
        return msgspec.structs.replace(rule, raise_after=1)  # type: ignore[type-var]

    def at_once(self, rule: R) -> R:
        """The rule, cleared by the first quiet pane."""
        return msgspec.structs.replace(rule, clear_after=1)  # type: ignore[type-var]

    def said(self, rule: R, asked: Sequence[int], held: Sequence[int]) -> list[str]:
        """What each pane was against the rule, by the levels asked for and held: `beyond` its
        condition, `held` (no longer beyond, but not back either) or `inside`.
        """
        return [
            "beyond" if one == rule.level else "held" if other == rule.level else "inside"
            for one, other in zip(asked, held, strict=True)
        ]

    def detail(self, rule: R, closed: Closed, unit: str) -> list[str]:
        """What else decided, of each pane, in words."""
        return [""] * len(closed.panes.end)


def span(low: float | None, high: float | None) -> tuple[float, float]:
    """Bounds as numbers; infinite where there is none."""
    return -inf if low is None else low, or_inf(high)


def or_inf(bound: float | None) -> float:
    """An upper bound as a number."""
    return inf if bound is None else bound


def finite(value: float) -> float | None:
    """The value as JSON can hold it."""
    return value if isfinite(value) else None


def checked_count(name: str, value: int | None, usual: int, least: int = 1) -> int:
    """How many panes a row says, or what is usual.

    Raises:
        ValueError: it is out of range.
    """
    if value is None:
        return usual
    if not least <= value <= 10_000:
        raise ValueError(f"{name} is not between {least} and 10000")
    return value


def check_bounds(bounds: Mapping[str, float | None]) -> None:
    """Check bounds of a change, by their columns: at least one, and each above 0.

    Raises:
        ValueError: they are not.
    """
    if all(bound is None for bound in bounds.values()):
        raise ValueError("it has no bound")
    for name, bound in bounds.items():
        if bound is not None and bound <= 0:
            raise ValueError(f"{name} is not above 0")


_Row = TypeVar("_Row", bound=msgspec.Struct)


def checked_row(values: Mapping[str, Any], kind: type[_Row], unused: Sequence[str] = ()) -> _Row:
    """The row as its kind: every column known, every number finite.

    Raises:
        ValueError: it is not.
        msgspec.ValidationError: a value has the wrong type.
    """
    known = {*kind.__struct_fields__, *unused, "created_at", "updated_at"}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"it has no column {unknown[0]}")
    row = msgspec.convert(values, kind)
    for name in kind.__struct_fields__:
        value = getattr(row, name)
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(f"{name} is not a finite number")
    return row
