"""Settings: read from the environment once, validated at start, with secrets masked when printed.

A value comes from the environment, or else from the file that `IOT_ENV_FILE` names. The file has
lines of `NAME=value`. Unknown names are ignored, so a file of another program can be used.
"""

import os
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contract.errors import SettingError
from contract.partitions import parse_partitions


class Settings(BaseSettings):
    """All settings of all processes. The field `kafka_topic` is the variable `KAFKA_TOPIC`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    kafka_bootstrap_servers: str | None = None
    kafka_topic: str = Field("iot.packets", pattern=r"^[A-Za-z0-9._-]{1,200}$")
    kafka_partitions: str | None = None
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: (
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"] | None
    ) = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_ca_location: Path | None = None
    kafka_ssl_certificate_location: Path | None = None
    kafka_ssl_key_location: Path | None = None
    kafka_ssl_key_password: SecretStr | None = None
    kafka_client_config: SecretStr | None = None

    db_engine: Literal["sqlite", "mssql"] | None = None
    db_host: str | None = None
    db_port: int = Field(1434, ge=1, le=65535)
    db_user: str = "sa"
    db_password: SecretStr | None = None
    db_name: str = "iot_monitoring_system"
    odbc_driver: str | None = None
    db_encrypt: bool = True
    db_trust_server_certificate: bool = False
    db_multi_subnet_failover: bool = False
    db_failover_partner: str | None = None
    db_login_timeout_seconds: int = Field(6, ge=1, le=300)
    db_query_timeout_seconds: int = Field(60, ge=1, le=3600)
    iot_sqlite_path: Path = Path("iot.db")

    ingest_api_key: SecretStr | None = None
    ingest_success_status: Literal["200", "202"] = "202"
    sensor_map_ttl_seconds: float = Field(300.0, gt=0)
    max_packets_in_flight: int = Field(2000, ge=1, le=100_000)
    device_packets_per_second: float = Field(0.0, ge=0)

    http_keep_alive_seconds: int = Field(75, ge=1, le=3600)
    http_max_connections: int = Field(10_000, ge=1, le=1_000_000)
    http_tls_certificate: Path | None = None
    http_tls_key: Path | None = None
    http_tls_client_ca: Path | None = None
    forwarded_allow_ips: str = "127.0.0.1,::1"
    ssl_cert_file: Path | None = None

    grace_ms: int = Field(1000, ge=0)
    idle_close_ms: int = Field(3000, ge=1)
    predict_every_seconds: int = Field(60, ge=1, le=86_400)
    prediction_deviation: Literal["on", "off"] = "on"
    rules_refresh_seconds: float = Field(30.0, ge=1)
    auto_create_model: bool = False
    start_from: Literal["earliest", "latest"] = "earliest"
    if_offset_gone: Literal["stop", "earliest"] = "stop"
    if_create_time: Literal["stop", "accept"] = "stop"
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(None, ge=1, le=65535)
    iot_lang: Literal["es", "en"] = "es"

    @field_validator("kafka_security_protocol", "kafka_sasl_mechanism", mode="before")
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("kafka_partitions")
    @classmethod
    def _names_partitions(cls, value: str | None) -> str | None:
        if value is not None:
            parse_partitions(value)
        return value

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _names_addresses(cls, value: str) -> str:
        for part in value.split(","):
            if part.strip() != "*":
                ip_network(part.strip(), strict=False)
        return value

    @property
    def partitions(self) -> frozenset[int] | None:
        """The partitions of `KAFKA_PARTITIONS`; None means all partitions of the topic."""
        return None if self.kafka_partitions is None else parse_partitions(self.kafka_partitions)

    @property
    def engine(self) -> Literal["sqlite", "mssql"]:
        """The database engine: `DB_ENGINE`, else SQL Server if `DB_HOST` is set, else SQLite."""
        return self.db_engine or ("mssql" if self.db_host else "sqlite")

    @property
    def database(self) -> str:
        """The name of the database in error messages."""
        if self.engine == "sqlite":
            return f"the SQLite file {self.iot_sqlite_path} (IOT_SQLITE_PATH)"
        return f"the database {self.db_name} on {self.db_host}:{self.db_port} (DB_HOST, DB_PORT)"

    @property
    def brokers(self) -> str:
        """The broker's address.

        Raises:
            SettingError: `KAFKA_BOOTSTRAP_SERVERS` is not set.
        """
        if not self.kafka_bootstrap_servers:
            raise SettingError(
                "KAFKA_BOOTSTRAP_SERVERS is not set: set it to the broker's address, "
                "for example KAFKA_BOOTSTRAP_SERVERS=localhost:9092"
            )
        return self.kafka_bootstrap_servers

    @property
    def dead_letter_topic(self) -> str:
        """The topic of records that cannot be decoded."""
        return f"{self.kafka_topic}.dlq"


def load_settings(**given: object) -> Settings:
    """Read the settings of this process. Values in `given`, by field name, override all others.

    Raises:
        SettingError: a value is invalid, a required value is missing, or the file that
            `IOT_ENV_FILE` names cannot be read. The text never contains a secret.
    """
    file = os.environ.get("IOT_ENV_FILE")
    if file and not (os.path.isfile(file) and os.access(file, os.R_OK)):
        raise SettingError(f"IOT_ENV_FILE: the file {file} cannot be read")
    try:
        settings = Settings(_env_file=file or None, _env_file_encoding="utf-8", **given)  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        raise SettingError(f"{'.'.join(map(str, wrong['loc'])).upper()}: {wrong['msg']}") from error
    except UnicodeDecodeError as error:
        raise SettingError(f"IOT_ENV_FILE: the file {file} is not UTF-8 text") from error
    if settings.engine == "mssql":
        for name in ("db_host", "db_password"):
            if getattr(settings, name) is None:
                raise SettingError(f"{name.upper()} is not set, but SQL Server requires it")
    _check_kafka(settings)
    return settings


_USER_MECHANISMS = {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}


def _check_kafka(settings: Settings) -> None:
    """Raise `SettingError` if the security settings of Kafka contradict each other."""
    protocol, mechanism = settings.kafka_security_protocol, settings.kafka_sasl_mechanism
    names = [name for name in Settings.model_fields if getattr(settings, name) is not None]
    sasl = [name.upper() for name in names if name.startswith("kafka_sasl_")]
    tls = [name.upper() for name in names if name.startswith("kafka_ssl_")]
    if sasl and not protocol.startswith("SASL"):
        raise SettingError(
            f"{sasl[0]} is set, but KAFKA_SECURITY_PROTOCOL is {protocol}: set it to SASL_SSL "
            "(or SASL_PLAINTEXT, without TLS)"
        )
    if tls and not protocol.endswith("SSL"):
        raise SettingError(
            f"{tls[0]} is set, but KAFKA_SECURITY_PROTOCOL is {protocol}: set it to SSL or SASL_SSL"
        )
    needed = ["KAFKA_SASL_MECHANISM"] if protocol.startswith("SASL") else []
    if mechanism in _USER_MECHANISMS:
        needed += ["KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"]
    for name in needed:
        if name not in sasl:
            what = f"KAFKA_SASL_MECHANISM={mechanism}" if mechanism else f"{protocol}"
            raise SettingError(f"{name} is not set, but {what} requires it")
    certificate, key = "KAFKA_SSL_CERTIFICATE_LOCATION", "KAFKA_SSL_KEY_LOCATION"
    for name, partner in (
        (certificate, key), (key, certificate), ("KAFKA_SSL_KEY_PASSWORD", key)
    ):  # fmt: skip
        if name in tls and partner not in tls:
            raise SettingError(f"{partner} is not set, but {name} is: set both or neither")


def kafka_environment(settings: Settings) -> dict[str, str]:
    """The settings of the Kafka connection, for `child_environment`. Secrets are in plain text."""
    values = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if name.startswith("kafka_") and value is not None:
            plain = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            values[name.upper()] = plain
    del values["KAFKA_TOPIC"]
    values.pop("KAFKA_PARTITIONS", None)
    return values


def same_environment(values: Mapping[str, str]) -> dict[str, str]:
    """Our environment, updated with `values`, for a child process."""
    return dict(os.environ) | dict(values)


def child_environment(values: Mapping[str, str]) -> dict[str, str]:
    """Our environment without any setting but `values`, for a child process."""
    ours = {name.upper() for name in Settings.model_fields} | {"IOT_ENV_FILE"}
    rest = {name: value for name, value in os.environ.items() if name.upper() not in ours}
    return rest | dict(values)
