"""What tests run against: settings, databases on each engine, and one broker for each process.

Which servers there are, and what becomes of tests where there are none: `tests.servers`.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.settings import Settings, child_environment
from ops.children import Children
from sql.database import Database
from sql.schema import apply_schema, open_database
from tests.servers import MISSING, Servers, docker_answers, lacking, missing, odbc_loads
from tests.sql.installations import new_database

_SERVERS = pytest.StashKey[Servers]()


def pytest_configure(config: pytest.Config) -> None:
    told = getattr(config, "workerinput", {}).get("servers")
    config.stash[_SERVERS] = Servers(told)
    config.add_cleanup(config.stash[_SERVERS].close)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """Tell a worker of pytest-xdist, before it starts, where the servers are."""
    node.workerinput["servers"] = node.config.stash[_SERVERS].tell()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start a Kafka of their own run one after the other: each takes much memory."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("a Kafka of its own"))


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Servers:
    return pytestconfig.stash[_SERVERS]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(child_environment({})):
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def mssql_server(servers: Servers) -> Settings:
    """Settings that reach a server which speaks T-SQL."""
    if (found := servers.mssql_settings()) is None:
        pytest.skip(missing("unixODBC" if docker_answers() and not odbc_loads() else "SQL Server"))
    return found


@pytest.fixture(params=["sqlite", "mssql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a database of each engine that has no schema yet."""
    if request.param == "sqlite":
        yield Settings(iot_sqlite_path=tmp_path / "iot.db")
        return
    with new_database(request.getfixturevalue("mssql_server")) as settings:
        yield settings


@pytest.fixture
def settings(empty: Settings) -> Settings:
    """Settings of a database of each engine with our schema."""
    apply_schema(empty)
    return empty


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """A connection to that database."""
    opened = open_database(settings)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def brokers(given_brokers: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the broker that the tests of this process use."""
    if given_brokers:
        yield given_brokers
        return
    with Children(tmp_path_factory.mktemp("broker")) as children:
        broker = children.start("broker", "ops.broker", env=child_environment({}))
        assert broker.process.stdout is not None
        yield broker.process.stdout.readline().strip()


@pytest.fixture(scope="session")
def given_brokers(servers: Servers) -> str | None:
    """The address of a real broker, where there is one."""
    return servers.kafka()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each thing that is missing here, with how many tests it has kept from running,
    and for each other reason why tests were skipped.
    """
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for part in MISSING:
        count = reasons.pop(missing(part), 0)
        if count or part in lacking():
            not_run = f" ({count} tests not run)" if count else ""
            terminalreporter.write_line(missing(part) + not_run)
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{count} skipped: {reason}")
