import re

import pytest

from contract.errors import SettingError
from contract.settings import child_environment, load_settings


def test_without_settings_the_database_is_sqlite_in_the_current_folder():
    settings = load_settings()
    assert (settings.engine, str(settings.iot_sqlite_path)) == ("sqlite", "iot.db")


def test_db_host_chooses_sql_server_and_db_engine_overrules_it(monkeypatch):
    monkeypatch.setenv("DB_HOST", "server")
    monkeypatch.setenv("DB_PASSWORD", "s3cret")
    assert load_settings().engine == "mssql"
    monkeypatch.setenv("DB_ENGINE", "sqlite")
    assert load_settings().engine == "sqlite"


def test_secrets_are_masked_when_printed(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "s3cret")
    monkeypatch.setenv("INGEST_API_KEY", "t0ken")
    printed = f"{load_settings()!r} {load_settings()}"
    assert "s3cret" not in printed
    assert "t0ken" not in printed


def test_the_environment_overrides_the_file_and_unknown_names_are_ignored(monkeypatch, tmp_path):
    file = tmp_path / ".env"
    file.write_text("GRACE_MS=1500\nIDLE_CLOSE_MS=9000\nJWT_SECRET=x\nPORT=3000\n# a comment\n")
    monkeypatch.setenv("IOT_ENV_FILE", str(file))
    monkeypatch.setenv("GRACE_MS", "2500")
    settings = load_settings()
    assert (settings.grace_ms, settings.idle_close_ms) == (2500, 9000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRACE_MS", "soon"),
        ("GRACE_MS", "-1"),
        ("IDLE_CLOSE_MS", "0"),
        ("DB_PORT", "99999"),
        ("DB_ENGINE", "oracle"),
        ("START_FROM", "now"),
        ("IOT_LANG", "de"),
        ("KAFKA_TOPIC", "two words"),
        ("DB_ENCRYPT", "perhaps"),
        ("SENSOR_MAP_TTL_SECONDS", "0"),
        ("KAFKA_PARTITIONS", "5-0"),
        ("KAFKA_PARTITIONS", "0;1"),
        ("IF_OFFSET_GONE", "latest"),
        ("METRICS_PORT", "0"),
    ],
)
def test_an_invalid_value_is_refused_by_name(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match=f"^{name}: "):
        load_settings()


def test_an_empty_value_counts_as_unset(monkeypatch):
    monkeypatch.setenv("DB_HOST", "")
    monkeypatch.setenv("INGEST_API_KEY", "")
    settings = load_settings()
    assert settings.engine == "sqlite"
    assert settings.ingest_api_key is None


def test_a_settings_file_that_is_not_text_is_reported_by_name(monkeypatch, tmp_path):
    file = tmp_path / ".env"
    file.write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv("IOT_ENV_FILE", str(file))
    with pytest.raises(SettingError, match="IOT_ENV_FILE"):
        load_settings()


def test_a_child_gets_only_the_given_settings(monkeypatch):
    monkeypatch.setenv("DB_HOST", "server")
    monkeypatch.setenv("iot_lang", "en")
    monkeypatch.setenv("OTHER", "stays")
    environment = child_environment({"KAFKA_TOPIC": "t"})
    assert environment["KAFKA_TOPIC"] == "t"
    assert environment["OTHER"] == "stays"
    assert not {"DB_HOST", "iot_lang", "IOT_LANG"} & environment.keys()


SASL = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"security_protocol": "TLS"}, "KAFKA_SECURITY_PROTOCOL: Input should be"),
        ({"security_protocol": "SASL_SSL"}, "KAFKA_SASL_MECHANISM is not set, but SASL_SSL"),
        (SASL, "KAFKA_SASL_PASSWORD is not set, but KAFKA_SASL_MECHANISM=PLAIN requires it"),
        (
            {"sasl_username": "u"},
            "KAFKA_SASL_USERNAME is set, but KAFKA_SECURITY_PROTOCOL is PLAINTEXT",
        ),
        (
            {"ssl_ca_location": "ca.pem"},
            "KAFKA_SSL_CA_LOCATION is set, but KAFKA_SECURITY_PROTOCOL is PLAINTEXT",
        ),
        (
            {"security_protocol": "SSL", "ssl_certificate_location": "c.pem"},
            "KAFKA_SSL_KEY_LOCATION is not set, but KAFKA_SSL_CERTIFICATE_LOCATION is",
        ),
        (
            {"security_protocol": "SSL", "ssl_key_location": "k.pem"},
            "KAFKA_SSL_CERTIFICATE_LOCATION is not set, but KAFKA_SSL_KEY_LOCATION is",
        ),
        (
            {"security_protocol": "SSL", "ssl_key_password": "p"},
            "KAFKA_SSL_KEY_LOCATION is not set, but KAFKA_SSL_KEY_PASSWORD is",
        ),
    ],
)
def test_contradictory_kafka_settings_are_refused_by_name(values, message):
    with pytest.raises(SettingError, match=re.escape(message)):
        load_settings(**{f"kafka_{name}": value for name, value in values.items()})


def test_the_security_protocol_may_be_in_lower_case(monkeypatch):
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "ssl")
    assert load_settings().kafka_security_protocol == "SSL"
