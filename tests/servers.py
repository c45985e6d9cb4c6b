"""The servers that tests use, and what of them this machine lacks.

Real servers are named by `KAFKA_BOOTSTRAP_SERVERS` and `DB_HOST`, `DB_PASSWORD`, ...; those that
are not named are started in Docker, if an engine answers. Only the process that the user has
started does so: pytest-xdist's workers are given the addresses.
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
"""The settings from outside, read before tests forget them."""

_PASSWORD = "Only-4-tests"  # noqa: S105 - of a server that lives as long as the tests
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
    """The servers of one run of the suite: given, or started when they are first asked for."""

    def __init__(self, told: dict[str, Any] | None = None) -> None:
        self._told = {} if told is None else dict(told)
        """By name; what is not in it is not known yet."""
        self._running = ExitStack()

    def close(self) -> None:
        """End what was started."""
        self._running.close()

    def tell(self) -> dict[str, Any]:
        """Plain values for the workers, all servers being started."""
        return {"kafka": self.kafka(), "mssql": self.mssql()}

    def kafka(self) -> str | None:
        """The address of a real Kafka; None where there is none."""
        if "kafka" not in self._told:
            self._told["kafka"] = GIVEN.kafka_bootstrap_servers or self._start_kafka()
        found: str | None = self._told["kafka"]
        return found

    def mssql(self) -> tuple[str, int] | None:
        """Host and port of a SQL Server in a container; None where there is none."""
        if "mssql" not in self._told:
            self._told["mssql"] = None if GIVEN.db_host else self._start_mssql()
        found: tuple[str, int] | None = self._told["mssql"]
        return found

    def mssql_settings(self) -> Settings | None:
        """Settings that reach a server which speaks T-SQL; None where there is none."""
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
        from testcontainers.community.mssql import SqlServerContainer  # noqa: PLC0415 - likewise

        image = "mcr.microsoft.com/mssql/server:2022-latest"
        server = self._running.enter_context(SqlServerContainer(image, password=_PASSWORD))
        return server.get_container_host_ip(), int(server.get_exposed_port(1433))


MISSING = {
    "SQL Server": "set DB_HOST and DB_PASSWORD, or start a Docker engine",
    "a real Kafka": "set KAFKA_BOOTSTRAP_SERVERS, or start a Docker engine",
    "Java or Maven": "install a JDK 17 and Maven, with which a test starts a Kafka of its own",
    "a Docker engine": "start one, and tests start SQL Server and Kafka in it",
    "unixODBC": "apt-get install unixodbc, or your system's package of that name",
}
"""What tests may need and a machine may lack, and what to do about it."""


def missing(part: str) -> str:
    """The reason for which a test is skipped that needs it."""
    return f"missing {part}: {MISSING[part]}"


def lacking() -> list[str]:
    """Those of `MISSING` that this machine lacks for itself, whatever servers are given."""
    there = {
        "Java or Maven": bool(which("java") and which("mvn")),
        "a Docker engine": docker_answers(),
        "unixODBC": odbc_loads(),
    }
    return [part for part, is_there in there.items() if not is_there]
