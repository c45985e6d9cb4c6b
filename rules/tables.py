"""Rows to rules: which kinds there are, what their tables hold, and rules as an edition keeps them.

An edition is JSON: rules by the field of their kind, models, and the schema, if it is above 1. Its
schema is the lowest that can hold all its rules, so that programs of different ages write the same
edition for the same rows. An edition of a higher schema than ours was written by a newer program:
what we do not know of it is kept as it is, and we write none after it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from contract.errors import SetupError
from rules.delta import DELTA
from rules.detector import DETECTOR
from rules.forecast import FORECAST
from rules.kind import Kind, Rule, Source
from rules.models import MODELS, Model, chosen
from rules.rate import RATE
from rules.threshold import THRESHOLD, Threshold
from rules.words import Named, Names
from sql.database import Database
from sql.statements import LIST_SENSOR_NAMES, RULES_OF_VERSION

KINDS: tuple[Kind[Any], ...] = (THRESHOLD, DELTA, FORECAST, RATE, DETECTOR)
"""In the order in which they are asked: of two that ask for a level, the first one causes it."""
SCHEMA = 2
"""The highest schema of an edition that this program knows."""

_BY_NUMBER = {kind.number: kind for kind in KINDS}
_BY_TYPE = {kind.rule_type: kind for kind in KINDS if kind.rule_type is not None}
_STORED = [kind for kind in KINDS if kind.field]
_ALWAYS = ("thresholds", "deltas", "models")
"""Fields that every edition has, in this order."""

Tables = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows by the name of their table; each by the names of its columns."""
_R = TypeVar("_R", bound=Rule)
_X = TypeVar("_X")


def kind_of(rule: Rule) -> Kind[Any]:
    """The kind of a rule."""
    return _BY_TYPE[type(rule)]


def kind_numbered(number: int) -> Kind[Any]:
    """The kind of that number."""
    return _BY_NUMBER[number]


def kind_of_code(code: str) -> Kind[Any] | None:
    """The kind whose events have that code."""
    return next((kind for kind in KINDS if kind.code == code), None)


def sources() -> tuple[Source[Any], ...]:
    """The tables of all kinds, and that of models."""
    return (*(source for kind in _STORED for source in kind.sources), MODELS)


@dataclass(frozen=True)
class RuleSet:
    """All rules that make sense."""

    rules: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Field of a kind -> its rules, at least one, in their order."""
    models: tuple[Model, ...] = ()
    """In the order of their sensors; of each sort one a sensor."""
    schema: int = 1
    unknown: Mapping[str, msgspec.Raw] = field(default_factory=dict)
    """What a newer program wrote besides."""

    def of(self, kind: Kind[_R]) -> tuple[_R, ...]:
        """The rules of a kind."""
        return self.rules.get(kind.field, ())

    def __len__(self) -> int:
        """How many rules, without models."""
        return sum(map(len, self.rules.values()))

    def of_sensor(self, sensor_id: int | None) -> "RuleSet":
        """The rules of one sensor, without models."""
        return rule_set(
            {
                name: [one for one in rules if one.sensor_id == sensor_id]
                for name, rules in self.rules.items()
            }
        )

    def each(self, change: Callable[[Any], Any]) -> "RuleSet":
        """With every rule changed."""
        return replace(
            self, rules={name: tuple(map(change, rules)) for name, rules in self.rules.items()}
        )

    def encode(self) -> bytes:
        """As JSON, which `decode_rules` reads."""
        content: dict[str, Any] = dict.fromkeys(_ALWAYS, ())
        content |= self.rules
        content["models"] = self.models
        if self.schema > 1:
            content["schema"] = self.schema
        return msgspec.json.encode({**content, **self.unknown})

    def version(self) -> str:
        """12 hexadecimal digits that stand for the content.

        >>> RuleSet().version()
        '50c173f36ad0'
        """
        return sha256(self.encode()).hexdigest()[:12]


def rule_set(rules: Mapping[str, Iterable[Any]], models: Iterable[Model] = ()) -> RuleSet:
    """The set of these rules, by the field of their kind, and of these models."""
    found = {kind.field: tuple(rules.get(kind.field, ())) for kind in _STORED}
    schemas = (kind.schema(one) for kind in _STORED for one in found[kind.field])
    return RuleSet(
        {name: some for name, some in found.items() if some}, tuple(models), max(schemas, default=1)
    )


def only(rule: Rule) -> RuleSet:
    """The set of one rule."""
    return rule_set({kind_of(rule).field: (rule,)})


def decode_rules(text: str | bytes) -> RuleSet:
    """The rules that `RuleSet.encode` wrote; what is not known here is kept.

    Raises:
        msgspec.DecodeError: it is no such JSON.
    """
    content = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    rules = {
        kind.field: [
            msgspec.convert(one, kind.rule_type)
            for one in msgspec.json.decode(content.pop(kind.field, b"[]"))
        ]
        for kind in _STORED
    }
    models = msgspec.json.decode(content.pop("models", b"[]"), type=tuple[Model, ...])
    schema = msgspec.json.decode(content.pop("schema", b"1"), type=int)
    return replace(rule_set(rules, models), schema=schema, unknown=content)


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that makes no sense."""

    table: str
    id: int
    error: str
    kept: bool
    """Whether the last good row of that id stays in force."""


