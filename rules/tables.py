"""Rows to rules: the list of kinds, the rules in their tables, and rules as an edition stores them.

An edition is JSON: rules by the field of their kind, models, and the schema if it is above 1. Its
schema is the lowest that can hold all its rules, so that programs of different versions write the
same edition for the same rows. A newer program writes editions of a higher schema than this one
knows. Their unknown fields are kept unchanged, and this program writes no edition after them.
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
from rules.models import MODELS, Model, chosen, model_schema
from rules.rate import RATE
from rules.silences import SILENCES, Silence
from rules.threshold import THRESHOLD, Threshold
from rules.words import Named, Names
from sql.database import Database
from sql.statements import LIST_SENSOR_NAMES, RULES_OF_VERSION

KINDS: tuple[Kind[Any], ...] = (THRESHOLD, DELTA, FORECAST, RATE, DETECTOR)
"""In order of evaluation: of two rules that raise the same level, the first is its cause."""
SCHEMA = 3
"""The highest schema of an edition that this program knows."""

_BY_NUMBER = {kind.number: kind for kind in KINDS}
_BY_TYPE = {kind.rule_type: kind for kind in KINDS if kind.rule_type is not None}
_STORED = [kind for kind in KINDS if kind.field]
_ALWAYS = ("thresholds", "deltas", "models")
"""The fields of every edition, in this order."""

Tables = Mapping[str, Sequence[Mapping[str, Any]]]
"""Table name -> rows; each row is column name -> value."""
_R = TypeVar("_R", bound=Rule)
_X = TypeVar("_X")


def kind_of(rule: Rule) -> Kind[Any]:
    """The kind of a rule."""
    return _BY_TYPE[type(rule)]


def kind_numbered(number: int) -> Kind[Any]:
    """The kind with that number."""
    return _BY_NUMBER[number]


def kind_of_code(code: str) -> Kind[Any] | None:
    """The kind whose events have that code; None if there is none."""
    return next((kind for kind in KINDS if kind.code == code), None)


def sources() -> tuple[Source[Any], ...]:
    """The tables of all kinds, of models, and of how long sensors and devices may be silent."""
    return (*(source for kind in _STORED for source in kind.sources), MODELS, *SILENCES)


@dataclass(frozen=True)
class RuleSet:
    """All valid rules."""

    rules: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Field of a kind -> its rules in order, at least one."""
    models: tuple[Model, ...] = ()
    """Sorted by sensor; at most one of each type per sensor."""
    silences: tuple[Silence, ...] = ()
    """How long sensors and devices may be silent, where it is set."""
    schema: int = 1
    unknown: Mapping[str, msgspec.Raw] = field(default_factory=dict)
    """Fields that only a newer program knows."""

    def of(self, kind: Kind[_R]) -> tuple[_R, ...]:
        """The rules of a kind."""
        return self.rules.get(kind.field, ())

    def __len__(self) -> int:
        """The number of rules, without models."""
        return sum(map(len, self.rules.values()))

    def of_sensor(self, sensor_id: int | None) -> "RuleSet":
        """The rules of one sensor, without models."""
        return rule_set(
            {
                name: [rule for rule in rules if rule.sensor_id == sensor_id]
                for name, rules in self.rules.items()
            }
        )

    def each(self, change: Callable[[Any], Any]) -> "RuleSet":
        """The set with `change` applied to every rule."""
        return replace(
            self, rules={name: tuple(map(change, rules)) for name, rules in self.rules.items()}
        )

    def encode(self) -> bytes:
        """The set as JSON, for `decode_rules`."""
        content: dict[str, Any] = dict.fromkeys(_ALWAYS, ())
        content |= self.rules
        content["models"] = self.models
        if self.silences:
            content["silences"] = self.silences
        if self.schema > 1:
            content["schema"] = self.schema
        return msgspec.json.encode({**content, **self.unknown})

    def version(self) -> str:
        """12 hexadecimal digits that identify the content.

        >>> RuleSet().version()
        '50c173f36ad0'
        """
        return sha256(self.encode()).hexdigest()[:12]


