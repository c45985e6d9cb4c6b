"""What the documents point at exists, and every command that they show can be typed.

A command in a fenced block is either checked by one of `CHECKS` (parsed by the program that it
names, executed on an empty database, ...) or listed in `NOT_CHECKED` with the reason. A word in
capitals (`DIR`, `FILE.csv`) stands for a value that the reader chooses.
"""

import argparse
import inspect
import re
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from contract.settings import Settings
from ingest_edge.requests import LegacyBody, LegacyReading, PacketBody, parse
from ops.cli import app as iot
from ops.devices import register, sensor_spec
from ops.verbs.services import PROGRAMS
from rules.tables import make_rules, rule_tables
from sql.schema import apply_schema, open_database

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("deploy/*/README.md"),
    ]
)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pages
def test_links_and_tests_that_a_page_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    for link, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
        target = page.parent / link if link else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), f"{link}#{anchor}"
    for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
        if "NAME" in file:
            continue
        source = (ROOT / file).read_text(encoding="utf-8")
        assert not name or f"def {name}(" in source, name
    for file in re.findall(
        r"`((?:dataflows|sinks|ops|ml|sql|contract|ingest_edge|rules|runtime)/[\w/]+\.\w+)`", text
    ):
        assert "NAME" in file or "NNN" in file or (ROOT / file).exists(), file


def anchors(page: Path) -> set[str]:
    """Of the headings of a page."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_each_guarantee_names_what_proves_it():
    rows = [
        line
        for line in (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("| promise")
    ]
    assert len(rows) > 8
    for row in rows:
        assert re.search(r"`tests/[\w/]+\.py::\w+`", row), row


def test_the_page_of_settings_has_every_setting_and_no_other():
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    first_cells = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    named = {name for cell in first_cells for name in re.findall(r"`([A-Z_]+)`", cell)}
    assert named == {name.upper() for name in Settings.model_fields} | {"IOT_ENV_FILE"}


@pytest.mark.parametrize("page", [ROOT / "README.md", *ROOT.glob("docs/*.md")], ids=str)
def test_each_page_can_be_reached_from_the_index(page):
    index = ROOT / "docs" / "README.md"
    links = re.findall(r"\]\(([^)#:]+)\)", index.read_text(encoding="utf-8"))
    reached = {(index.parent / link).resolve() for link in links}
    assert page in reached | {index, ROOT / "README.md"}


_Check = Callable[[list[str], sqlite3.Connection], None]


class _WrongError(AssertionError):
    """What is shown cannot be typed."""


def shown(page: Path) -> list[str]:
    """The commands in the fenced blocks of a page, one by one."""
    blocks = re.findall(r"^```(?:bash|sh)\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    return [command for block in blocks for line in _lines(block) for command in _commands(line)]


def _lines(block: str) -> Iterator[str]:
    """Logical lines: continued after a backslash, and while a quotation is open."""
    begun = ""
    for line in block.splitlines():
        begun += line
        if begun.endswith("\\"):
            begun = begun[:-1] + " "
            continue
        try:
            shlex.split(begun, comments=True)
        except ValueError:  # an open quotation
            begun += "\n"
            continue
        yield begun
        begun = ""
    assert not begun, f"a quotation is open at the end of a block: {begun}"


def _commands(line: str) -> Iterator[str]:
    """The parts of a line between `&&`, `;` and `|`, without comments and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False
    for token in [*lexer, ";"]:
        if redirected:
            redirected = False
        elif set(token) <= set("<>"):
            redirected = True
        elif set(token) <= set("();|&"):
            if words:
                yield shlex.join(words)
            words = []
        else:
            words.append(token)


def _placeholder(value: str) -> bool:
    return bool(re.search(r"\b[A-Z]{1,}\b|…|\.\.\.", value))


def _environment(words: list[str]) -> list[str]:
    """The words after `NAME=value`, where each NAME is a setting or a variable of the Makefile."""
    while words and (found := re.match(r"([A-Z][A-Z_]*)=", words[0])):
        known = {name.upper() for name in Settings.model_fields} | {"IOT_ENV_FILE"}
        if found[1] not in known | set(re.findall(r"^([A-Z]+) \?=", MAKEFILE, re.M)):
            raise _WrongError(f"there is no setting {found[1]}")
        words = words[1:]
    return words


def _parsed(command: Any, words: list[str], name: str) -> None:
    """Raise unless a Typer command takes these words."""
    if hasattr(command, "commands"):
        _parsed_by_group(command, words, name)
        return
    if words == ["--help"]:
        return
    context = command.context_class(command, info_name=name)
    try:
        given, left, _ = command.make_parser(context).parse_args(list(words))
    except Exception as error:
        raise _WrongError(f"{name}: {getattr(error, 'message', error)}") from error
    if left:
        raise _WrongError(f"{name}: what is {left[0]}?")
    for parameter in command.params:
        value = given.get(parameter.name)
        if not isinstance(value, str | list | tuple | bool) or value in ([], ()):
            if parameter.required:
                raise _WrongError(f"{name}: {parameter.name} is required")
        elif not _placeholder(str(value)):
            try:
                parameter.process_value(context, value)
            except Exception as error:
                raise _WrongError(f"{name}: {getattr(error, 'message', error)}") from error


