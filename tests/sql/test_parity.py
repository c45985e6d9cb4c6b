"""All engines have the same statements, with the declared parameters and columns."""

import re
from importlib.resources import files
from itertools import pairwise

import pytest

import sql.statements
from rules.tables import sources
from rules.threshold import THRESHOLD
from sql.statements import COMMANDS, Query

ONLY = {"sqlite": {"copy_installation"}, "mssql": {"create_database"}}
"""Statements that only one engine needs: a replay uses an SQLite database, and an SQLite file is
created without a statement."""


def statements(engine):
    folder = files(f"sql.{engine}") / "statements"
    return {
        file.name.removesuffix(".sql"): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
    }


SQLITE, MSSQL = statements("sqlite"), statements("mssql")


def bare(text):
    """Without comments and the contents of strings."""
    return re.sub(r"'[^']*'", "''", re.sub(r"--[^\n]*", "", text))


def parameters(engine, text):
    if engine == "mssql":
        return bare(text).count("?")
    return max(map(int, re.findall(r"\?(\d+)", bare(text))), default=0)


def top_level(text, *words):
    """Positions of the words, and of commas, outside parentheses: [(word, begin, end)]."""
    positions, depth = [], 0
    for match in re.finditer(rf"\(|\)|,|\b(?:{'|'.join(words)})\b", text, re.IGNORECASE):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if not depth and match[0] not in "()":
            positions.append((match[0].upper(), match.start(), match.end()))
    return positions


_CLAUSES = ("SELECT", "FROM", "WHERE", "INSERT", "UPDATE", "DELETE", "EXEC", "UNION")


def result_columns(text):
    """The columns of the last query, None for unnamed ones; None if it returns no rows."""
    last = [part for part in bare(text).split(";") if part.strip()][-1]
    marks = top_level(last, *_CLAUSES)
    if any(word in ("INSERT", "UPDATE", "DELETE", "EXEC") for word, *_ in marks):
        return None
    selects = [end for word, _, end in marks if word == "SELECT"]
    if not selects:
        return None
    begin = selects[0]
    ends = [at for word, at, _ in marks if word in ("FROM", "WHERE", "UNION") and at > begin]
    listed = last[begin : min(ends, default=len(last))]
    cuts = [0, *(end for word, _, end in top_level(listed) if word == ","), len(listed)]
    cells = [listed[a:b].strip(" ,\n") for a, b in pairwise(cuts)]
    cells[0] = re.sub(r"^(DISTINCT|TOP\s*\([^)]*\))\s+", "", cells[0], flags=re.IGNORECASE)
    return [name_of(cell) for cell in cells]


def name_of(cell):
    """The alias, or the column itself (also inside a CAST); None for other expressions."""
    for pattern in (
        r"\bAS\s+\[?(\w+)\]?$", r"^(?:\w+\.)?\[?(\w+)\]?$",
        r"^CAST\((?:\w+\.)?\[?(\w+)\]? AS [\w() ]+\)$",
    ):  # fmt: skip
        if (match := re.search(pattern, cell, re.IGNORECASE)) is not None:
            return match[1].lower()
    return None


def test_both_engines_have_the_same_statements():
    assert set(SQLITE) - set(MSSQL) == ONLY["sqlite"]
    assert set(MSSQL) - set(SQLITE) == ONLY["mssql"]


QUERIES = {
    query.name: query
    for query in (
        *(query for query in vars(sql.statements).values() if isinstance(query, Query)),
        *(source.query for source in sources()),
        *(source.query_of_sensors for source in THRESHOLD.sources),
    )
}


def test_every_statement_is_declared_once():
    assert not QUERIES.keys() & COMMANDS.keys()
    assert QUERIES.keys() | COMMANDS.keys() | ONLY["mssql"] == set(SQLITE) | set(MSSQL)


@pytest.mark.parametrize("name", sorted(QUERIES))
@pytest.mark.parametrize("engine", ["sqlite", "mssql"])
def test_a_query_has_the_declared_parameters_and_columns(engine, name):
    text = {"sqlite": SQLITE, "mssql": MSSQL}[engine][name]
    assert parameters(engine, text) == len(QUERIES[name].parameters)
    assert result_columns(text) == list(QUERIES[name].row._fields)


@pytest.mark.parametrize("name", sorted(COMMANDS))
@pytest.mark.parametrize("engine", ["sqlite", "mssql"])
def test_a_command_has_the_declared_parameters(engine, name):
    text = {"sqlite": SQLITE, "mssql": MSSQL}[engine].get(name)
    if text is None:
        assert name in ONLY["sqlite"]
    else:
        assert parameters(engine, text) == len(COMMANDS[name])


_VALUES = dict.fromkeys(("begin", "end", "predicted_at"), "2026-01-01 00:00:00.000") | {
    **dict.fromkeys(("device_ids", "event_ids", "sensor_ids", "statuses", "event_types"), "[]"),
    "device_uuid": "00000000-0000-0000-0000-000000000000",
}


def test_queries_return_the_declared_columns_on_an_engine(settings, database):
    for query in QUERIES.values():
        text = {"sqlite": SQLITE, "mssql": MSSQL}[settings.engine][query.name]
        values = [_VALUES.get(name, 1) for name in query.parameters]
        cursor = database._engine.execute(database._connection, text, values)
        named = [column[0].lower() for column in cursor.description]
        assert named == list(query.row._fields), query.name
        cursor.close()
