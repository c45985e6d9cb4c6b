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
    """The connection string's values, in their braces, by name."""
    text = connection_string(load_settings(**HOST | given), "the driver", "iot")
    return dict(part.split("=", 1) for part in text.removesuffix("};").split("};"))


def test_a_connection_is_encrypted_and_trusts_nobody_unless_it_is_told():
    found = parts()
    assert (found["Encrypt"], found["TrustServerCertificate"]) == ("{yes", "{no")
    told = parts(db_encrypt=False, db_trust_server_certificate=True)
    assert (told["Encrypt"], told["TrustServerCertificate"]) == ("{no", "{yes")


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
def test_an_error_is_blamed_by_its_numbers_else_by_its_state(state, text, kind):
    assert blame(Exception(state, f"[{state}] [Microsoft] {text}")) is kind


def test_a_password_cannot_end_its_value_early():
    assert "PWD={p;w}}{d=1};" in connection_string(load_settings(**HOST), "the driver", "iot")


def test_failover_is_passed_through_when_it_is_told():
    assert not {"MultiSubnetFailover", "Failover_Partner"} & set(parts())
    told = parts(db_multi_subnet_failover=True, db_failover_partner="mirror,1433")
    assert (told["MultiSubnetFailover"], told["Failover_Partner"]) == ("{yes", "{mirror,1433")


def test_a_server_that_is_not_there_is_away_and_its_password_is_told_nobody(mssql_server):
    settings = mssql_server.model_copy(update={"db_port": 9, "db_login_timeout_seconds": 2})
    with structlog.testing.capture_logs() as logs, pytest.raises(UnavailableError) as told:
        Database(settings)
    secret = settings.db_password.get_secret_value()
    assert secret not in f"{told.value} {told.value.__cause__!r} {logs}"
    assert "does not answer" in str(told.value)


def test_a_wrong_password_ends_the_start_and_is_told_nobody(mssql_server):
    wrong = mssql_server.model_copy(
        update={"db_password": type(mssql_server.db_password)("not-the-password")}
    )
    with pytest.raises(SetupError, match="cannot be used") as told:
        Database(wrong)
    assert "not-the-password" not in f"{told.value} {told.value.__cause__!r}"


def test_a_certificate_that_nobody_signed_is_refused_unless_it_is_trusted(mssql_server):
    if not mssql_server.db_trust_server_certificate:
        pytest.skip("this server's certificate is signed, or was not said to be otherwise")
    doubtful = mssql_server.model_copy(update={"db_trust_server_certificate": False})
    with pytest.raises((SetupError, UnavailableError), match="certificate"):
        Database(doubtful)


@pytest.mark.parametrize("deed", ["deleted", "replaced"])
def test_a_file_that_is_gone_from_under_its_name_is_not_written_any_more(tmp_path, deed):
    settings = Settings(db_engine="sqlite", iot_sqlite_path=tmp_path / "iot.db")
    apply_schema(settings)
    database = Database(settings)
    database.query(statements.COUNT_ROWS)
    settings.iot_sqlite_path.rename(tmp_path / "old.db")
    if deed == "replaced":
        apply_schema(settings)
    for use in (
        lambda: database.query(statements.COUNT_ROWS),
        lambda: database.execute("write_readings", "[]"),
    ):
        with pytest.raises(SetupError, match=rf"iot\.db was {deed}.*start again"):
            use()
    database.close()