def _parsed_by_group(group: Any, words: list[str], name: str) -> None:
    options = {option for parameter in group.params for option in parameter.opts} | {"--help"}
    if not words:
        if not group.invoke_without_command:
            raise _WrongError(f"{name}: which command?")
    elif words[0].startswith("-"):
        if words[0] not in options or words[1:]:
            raise _WrongError(f"{name}: there is no option {words[0]}")
    elif words[0] not in group.commands:
        raise _WrongError(f"{name}: there is no command {words[0]}")
    elif name == "iot" and words[0] in PROGRAMS:
        _module([PROGRAMS[words[0]][0], *words[1:]])
    else:
        _parsed(group.commands[words[0]], words[1:], f"{name} {words[0]}")


def _module(words: list[str]) -> None:
    """`python -m MODULE ...`"""
    name, *rest = words
    if name in {"bytewax.run", "bytewax.recovery"}:
        _bytewax(name, rest)
        return
    if name == "pytest":
        for word in rest:
            if not word.startswith("-") and not (ROOT / word).exists():
                raise _WrongError(f"there are no tests {word}")
        return
    if (spec := find_spec(name)) is None:
        raise _WrongError(f"there is no module {name}")
    module = import_module(f"{name}.__main__" if spec.submodule_search_locations else name)
    program = getattr(module, "app", None)
    if isinstance(program, typer.Typer):
        _parsed(get_command(program), rest, name)
    elif inspect.isfunction(main := getattr(module, "main", None)) and _is_command(main):
        made = typer.Typer(add_completion=False)
        made.command()(main)
        _parsed(get_command(made), rest, name)
    elif rest:
        raise _WrongError(f"{name} takes no options: {rest}")


def _is_command(main: Callable[..., Any]) -> bool:
    return all("typer" in repr(p.annotation) for p in inspect.signature(main).parameters.values())


def _bytewax(name: str, words: list[str]) -> None:
    if name == "bytewax.recovery":
        if len(words) != 2:
            raise _WrongError(f"{name} takes a directory and a number")
        return
    parser = import_module(name)._create_arg_parser()
    parser.exit_on_error = False
    try:
        _, left = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise _WrongError(f"{name}: {error}") from error
    if left:
        raise _WrongError(f"{name}: what is {left[0]}?")


def _make(words: list[str]) -> None:
    for word in words:
        if "=" in word:
            _environment([word])
        elif not word.startswith("-") and not re.search(rf"^{word}:", MAKEFILE, re.M):
            raise _WrongError(f"the Makefile has no target {word}")


def _curl(words: list[str]) -> None:
    url = next(word for word in words if word.startswith("http"))
    path = re.sub(r"^https?://[^/]+", "", url)
    body = words[words.index("-d") + 1].encode() if "-d" in words else None
    bodies: dict[str, Any] = {
        "/ingest/packets": PacketBody,
        "/ingest/readings": LegacyReading,
        "/ingest/readings/bulk": LegacyBody,
    }
    if path in bodies and body is not None:
        _, warnings = parse(body, bodies[path])
        assert not warnings, warnings
    elif path == "/ml/predict" and body is not None:
        asked = import_module("ml.service").PredictRequest
        assert asked.model_validate_json(body).model_fields_set <= set(asked.model_fields)
    elif path not in {"/health", "/health/live", "/health/ready", "/metrics"}:
        raise _WrongError(f"nothing answers at {path}")


def _sqlite(words: list[str], database: sqlite3.Connection) -> None:
    _, *statements = [word for word in words if not word.startswith("-")]
    assert statements, "which statement?"
    for statement in statements:
        database.execute(statement)


CHECKS: dict[str, tuple[str, _Check]] = {
    r"(\.venv/bin/)?iot\b": (
        "parsed by the command itself",
        lambda words, _: _parsed(get_command(iot), words[1:], "iot"),
    ),
    r"(\.venv/bin/)?python -m ": (
        "the module is there, and parses its options",
        lambda words, _: _module(words[2:]),
    ),
    r"make\b": ("the Makefile has the target and the variables", lambda words, _: _make(words[1:])),
    r"curl\b": (
        "the address is served, and the body is what it takes",
        lambda words, _: _curl(words[1:]),
    ),
    r"sqlite3 ": (
        "executed on a new database; rules that it writes make sense",
        lambda words, database: _sqlite(words[1:], database),
    ),
    r"export ": ("settings are known", lambda words, _: _known(words[1:])),
    r"\.ci/": ("the file is there", lambda words, _: _exists(words[0])),
    r"cp \.env\.example ": ("the file is there", lambda words, _: _exists(words[1])),
}
"""Pattern of a command -> how it is checked."""