def make_rules(tables: Tables, good: RuleSet | None = None) -> tuple[RuleSet, list[Refused]]:
    """The rules in `tables`. Of a row that makes no sense the rule that it gave in `good`, the
    rules before, stays in force, if there is one. Rows of severity `info` ask for no level.
    """
    refused: list[Refused] = []
    before = RuleSet() if good is None else good
    rules: dict[str, list[Any]] = {}
    for kind in _STORED:
        found: list[Any] = []
        for source in kind.sources:
            found += _read(tables, source, before.of(kind), refused)
        rules[kind.field] = kind.chosen(found)
    models = _read(tables, MODELS, before.models, refused)
    return rule_set(rules, chosen(models)), refused


def _read(
    tables: Tables, source: Source[Any], good: Iterable[_X], refused: list[Refused]
) -> list[_X]:
    made: list[_X] = []
    table = source.table
    given = [{n: v for n, v in row.items() if v is not None} for row in tables.get(table, ())]
    rows = [{"id": number, **row} for number, row in enumerate(given, 1)]
    for row in sorted(rows, key=lambda row: row["id"] if isinstance(row["id"], int) else 0):
        try:
            made += source.rules_of(row)
        except (msgspec.DecodeError, ValueError) as error:
            number = row["id"] if isinstance(row["id"], int) else 0
            kept = [one for one in good if _is_of(one, table, number)]
            refused.append(Refused(table, number, str(error), bool(kept)))
            made += kept
    return made


def _is_of(rule: Any, table: str, number: int) -> bool:
    return bool((rule.table, rule.id) == (table, number))


def rule_tables(database: Database) -> Tables:
    """The rows that rules are made of, as `make_rules` takes them."""
    return {
        source.table: [row._asdict() for row in database.query(source.query)]
        for source in sources()
    }


def thresholds_of_sensors(database: Database, sensor_ids: Sequence[int]) -> tuple[Threshold, ...]:
    """The thresholds in force of some sensors."""
    ids = msgspec.json.encode(list(sensor_ids)).decode()
    tables = {
        source.table: [row._asdict() for row in database.query(source.query_of_sensors, ids)]
        for source in THRESHOLD.sources
    }
    return make_rules(tables)[0].of(THRESHOLD)


def rules_of_version(database: Database, version: str) -> RuleSet:
    """The rules that were written down under a version.

    Raises:
        SetupError: there are none, or none that can be read.
    """
    rows = database.query(RULES_OF_VERSION, version)
    try:
        return decode_rules(rows[-1].rules)
    except (IndexError, msgspec.DecodeError) as error:
        raise SetupError(
            f"the table rule_versions has no version {version} that this program can read "
            f"({error}): bring the row back, or take away the rows of that version; records of its "
            "time are then judged by the version before"
        ) from error


def names_of(database: Database, language: str) -> Names:
    """How texts in that language name each sensor and device, inactive ones too."""
    sensors: dict[int, Named] = {}
    devices: dict[int, str] = {}
    for row in database.query(LIST_SENSOR_NAMES):
        sensors[row.sensor_id] = Named(row.name, row.type, row.unit, row.device)
        devices[row.device_id] = row.device
    return Names(language, sensors, devices)
