import pytest
import structlog

from contract.errors import (
    ConflictError,
    RefusedError,
    SetupError,
    TimedOutError,
    UnavailableError,
)
from contract.settings import Settings, load_settings
from sql import statements
from sql.database import Database
from sql.mssql import blame, connection_string
from sql.schema import apply_schema

HOST = {"db_host": "10.0.0.1", "db_password": "p;w}{d=1"}


def parts(**given):
    """The values of the connection string, with their braces, by name."""
    text = connection_string(load_settings(**HOST | given), "the driver", "iot")
    return dict(part.split("=", 1) for part in text.removesuffix("};").split("};"))


def test_a_connection_is_encrypted_and_verifies_the_certificate_by_default():
    default = parts()
    assert (default["Encrypt"], default["TrustServerCertificate"]) == ("{yes", "{no")
    given = parts(db_encrypt=False, db_trust_server_certificate=True)
    assert (given["Encrypt"], given["TrustServerCertificate"]) == ("{no", "{yes")


@pytest.mark.parametrize(
    ("state", "text", "kind"),
    [
        ("28000", "Login failed (18456) (SQLDriverConnect); Cannot open it (4060)", SetupError),
        ("HYT00", "Query timeout expired (0) (SQLExecDirectW)", TimedOutError),
        ("IMC06", "The connection is broken (0) (SQLExecDirectW)", UnavailableError),
        ("08S01", "Communication link failure (10054) (SQLExecDirectW)", UnavailableError),
        ("40001", "deadlock victim (1205) (SQLExecDirectW)", UnavailableError),
        ("42000", "Script level upgrade (0) (SQLDriverConnect); (18401)", UnavailableError),
        ("23000", "Cannot insert duplicate key (2601) (SQLExecDirectW)", ConflictError),
        ("23000", "FOREIGN KEY (547) (SQLExecDirectW); terminated (3621)", RefusedError),
        ("42S02", "Invalid object name (208) (SQLExecDirectW)", SetupError),
    ],
)
def test_an_error_is_classified_by_its_numbers_or_else_its_sqlstate(state, text, kind):
    assert blame(Exception(state, f"[{state}] [Microsoft] {text}")) is kind


def test_a_password_cannot_break_out_of_its_braces():
    assert "PWD={p;w}}{d=1};" in connection_string(load_settings(**HOST), "the driver", "iot")


def test_failover_settings_are_passed_to_the_driver():
    assert not {"MultiSubnetFailover", "Failover_Partner"} & set(parts())
    given = parts(db_multi_subnet_failover=True, db_failover_partner="mirror,1433")
    assert (given["MultiSubnetFailover"], given["Failover_Partner"]) == ("{yes", "{mirror,1433")


def test_an_unreachable_server_is_unavailable_and_the_password_is_not_shown(mssql_server):
    settings = mssql_server.model_copy(update={"db_port": 9, "db_login_timeout_seconds": 2})
    with structlog.testing.capture_logs() as logs, pytest.raises(UnavailableError) as raised:
        Database(settings)
    secret = settings.db_password.get_secret_value()
    assert secret not in f"{raised.value} {raised.value.__cause__!r} {logs}"
    assert "does not answer" in str(raised.value)


def test_a_wrong_password_is_a_setup_error_and_is_not_shown(mssql_server):
    wrong = mssql_server.model_copy(
        update={"db_password": type(mssql_server.db_password)("not-the-password")}
    )
    with pytest.raises(SetupError, match="cannot be used") as raised:
        Database(wrong)
    assert "not-the-password" not in f"{raised.value} {raised.value.__cause__!r}"


def test_a_self_signed_certificate_is_refused_by_default(mssql_server):
    if not mssql_server.db_trust_server_certificate:
        pytest.skip("this server's certificate is not self-signed")
    strict = mssql_server.model_copy(update={"db_trust_server_certificate": False})
    with pytest.raises((SetupError, UnavailableError), match="certificate"):
        Database(strict)


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_a_file_that_was_deleted_or_replaced_is_no_longer_written(tmp_path, change):
    settings = Settings(db_engine="sqlite", iot_sqlite_path=tmp_path / "iot.db")
    apply_schema(settings)
    database = Database(settings)
    database.query(statements.COUNT_ROWS)
    settings.iot_sqlite_path.rename(tmp_path / "old.db")
    if change == "replaced":
        apply_schema(settings)
    for use in (
        lambda: database.query(statements.COUNT_ROWS),
        lambda: database.execute("write_readings", "[]"),
    ):
        with pytest.raises(SetupError, match=rf"iot\.db was {change}.*start again"):
            use()
    database.close()
