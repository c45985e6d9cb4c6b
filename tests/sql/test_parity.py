"""Without a server: each engine has the same statements, with the same parameters and results."""

import re
import sqlite3
from contextlib import closing
from importlib.resources import files
from itertools import pairwise

import pytest

from contract.settings import Settings
from sql.schema import apply_schema

ONLY = {"sqlite": {"copy_installation"}, "mssql": {"create_database"}}
"""Statements that only one engine needs: a replay's own database is SQLite's, and a file needs no
statement to be made."""

OTHERWISE_NAMED = {"list_columns", "list_objects", "newest_readings"}
"""Queries of the engine's own catalogue, and one that has the ids from its parameter."""


def statements(engine):
    folder = files(f"sql.{engine}") / "statements"
    return {
        file.name.removesuffix(".sql"): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
    }


SQLITE, MSSQL = statements("sqlite"), statements("mssql")
BOTH = sorted(set(SQLITE) & set(MSSQL))


def bare(text):
    """Without comments and the contents of strings."""
    return re.sub(r"'[^']*'", "''", re.sub(r"--[^\n]*", "", text))


def parameters(engine, text):
    if engine == "mssql":
        return bare(text).count("?")
    return max(map(int, re.findall(r"\?(\d+)", bare(text))), default=0)


def top_level(text, *words):
    """Where one of the words, or a comma, stands outside brackets: [(word, begin, end)]."""
    found, depth = [], 0
    for match in re.finditer(rf"\(|\)|,|\b(?:{'|'.join(words)})\b", text, re.IGNORECASE):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if not depth and match[0] not in "()":
            found.append((match[0].upper(), match.start(), match.end()))
    return found


def result_columns(text):
    """The columns of the last query, as far as they are named; None where it gives no rows."""
    last = [part for part in bare(text).split(";") if part.strip()][-1]
    marks = top_level(last, "SELECT", "FROM", "INSERT", "UPDATE", "DELETE", "EXEC", "UNION")
    if any(word in ("INSERT", "UPDATE", "DELETE", "EXEC") for word, *_ in marks):
        return None
    selects = [end for word, _, end in marks if word == "SELECT"]
    if not selects:
        return None
    begin = selects[0]
    ends = [at for word, at, _ in marks if word in ("FROM", "UNION") and at > begin]
    listed = last[begin : min(ends, default=len(last))]
    cuts = [0, *(end for word, _, end in top_level(listed) if word == ","), len(listed)]
    cells = [listed[a:b].strip(" ,\n") for a, b in pairwise(cuts)]
    cells[0] = re.sub(r"^(DISTINCT|TOP\s*\([^)]*\))\s+", "", cells[0], flags=re.IGNORECASE)
    return [name(cell) for cell in cells]


def name(cell):
    """Its alias, or the column that it is or casts; None for any other expression."""
    for pattern in (
        r"\bAS\s+\[?(\w+)\]?$", r"^(?:\w+\.)?\[?(\w+)\]?$",
        r"^CAST\((?:\w+\.)?\[?(\w+)\]? AS [\w() ]+\)$",
    ):  # fmt: skip
        if (found := re.search(pattern, cell, re.IGNORECASE)) is not None:
            return found[1].lower()
    return None


def test_both_engines_have_the_same_statements():
    assert set(SQLITE) - set(MSSQL) == ONLY["sqlite"]
    assert set(MSSQL) - set(SQLITE) == ONLY["mssql"]


@pytest.mark.parametrize("statement", BOTH)
def test_a_statement_takes_as_many_parameters_on_both_engines(statement):
    assert parameters("sqlite", SQLITE[statement]) == parameters("mssql", MSSQL[statement])


@pytest.mark.parametrize("statement", BOTH)
def test_a_query_gives_the_same_columns_on_both_engines(statement):
    here, there = result_columns(SQLITE[statement]), result_columns(MSSQL[statement])
    if here is None or there is None:
        return  # what a procedure gives is tested on a server
    assert len(here) == len(there)
    if statement in OTHERWISE_NAMED:
        return
    named = [(a, b) for a, b in zip(here, there, strict=True) if a and b]
    assert [a for a, _ in named] == [b for _, b in named]


def test_the_columns_are_read_as_sqlite_itself_gives_them(tmp_path):
    apply_schema(Settings(iot_sqlite_path=tmp_path / "iot.db"))
    seen = 0
    with closing(sqlite3.connect(tmp_path / "iot.db")) as database:
        for statement, text in SQLITE.items():
            wanted = result_columns(text)
            if wanted is None or len([one for one in bare(text).split(";") if one.strip()]) > 1:
                continue
            count = parameters("sqlite", text)
            cursor = database.execute(text, (0,) * count)
            assert len(cursor.description) == len(wanted), statement
            seen += 1
    assert seen > 20
