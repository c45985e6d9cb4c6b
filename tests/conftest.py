"""What tests run against: settings, databases on each engine, and one broker for the session.

Real servers are named by `KAFKA_BOOTSTRAP_SERVERS` and `DB_HOST`, `DB_PASSWORD`, ...; where they
are not, the embedded broker and SQLite serve, and SQL Server comes from a Docker engine if one
answers.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from subprocess import run

import pytest
from pydantic import SecretStr

from contract.settings import Settings, child_environment, load_settings
from ops.children import Children
from sql.database import Database
from sql.schema import apply_schema, open_database
from tests.sql.installations import new_database

_GIVEN = load_settings()
"""The settings from outside, read before tests forget them."""


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(child_environment({})):
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def mssql_server() -> Iterator[Settings]:
    """Settings that reach a server which speaks T-SQL."""
    if _GIVEN.db_host:
        yield _GIVEN
        return
    docker = ["docker", "version", "--format", "{{.Server.Version}}"]
    if not which("docker") or run(docker, capture_output=True, check=False).returncode:
        pytest.skip("no SQL Server: set DB_HOST and DB_PASSWORD, or start a Docker engine")
    from testcontainers.mssql import SqlServerContainer  # noqa: PLC0415 - likewise

    image = "mcr.microsoft.com/mssql/server:2022-latest"
    with SqlServerContainer(image, password="Only-4-tests") as server:  # noqa: S106
        yield Settings(
            db_engine="mssql",
            db_host=server.get_container_host_ip(),
            db_port=int(server.get_exposed_port(1433)),
            db_user="sa",
            db_password=SecretStr("Only-4-tests"),
            db_trust_server_certificate=True,
        )


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
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the broker that the session's tests use."""
    if _GIVEN.kafka_bootstrap_servers:
        yield _GIVEN.kafka_bootstrap_servers
        return
    with Children(tmp_path_factory.mktemp("broker")) as children:
        broker = children.start("broker", "ops.broker", env=child_environment({}))
        assert broker.process.stdout is not None
        yield broker.process.stdout.readline().strip()


@pytest.fixture(scope="session")
def given_brokers() -> str | None:
    """The address of the real broker that was given, if one was."""
    return _GIVEN.kafka_bootstrap_servers


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each reason why tests were skipped."""
    skipped = terminalreporter.stats.get("skipped", [])
    for reason, count in Counter(report.longrepr[2] for report in skipped).items():
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")


def pytest_report_header() -> list[str]:
    kafka = _GIVEN.kafka_bootstrap_servers or "embedded, in memory"
    return [f"broker: {kafka}", f"SQL Server: {_GIVEN.db_host or 'none given'}"]
