"""Calls of the Kafka client that crash the process stay out of the product and the tests.

`list_offsets` and `delete_records` of `AdminClient` use memory that the library has freed: under
load the process dies of SIGSEGV now and then. `dataflows.log.ends` asks where partitions end, and
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
    """The attributes of these names that a source takes of anything."""
    return [
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr in _CRASH
    ]


def test_no_source_asks_the_admin_client_for_offsets_or_to_delete_records():
    files = [file for folder in _FOLDERS for file in (_ROOT / folder).rglob("*.py")]
    assert len(files) > 200
    found = {str(file.relative_to(_ROOT)): calls(file.read_text("utf-8")) for file in files}
    assert {name: what for name, what in found.items() if what} == {}


def test_such_a_call_is_found_however_it_is_written():
    assert calls("AdminClient(c).list_offsets({})") == ["list_offsets"]
    assert calls("ask = self._admin.delete_records\nask([])") == ["delete_records"]
