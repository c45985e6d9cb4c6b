"""What the documents point at is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_tests_that_a_page_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), link
    for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
        source = (ROOT / file).read_text(encoding="utf-8")
        assert not name or f"def {name}(" in source, name
    for file in re.findall(
        r"`((?:dataflows|sinks|ops|ml|sql|contract|ingest_edge)/[\w/]+\.\w+)`", text
    ):
        assert (ROOT / file).exists(), file


def test_each_guarantee_names_what_proves_it():
    rows = [
        line
        for line in (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("| promise")
    ]
    assert len(rows) > 8
    for row in rows:
        assert re.search(r"`tests/[\w/]+\.py::\w+`", row), row
