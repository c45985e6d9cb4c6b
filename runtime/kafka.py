"""The configuration of all our Kafka clients.

No other module sets a client's address or security: a client is created from `KafkaAccess.config()`
and its own options. `runtime.reach` explains why a client gets no answer.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from contract.errors import SettingError
from contract.settings import Settings

_OURS = {
    "acks", "request.required.acks", "auto.offset.reset", "batch.size", "bootstrap.servers",
    "delivery.timeout.ms", "enable.auto.commit", "enable.auto.offset.store",
    "enable.gapless.guarantee", "enable.idempotence", "enable.partition.eof", "group.id",
    "group.instance.id", "group.protocol", "isolation.level", "linger.ms",
    "message.max.bytes", "message.send.max.retries", "message.timeout.ms",
    "metadata.broker.list", "partitioner",
    "queue.buffering.max.kbytes", "queue.buffering.max.messages", "queue.buffering.max.ms",
    "queuing.strategy", "retries", "test.mock.num.brokers", "transactional.id",
}  # fmt: skip
"""Properties that a guarantee of the pipeline depends on."""
_SETTINGS = {
    "security.protocol": "KAFKA_SECURITY_PROTOCOL",
    "sasl.mechanism": "KAFKA_SASL_MECHANISM",
    "sasl.mechanisms": "KAFKA_SASL_MECHANISM",
    "sasl.username": "KAFKA_SASL_USERNAME",
    "sasl.password": "KAFKA_SASL_PASSWORD",
    "ssl.ca.location": "KAFKA_SSL_CA_LOCATION",
    "ssl.certificate.location": "KAFKA_SSL_CERTIFICATE_LOCATION",
    "ssl.key.location": "KAFKA_SSL_KEY_LOCATION",
    "ssl.key.password": "KAFKA_SSL_KEY_PASSWORD",
}
"""Properties that have a setting of their own."""
_NAME = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)*")
Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """The addresses of the brokers, and what a client needs to connect."""

    brokers: str
    """`host:port`, or several separated by commas."""
    security: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Properties of librdkafka and their values, including secrets."""

    def config(self) -> Options:
        """The properties of all clients. Their own log lines are dropped: we report instead."""
        ours: Options = {
            "bootstrap.servers": self.brokers,
            "log_level": 0,
            "socket.keepalive.enable": True,
        }
        return ours | dict(self.security)

    @property
    def protocol(self) -> str:
        """`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`."""
        return self._value("security.protocol") or "PLAINTEXT"

    @property
    def mechanism(self) -> str:
        """The SASL mechanism. Empty if there is none."""
        return self._value("sasl.mechanism")

    @property
    def user(self) -> str:
        """The SASL user. Empty if there is none."""
        return self._value("sasl.username")

    @property
    def certificate(self) -> str:
        """The file of the client certificate. Empty if there is none."""
        return self._value("ssl.certificate.location")

    @property
    def ca(self) -> str | None:
        """The file or folder of trusted certificates. None: those of this machine."""
        return self._value("ssl.ca.location") or None

    def _value(self, name: str) -> str:
        return dict(self.security).get(name, "")


def kafka_access(settings: Settings) -> KafkaAccess:
    """The access that the settings describe.

    Raises:
        SettingError: no broker is configured, a property of `KAFKA_CLIENT_CONFIG` must not be set
            there, a file cannot be read, or the client library rejects a value.
    """
    access = KafkaAccess(settings.brokers, tuple(_security(settings).items()))
    if access.security:
        try:
            AdminClient(access.config())  # connects in the background, and is discarded
        except KafkaException as error:
            raise _refused(error.args[0].str()) from error
    return access


def _security(settings: Settings) -> dict[str, str]:
    password, key_password = settings.kafka_sasl_password, settings.kafka_ssl_key_password
    values = {
        "security.protocol": settings.kafka_security_protocol,
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": password and password.get_secret_value(),
        "ssl.ca.location": _readable("KAFKA_SSL_CA_LOCATION", settings.kafka_ssl_ca_location),
        "ssl.certificate.location": _readable(
            "KAFKA_SSL_CERTIFICATE_LOCATION", settings.kafka_ssl_certificate_location
        ),
        "ssl.key.location": _readable("KAFKA_SSL_KEY_LOCATION", settings.kafka_ssl_key_location),
        "ssl.key.password": key_password and key_password.get_secret_value(),
    }
    given = {name: value for name, value in values.items() if value}
    if given == {"security.protocol": "PLAINTEXT"}:
        given = {}
    more = settings.kafka_client_config
    return given | (parse_client_config(more.get_secret_value()) if more else {})


def parse_client_config(text: str) -> dict[str, str]:
    r"""Parse `text`, one `name=value` per line. Empty lines and `#` comments are skipped.

    Raises:
        SettingError: a line is something else, or a property must not be set there.
            The text names the property and never repeats its value.

    >>> parse_client_config("client.id=edge 1\n\n# far away\nsocket.timeout.ms = 90000")
    {'client.id': 'edge 1', 'socket.timeout.ms': '90000'}
    """
    properties: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not value:
            raise SettingError(f"KAFKA_CLIENT_CONFIG: line {number} is not name=value")
        if name in _SETTINGS:
            raise SettingError(f"KAFKA_CLIENT_CONFIG: set {name} with {_SETTINGS[name]}")
        if name in _OURS:
            raise SettingError(
                f"KAFKA_CLIENT_CONFIG: {name} cannot be set: a guarantee of the pipeline depends "
                "on its value; remove the line"
            )
        if not _NAME.fullmatch(name):
            raise _unknown(name)
        properties[name] = value
    return properties


def _unknown(name: str) -> SettingError:
    return SettingError(
        f"KAFKA_CLIENT_CONFIG: librdkafka has no property {name!r}: correct or remove the line"
    )


def _readable(setting: str, path: Path | None) -> str:
    if path is not None and not os.access(path, os.R_OK):
        raise SettingError(f"{setting}: {path} cannot be read")
    return "" if path is None else str(path)


def _refused(text: str) -> SettingError:
    """Translate the client library's error about a property to one about a setting."""
    if unknown := re.search(r'No such configuration property: "(.*)"', text):
        return _unknown(unknown[1])
    named = [name for name in _SETTINGS if f"{name} failed" in text]
    if named:
        setting, _, why = _SETTINGS[named[0]], *text.partition(" failed: ")[1:]
        if "values mismatch" in why:
            why = "the key does not belong to the certificate"
        elif setting == "KAFKA_SSL_KEY_LOCATION":
            why += "; is it a PEM key, and is KAFKA_SSL_KEY_PASSWORD its password?"
        return SettingError(f"{setting}: the file cannot be used: {why}")
    if "SASL mechanism" in text:
        return SettingError(f"KAFKA_SASL_MECHANISM: {text.partition(': ')[2]}")
    return SettingError(f"KAFKA_CLIENT_CONFIG: the Kafka client rejects it: {text}")
