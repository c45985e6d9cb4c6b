"""Rules that no linter checks."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "contract", "runtime", "ingest_edge", "dataflows", "rules", "sinks", "ml", "sql", "ops", "bench"
)  # fmt: skip
FILES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


def place_of(node):
    """The value before the brackets of `x[3]`, if the index is a literal number."""
    if (
        isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, int)
    ):
        return node.value
    return None


def is_query(node):
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"query", "fetchone", "fetchall"}
    )


def takes_by_place(node):
    """Whether a column of a row is accessed by position instead of by name."""
    if (before := place_of(node)) is not None:
        named = isinstance(before, ast.Name) and before.id in {"row", "reading", "event"}
        return named or place_of(before) is not None
    if isinstance(node, ast.Call):
        by_name = any(isinstance(place, ast.Starred) for place in node.args)
        return ast.unparse(node.func).endswith("itemgetter") and not by_name
    return (
        isinstance(node, ast.For | ast.comprehension)
        and is_query(node.iter)
        and isinstance(node.target, ast.Tuple)
    )


def columns_by_place(tree):
    return [ast.unparse(node) for node in ast.walk(tree) if takes_by_place(node)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_column_of_a_row_is_accessed_by_position(file):
    assert columns_by_place(ast.parse(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        "row[3]", "database.query(Q)[0][1]", "key = itemgetter(0, 4)",
        "for key, code in database.query(Q): pass", "[a for a, b in database.query(Q)]",
    ],
)  # fmt: skip
def test_access_by_position_is_detected(code):
    assert columns_by_place(ast.parse(code))