NOT_CHECKED = {
    r"docker (compose|build|push) ": "needs Docker; tests/deploy checks the Compose file",
    r"kubectl ": "needs a cluster; tests/deploy and `make check` check the manifests",
    r"sqlcmd ": "needs SQL Server; tests/sql/test_patches.py applies the same scripts",
    r"kafka-console-consumer\.sh ": "a tool of Apache Kafka",
    r"mkdir DIR$": "of the shell",
}
"""Pattern of a command -> why it is not checked."""


def _known(words: list[str]) -> None:
    if left := _environment(words):
        raise _WrongError(f"not a setting: {left[0]}")


def _exists(file: str) -> None:
    if not (ROOT / file).exists():
        raise _WrongError(f"there is no file {file}")


def check(command: str, database: sqlite3.Connection) -> None:
    """Raise unless a command can be typed, or it is listed why that is not checked."""
    words = _environment(shlex.split(command))
    if not words:  # settings for what stands before the command
        return
    rest = shlex.join(words)
    for pattern, (_, checked) in CHECKS.items():
        if re.match(pattern, rest):
            checked(words, database)
            return
    if not any(re.match(pattern, rest) for pattern in NOT_CHECKED):
        raise _WrongError(f"neither checked nor listed: {command}")


@pytest.fixture
def greenhouse(tmp_path: Path) -> Settings:
    """A new database with the device of the documents, whose sensor has the id 1."""
    settings = Settings(iot_sqlite_path=tmp_path / "iot.db")
    apply_schema(settings)
    with open_database(settings) as database:
        register(database, "greenhouse", [sensor_spec("temperature")])
    return settings


@pages
def test_every_command_that_a_page_shows_can_be_typed(page, greenhouse):
    with closing(sqlite3.connect(greenhouse.iot_sqlite_path)) as database:
        database.execute("PRAGMA foreign_keys = ON")
        for command in shown(page):
            check(command, database)
        database.commit()
    with open_database(greenhouse) as rows:
        assert make_rules(rule_tables(rows))[1] == []


@pages
def test_commands_stand_in_blocks_that_say_so(page):
    for language, block in re.findall(
        r"^```(\w*)\n(.*?)^```", page.read_text("utf-8"), re.M | re.S
    ):
        if language not in {"bash", "sh"}:
            for line in block.splitlines():
                assert not any(re.match(pattern, line) for pattern in CHECKS | NOT_CHECKED), line


@pages
def test_every_statement_that_a_page_shows_runs(page, greenhouse):
    text = page.read_text(encoding="utf-8")
    with closing(sqlite3.connect(greenhouse.iot_sqlite_path)) as database:
        for statement in re.findall(r"^```sql\n(.*?)^```", text, re.M | re.S):
            if "DATEADD(" not in statement:  # SQL Server's; the page has it for SQLite as well
                database.execute(statement)


@pages
def test_verbs_and_options_in_running_text_are_there(page):
    """In `iot ...`; values and arguments may be left out."""
    if page.name == "CHANGELOG.md":  # tells of what was
        return
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for span in re.findall(r"`(?:\.venv/bin/)?iot ([a-z][^`]*)`", text):
        words = [word for word in span.split() if word != "..."]
        command: Any = get_command(iot)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands"), span
        options = {option for parameter in command.params for option in parameter.opts}
        wanted = {word for word in words if word.startswith("--")}
        assert command.name in PROGRAMS or wanted <= options, span


def test_uuids_in_the_documents_are_those_of_the_device(greenhouse):
    with open_database(greenhouse) as database:
        device = register(database, "greenhouse", [sensor_spec("temperature")])
    for page in (ROOT / "README.md", ROOT / "docs" / "devices.md"):
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r'"device_uuid": "([^"]+)"', text)) == {device.uuid}
        assert set(re.findall(r'"sensor_uuid": "([^"]+)"', text)) == {*device.sensors.values()}


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("iot launch", "no command launch"),
        ("iot run --fast", "--fast"),
        ("iot demo --seconds soon", "valid number"),
        ("iot devices add greenhouse", "required"),
        ("iot edge --fast", "--fast"),
        ("python -m sql destroy", "no command destroy"),
        ("python -m ingest_edge --fast", "--fast"),
        ("python -m ml.trainer", "no module ml.trainer"),
        ("python -m ops.broker --fast", "--fast"),
        ("python -m pytest tests/nothing", "no tests tests/nothing"),
        ("make coffee", "no target coffee"),
        ("make demo CUPS=2", "no setting CUPS"),
        ("KAFKA_BROKER=x iot run", "no setting KAFKA_BROKER"),
        ("curl http://127.0.0.1:8001/nothing", "nothing answers"),
        ('curl http://127.0.0.1:8001/ingest/packets -d "{}"', "device_uuid"),
        ('sqlite3 iot.db "SELECT colour FROM sensors"', "no such column: colour"),
        ("rm -rf /", "neither checked nor listed"),
    ],
)
def test_what_cannot_be_typed_is_found(command, error, greenhouse):
    with (
        closing(sqlite3.connect(greenhouse.iot_sqlite_path)) as database,
        pytest.raises(Exception, match=error),
    ):
        check(command, database)
