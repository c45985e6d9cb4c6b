"""What a database lacks of the schema, or has otherwise."""

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
"""An index of an earlier script that may be there or not."""
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
    """(kind, name) -> its text, where it is known."""


def differences(settings: Settings) -> list[str]:
    """A line for each table, column, index, view, procedure, trigger and script that is missing or
    is not as this program has it. A column of a wider type is no difference.

    Raises:
        IotError: by blame, see `Database`.
    """
    with Database(settings) as database:
        plan = scripts(settings.engine)
        done = applied(database)
        lines = list(_differences(_wanted(plan), _found(database)))
        for script in plan:
            if script.name not in done:
                lines.append(f"script {script.name}: was not applied; run `python -m sql`")
            elif done[script.name] != script.checksum:
                lines.append(f"script {script.name}: another version; run `python -m sql`")
        return lines


def damaged(settings: Settings) -> set[str]:
    """The scripts that may be applied again and have to be: an object of theirs is missing or is
    not as this program has it.

    Raises:
        IotError: by blame, see `Database`.
    """
    with Database(settings) as database:
        found = _found(database)
        return {
            script.name
            for script in scripts(settings.engine)
            if not script.once and any(_differences(_wanted((script,)), found))
        }


def _found(database: Database) -> _Schema:
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
        if found := _OBJECT.search(batch):
            kind = found.group(1).lower()
            text = None if kind == "index" else found.group(0)
            wanted.objects[kind, found.group(2)] = text
        for index in _SUPERSEDED.findall(batch):
            wanted.objects.pop(("index", index), None)
    return wanted


def _differences(wanted: _Schema, found: _Schema) -> Iterator[str]:
    tables = {table for table, _ in found.columns}
    missing = sorted({table for table, _ in wanted.columns} - tables)
    yield from (f"table {table}: is missing" for table in missing)
    for (table, column), kind in wanted.columns.items():
        if table not in tables:
            continue
        has = found.columns.get((table, column))
        if has is None:
            yield f"column {table}.{column}: is missing"
        elif not _holds(has, kind):
            yield f"column {table}.{column}: is {has}, and {kind} is wanted"
    for (kind, name), text in wanted.objects.items():
        # a server may append digits of its own to the name of an index; case does not matter
        names = [
            one
            for sort, one in found.objects
            if sort == kind
            and (one.lower() == name.lower() or (kind == "index" and one.lower().startswith(name)))
        ]
        if not names:
            yield f"{kind} {name}: is missing"
        elif text is not None and _plain(found.objects[kind, names[0]]) not in ("", _plain(text)):
            yield f"{kind} {name}: is not as this program has it; run `python -m sql`"


def _holds(has: str, wanted: str) -> bool:
    """Whether all that fits into the one type fits into the other.

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
    return name, [2**31 if one == "max" else int(one) for one in rest.rstrip(")").split(",") if one]


def _plain(text: str | None) -> str:
    """From CREATE on, as words."""
    return " ".join((text or "")[(text or "").find("CREATE") :].split()).rstrip("; ")