def rule_set(
    rules: Mapping[str, Iterable[Any]],
    models: Iterable[Model] = (),
    silences: Iterable[Silence] = (),
) -> RuleSet:
    """The set of these rules, given by the field of their kind, these models and silences."""
    models, silences = tuple(models), tuple(silences)
    by_field = {kind.field: tuple(rules.get(kind.field, ())) for kind in _STORED}
    schemas = [kind.schema(rule) for kind in _STORED for rule in by_field[kind.field]]
    schemas += map(model_schema, models)
    if silences:
        schemas.append(3)
    return RuleSet(
        {name: of_kind for name, of_kind in by_field.items() if of_kind},
        models,
        silences,
        max(schemas, default=1),
    )


def only(rule: Rule) -> RuleSet:
    """The set of one rule."""
    return rule_set({kind_of(rule).field: (rule,)})


def decode_rules(text: str | bytes) -> RuleSet:
    """Parse the output of `RuleSet.encode`. Unknown fields are kept.

    Raises:
        msgspec.DecodeError: the text is not such JSON.
    """
    content = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    rules = {
        kind.field: [
            msgspec.convert(rule, kind.rule_type)
            for rule in msgspec.json.decode(content.pop(kind.field, b"[]"))
        ]
        for kind in _STORED
    }
    models = msgspec.json.decode(content.pop("models", b"[]"), type=tuple[Model, ...])
    silences = msgspec.json.decode(content.pop("silences", b"[]"), type=tuple[Silence, ...])
    schema = msgspec.json.decode(content.pop("schema", b"1"), type=int)
    return replace(rule_set(rules, models, silences), schema=schema, unknown=content)


@dataclass(frozen=True, slots=True)
class Refused:
    """An invalid row."""

    table: str
    id: int
    error: str
    kept: bool
    """Whether the last valid row with that id stays in force."""


def make_rules(tables: Tables, good: RuleSet | None = None) -> tuple[RuleSet, list[Refused]]:
    """The rules in `tables`, and the rows that were refused. An invalid row keeps its rules in
    `good`, the previous rule set, if there are any. Rows of severity `info` become no rules.
    """
    refused: list[Refused] = []
    before = RuleSet() if good is None else good
    rules: dict[str, list[Any]] = {}
    for kind in _STORED:
        of_kind: list[Any] = []
        for source in kind.sources:
            of_kind += _read(tables, source, before.of(kind), refused)
        rules[kind.field] = kind.chosen(of_kind)
    models = _read(tables, MODELS, before.models, refused)
    silences = [
        silence
        for source in SILENCES
        for silence in _read(tables, source, before.silences, refused)
    ]
    return rule_set(rules, chosen(models), silences), refused


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
            kept = [rule for rule in good if _is_of(rule, table, number)]
            refused.append(Refused(table, number, str(error), bool(kept)))
            made += kept
    return made


def _is_of(rule: Any, table: str, number: int) -> bool:
    return bool((rule.table, rule.id) == (table, number))


def rule_tables(database: Database) -> Tables:
    """Read the rows of all rule tables, for `make_rules`."""
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
    """The rules that were stored as a version.

    Raises:
        SetupError: the version does not exist, or it cannot be read.
    """
    rows = database.query(RULES_OF_VERSION, version)
    try:
        return decode_rules(rows[-1].rules)
    except (IndexError, msgspec.DecodeError) as error:
        raise SetupError(
            f"the table rule_versions has no version {version} that this program can read "
            f"({error}): restore the row, or delete the rows of that version; the version before "
            "it then applies to records of its time"
        ) from error


def names_of(database: Database, language: str) -> Names:
    """The names of all sensors and devices, including inactive ones, for texts in `language`."""
    sensors: dict[int, Named] = {}
    devices: dict[int, str] = {}
    for row in database.query(LIST_SENSOR_NAMES):
        sensors[row.sensor_id] = Named(row.name, row.type, row.unit, row.device)
        devices[row.device_id] = row.device
    return Names(language, sensors, devices)
