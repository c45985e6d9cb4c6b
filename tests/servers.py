"""The servers that tests use, and which of them are missing on this machine.

Real servers are named by `KAFKA_BOOTSTRAP_SERVERS` and `DB_HOST`, `DB_PASSWORD`, ...; others
are started in Docker, if an engine answers. Only the process that the user started does so:
pytest-xdist's workers get the addresses.
"""

import socket
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from shutil import which
from subprocess import run
from typing import Any

from pydantic import SecretStr

from contract.settings import Settings, load_settings

GIVEN = load_settings()
"""The settings from the environment, read before tests clear them."""

_PASSWORD = "Only-4-tests"  # noqa: S105 - of a server that exists only during the tests
_START_S = 120


@cache
def docker_answers() -> bool:
    """Whether containers can be started."""
    version = ["docker", "version", "--format", "{{.Server.Version}}"]
    return bool(which("docker")) and not run(version, capture_output=True, check=False).returncode


@cache
def odbc_loads() -> bool:
    """Whether pyodbc finds the system library unixODBC."""
    try:
        import_module("pyodbc")
    except ImportError:
        return False
    return True


class Servers:
    """The servers of a test run: configured, or started when first needed."""

    def __init__(self, known: dict[str, Any] | None = None) -> None:
        self._known = {} if known is None else dict(known)
        """By name. A missing name is not known yet."""
        self._running = ExitStack()

    def close(self) -> None:
        """Stop the servers that were started."""
        self._running.close()

    def tell(self) -> dict[str, Any]:
        """Start all servers, and return their addresses for the workers."""
        return {"kafka": self.kafka(), "mssql": self.mssql()}

    def kafka(self) -> str | None:
        """The address of a real Kafka. None if there is none."""
        if "kafka" not in self._known:
            self._known["kafka"] = GIVEN.kafka_bootstrap_servers or self._start_kafka()
        address: str | None = self._known["kafka"]
        return address

    def mssql(self) -> tuple[str, int] | None:
        """Host and port of a SQL Server in a container. None if there is none."""
        if "mssql" not in self._known:
            self._known["mssql"] = None if GIVEN.db_host else self._start_mssql()
        address: tuple[str, int] | None = self._known["mssql"]
        return address

    def mssql_settings(self) -> Settings | None:
        """Settings for a T-SQL server. None if there is none."""
        if GIVEN.db_host:
            return GIVEN
        if (place := self.mssql()) is None:
            return None
        host, port = place
        return Settings(
            db_engine="mssql",
            db_host=host,
            db_port=port,
            db_user="sa",
            db_password=SecretStr(_PASSWORD),
            db_trust_server_certificate=True,
        )

    def _start_kafka(self) -> str | None:
        if not docker_answers():
            return None
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - slow to load
        from testcontainers.core.wait_strategies import LogMessageWaitStrategy  # noqa: PLC0415

        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]  # a broker has to know it before it starts
        node = DockerContainer("apache/kafka:4.1.1").with_bind_ports(9092, port)
        host = node.get_docker_client().host()
        node.with_envs(
            KAFKA_NODE_ID="1",
            KAFKA_PROCESS_ROLES="broker,controller",
            KAFKA_LISTENERS="PLAINTEXT://:9092,CONTROLLER://:9093",
            KAFKA_ADVERTISED_LISTENERS=f"PLAINTEXT://{host}:{port}",
            KAFKA_LISTENER_SECURITY_PROTOCOL_MAP="PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            KAFKA_CONTROLLER_LISTENER_NAMES="CONTROLLER",
            KAFKA_CONTROLLER_QUORUM_VOTERS="1@localhost:9093",
            KAFKA_NUM_PARTITIONS="4",
            KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR="1",
            KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS="4",
            KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR="1",
            KAFKA_TRANSACTION_STATE_LOG_MIN_ISR="1",
            KAFKA_AUTO_CREATE_TOPICS_ENABLE="false",
        )
        started = LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(_START_S)
        self._running.enter_context(node.waiting_for(started))
        return f"{host}:{port}"

    def _start_mssql(self) -> tuple[str, int] | None:
        if not (docker_answers() and odbc_loads()):
            return None
        from testcontainers.community.mssql import SqlServerContainer  # noqa: PLC0415 - slow to load

        image = "mcr.microsoft.com/mssql/server:2022-latest"
        server = self._running.enter_context(SqlServerContainer(image, password=_PASSWORD))
        return server.get_container_host_ip(), int(server.get_exposed_port(1433))


MISSING = {
    "SQL Server": "set DB_HOST and DB_PASSWORD, or start a Docker engine",
    "a real Kafka": "set KAFKA_BOOTSTRAP_SERVERS, or start a Docker engine",
    "Java or Maven": "install a JDK 17 and Maven, so that tests can start a Kafka",
    "a Docker engine": "start one, so that tests can start SQL Server and Kafka",
    "unixODBC": "apt-get install unixodbc, or the same package of your system",
}
"""Requirements that may be missing on a machine, and how to get them."""


def missing(part: str) -> str:
    """The reason why a test that needs `part` is skipped."""
    return f"missing {part}: {MISSING[part]}"


def lacking() -> list[str]:
    """The entries of `MISSING` that this machine itself does not have."""
    there = {
        "Java or Maven": bool(which("java") and which("mvn")),
        "a Docker engine": docker_answers(),
        "unixODBC": odbc_loads(),
    }
    return [part for part, is_there in there.items() if not is_there]
