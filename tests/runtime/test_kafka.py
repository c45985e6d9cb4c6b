"""The options of every Kafka client, and what is refused before one is made."""

import re
import socket
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from contract.errors import SettingError, SetupError, UnavailableError
from contract.settings import Settings, kafka_environment, load_settings
from runtime import reach
from runtime.kafka import kafka_access
from runtime.reach import Events, cluster_metadata, explain
from tests.ports import free_ports

SASL = {
    "kafka_bootstrap_servers": "127.0.0.1:1",
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "PLAIN",
    "kafka_sasl_username": "iot",
    "kafka_sasl_password": "hidden-1",
}


def access(**values):
    return kafka_access(load_settings(kafka_bootstrap_servers="127.0.0.1:1", **values))


def test_the_settings_become_properties_of_every_client(tmp_path):
    config = kafka_access(load_settings(**SASL, kafka_client_config="client.id=a b\n")).config()
    assert config == {
        "bootstrap.servers": "127.0.0.1:1",
        "log_level": 0,
        "socket.keepalive.enable": True,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "iot",
        "sasl.password": "hidden-1",
        "client.id": "a b",
    }


def test_secrets_are_not_printed_with_settings_or_access():
    settings = load_settings(**SASL, kafka_client_config="sasl.oauthbearer.client.secret=hidden-2")
    assert "hidden" not in f"{settings} {settings!r} {kafka_access(settings)!r}"


def test_a_process_that_we_start_reaches_the_same_kafka(monkeypatch):
    before = load_settings(**SASL, kafka_client_config="client.id=a\nsocket.timeout.ms=9000")
    for name, value in kafka_environment(before).items():
        monkeypatch.setenv(name, value)
    assert kafka_access(load_settings()) == kafka_access(before)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("acks=1", "acks cannot be set: a guarantee"),
        ("enable.idempotence=false", "enable.idempotence cannot be set"),
        ("enable.auto.commit=true", "enable.auto.commit cannot be set"),
        ("auto.offset.reset=latest", "auto.offset.reset cannot be set"),
        ("isolation.level=read_committed", "isolation.level cannot be set"),
        ("group.id=g", "group.id cannot be set"),
        ("bootstrap.servers=b", "bootstrap.servers cannot be set"),
        ("sasl.password=hidden", "set sasl.password with KAFKA_SASL_PASSWORD"),
        ("socket.timeouts.ms=hidden", "librdkafka has no property 'socket.timeouts.ms'"),
        ("error_cb=hidden", "librdkafka has no property 'error_cb'"),
        (
            "socket.timeout.ms=hidden",
            'Invalid value for configuration property "socket.timeout.ms"',
        ),
        ("client.id=a\nhidden", "line 2 is not name=value"),
    ],
)
def test_a_line_of_client_config_is_refused_by_name_and_its_value_is_not_repeated(line, said):
    with pytest.raises(SettingError, match=re.escape(said)) as raised:
        access(kafka_client_config=line)
    assert str(raised.value).startswith("KAFKA_CLIENT_CONFIG: ")
    assert "hidden" not in str(raised.value)


def test_an_unusable_file_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"KAFKA_SSL_CA_LOCATION: .*/nowhere cannot be read"):
        access(kafka_security_protocol="SSL", kafka_ssl_ca_location=Path("/nowhere"))
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(SettingError, match="KAFKA_SSL_CA_LOCATION: the file cannot be used"):
        access(kafka_security_protocol="SSL", kafka_ssl_ca_location=file)


def test_an_unreachable_broker_and_an_unknown_host_are_temporary_errors(monkeypatch):
    monkeypatch.setattr(reach, "ANSWER_S", 1.0)
    with pytest.raises(UnavailableError, match=r"broker answers at 127.0.0.1:1: .*refused"):
        cluster_metadata(access())
    nowhere = Settings(kafka_bootstrap_servers="no-such-host.invalid:9092")
    with pytest.raises(UnavailableError, match=r"no such host: .*no-such-host.invalid"):
        cluster_metadata(kafka_access(nowhere))


@pytest.mark.parametrize("scheme", ["", "sasl_ssl://"])  # the library leaves plaintext:// out
def test_an_unreachable_advertised_address_is_named_even_if_the_client_gave_up_before(scheme):
    nowhere = free_ports()
    with socket.create_server(("127.0.0.1", 0)) as bootstrap:
        ours = f"127.0.0.1:{bootstrap.getsockname()[1]}"
        events = Events()
        events._errors[KafkaError._TRANSPORT, f"{scheme}127.0.0.1:{nowhere}/1: refused"] = None
        error = explain(kafka_access(Settings(kafka_bootstrap_servers=ours)), events)
    assert isinstance(error, SetupError)
    assert f"{ours} answers and redirects us to 127.0.0.1:{nowhere}" in str(error)


def test_no_other_module_sets_addresses_or_security_properties():
    """Except for the in-memory broker, which a producer hosts without an address."""
    root = Path(__file__).parents[2]
    packages = (
        "contract",
        "runtime",
        "ingest_edge",
        "dataflows",
        "sinks",
        "ml",
        "sql",
        "ops",
        "bench",
    )
    writers = {
        str(file.relative_to(root))
        for package in packages
        for file in (root / package).rglob("*.py")
        if re.search(
            r'"(bootstrap\.servers|security\.protocol|s(asl|sl)\.[a-z.]+)"', file.read_text("utf-8")
        )
    }
    assert writers == {"runtime/kafka.py"}


def test_an_error_that_repeats_is_kept_once_and_old_ones_are_dropped():
    events = Events()
    for end in ("3ms in state CONNECT", "0ms in state CONNECT, 1 identical error(s) suppressed"):
        events(KafkaError(KafkaError._TRANSPORT, f"a (after {end})"))
    assert events.of(KafkaError._TRANSPORT) == ["a"]
    for number in range(200):
        events(KafkaError(KafkaError._TRANSPORT, str(number)))
    assert events.of(KafkaError._TRANSPORT) == [str(number) for number in range(100, 200)]
    assert events.newest() == "199"
