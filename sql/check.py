"""Compares a database with the schema of this program."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from contract.settings import Settings
from sql.database import Database
from sql.schema import Script, applied, scripts
from sql.statements import LIST_COLUMNS, LIST_OBJECTS

_TABLE = re.compile(r"CREATE TABLE (?:dbo\.)?(\w+) \(\n(.*?)\n\);", re.DOTALL)
_COLUMN = re.compile(r"^ {4}\[?(\w+)\]? ([a-zA-Z]\w*(?: ?\([\d, a-z]+\))?)", re.MULTILINE)
_ADDED = re.compile(r"ALTER TABLE (?:dbo\.)?(\w+) ADD (?:COLUMN )?(\w+) (\w+(?: ?\([\d, a-z]+\))?)")
_OBJECT = re.compile(
    r"CREATE (?:UNIQUE )?(INDEX|VIEW|PROCEDURE|TRIGGER) (?:dbo\.)?(\w+)(.*)", re.DOTALL
)
_SUPERSEDED = re.compile(r"^-- superseded: (\w+)$", re.MULTILINE)
"""An index of an earlier script that is now optional."""
_NO_COLUMN = {"PRIMARY", "UNIQUE", "CONSTRAINT", "FOREIGN", "CHECK"}
_WHOLE = ("bit", "tinyint", "smallint", "int", "bigint", "integer")
_FAMILY = {
    **dict.fromkeys(_WHOLE, "whole number"),
    **dict.fromkeys(("varchar", "char"), "text"),
    **dict.fromkeys(("nvarchar", "nchar"), "unicode text"),
    **dict.fromkeys(("decimal", "numeric", "float", "real"), "number"),
}


@dataclass(frozen=True, slots=True)
class _Schema:
    columns: dict[tuple[str, str], str] = field(default_factory=dict)
    """(table, column) -> type."""
    objects: dict[tuple[str, str], str | None] = field(default_factory=dict)
    """(kind, name) -> its text, if known."""


def differences(settings: Settings) -> list[str]:
    """One line for each table, column, index, view, procedure, trigger and script that is missing
    or differs from this program's. A column of a wider type is not a difference.

    Raises:
        IotError: by cause, see `Database`.
    """
    with Database(settings) as database:
        plan = scripts(settings.engine)
        done = applied(database)
        lines = list(_differences(_wanted(plan), _actual(database)))
        for script in plan:
            if script.name not in done:
                lines.append(f"script {script.name}: has not been applied; run `python -m sql`")
            elif done[script.name] != script.checksum:
                lines.append(
                    f"script {script.name}: another version was applied; run `python -m sql`"
                )
        return lines


def damaged(settings: Settings) -> set[str]:
    """The repeatable scripts that have to be applied again, because one of their objects is missing
    or differs from this program's.

    Raises:
        IotError: by cause, see `Database`.
    """
    with Database(settings) as database:
        actual, plan = _actual(database), scripts(settings.engine)
        found = set()
        later: set[tuple[str, str]] = set()
        """Objects that a later script replaces."""
        for script in reversed(plan):
            wanted = _wanted((script,))
            if not script.once:
                for name in later & wanted.objects.keys():
                    del wanted.objects[name]
                if any(_differences(wanted, actual)):
                    found.add(script.name)
                later |= wanted.objects.keys()
        return found


def _actual(database: Database) -> _Schema:
    return _Schema(
        {
            (row.table_name, row.column_name): row.column_type
            for row in database.query(LIST_COLUMNS)
        },
        {
            (row.object_type, row.object_name): row.definition
            for row in database.query(LIST_OBJECTS)
        },
    )


def _wanted(plan: tuple[Script, ...]) -> _Schema:
    wanted = _Schema()
    for batch in (batch for script in plan for batch in script.batches):
        for table, body in _TABLE.findall(batch):
            for column, kind in _COLUMN.findall(body):
                if column not in _NO_COLUMN:
                    wanted.columns[table, column] = kind
        for table, column, kind in _ADDED.findall(batch):
            wanted.columns[table, column] = kind
        if match := _OBJECT.search(batch):
            kind = match.group(1).lower()
            text = None if kind == "index" else match.group(0)
            wanted.objects[kind, match.group(2)] = text
        for index in _SUPERSEDED.findall(batch):
            wanted.objects.pop(("index", index), None)
    return wanted


def _differences(wanted: _Schema, actual: _Schema) -> Iterator[str]:
    tables = {table for table, _ in actual.columns}
    missing = sorted({table for table, _ in wanted.columns} - tables)
    yield from (f"table {table}: is missing" for table in missing)
    for (table, column), kind in wanted.columns.items():
        if table not in tables:
            continue
        has = actual.columns.get((table, column))
        if has is None:
            yield f"column {table}.{column}: is missing"
        elif not _holds(has, kind):
            yield f"column {table}.{column}: is {has}, expected {kind}"
    for (kind, name), text in wanted.objects.items():
        # a server may append its own digits to the name of an index; case does not matter
        names = [
            stored
            for stored_kind, stored in actual.objects
            if stored_kind == kind
            and (
                stored.lower() == name.lower()
                or (kind == "index" and stored.lower().startswith(name))
            )
        ]
        if not names:
            yield f"{kind} {name}: is missing"
        elif text is not None and _plain(actual.objects[kind, names[0]]) not in ("", _plain(text)):
            yield f"{kind} {name}: differs from this program's; run `python -m sql`"


def _holds(has: str, wanted: str) -> bool:
    """Whether every value of type `wanted` fits into type `has`.

    >>> _holds("nvarchar(max)", "nvarchar(255)"), _holds("varchar(100)", "varchar(255)")
    (True, False)
    >>> _holds("datetime", "datetime2(3)"), _holds("bit", "int"), _holds("int", "bigint")
    (False, True, False)
    """
    (name, size), (wanted_name, wanted_size) = _parts(has), _parts(wanted)
    if _FAMILY.get(name, name) != _FAMILY.get(wanted_name, wanted_name):
        return False
    if name in _WHOLE:
        return not (wanted_name == "bigint" and name != "bigint")
    return not (size and wanted_size) or all(map(int.__ge__, size, wanted_size))


def _parts(kind: str) -> tuple[str, list[int]]:
    name, _, rest = kind.lower().replace(" ", "").partition("(")
    return name, [
        2**31 if part == "max" else int(part) for part in rest.rstrip(")").split(",") if part
    ]


def _plain(text: str | None) -> str:
    """The text from CREATE on, with normalized white space."""
    return " ".join((text or "")[(text or "").find("CREATE") :].split()).rstrip("; ")
