"""Calls of the Kafka client that crash the process are not used in the product or the tests.

`list_offsets` and `delete_records` of `AdminClient` use memory that the library has freed: under
load the process sometimes dies of SIGSEGV. `dataflows.log.ends` finds out where partitions end, and
`tests.chaos.kafka` deletes records with Kafka's own tool.
"""

import ast
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_FOLDERS = (
    "contract", "runtime", "ingest_edge", "dataflows", "sinks", "ml", "sql", "ops", "bench",
    "tests",
)  # fmt: skip
_CRASH = {"list_offsets", "delete_records"}


def calls(source):
    """The accesses to these attributes in a source."""
    return [
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr in _CRASH
    ]


def test_no_source_calls_list_offsets_or_delete_records():
    files = [file for folder in _FOLDERS for file in (_ROOT / folder).rglob("*.py")]
    assert len(files) > 200
    by_file = {str(file.relative_to(_ROOT)): calls(file.read_text("utf-8")) for file in files}
    assert {name: what for name, what in by_file.items() if what} == {}


def test_such_calls_are_detected_in_any_form():
    assert calls("AdminClient(c).list_offsets({})") == ["list_offsets"]
    assert calls("ask = self._admin.delete_records\nask([])") == ["delete_records"]
