import pytest

from sinks.times import text_of
from sql.check import differences
from sql.database import Database
from sql.schema import apply_schema, open_database, scripts
from tests.databases import RULE_ROWS
from tests.sinks.batches import json, readings
from tests.sql.installations import install_old

AT = 1732442400000
"""2024-11-24 10:00 UTC, the time of all old rows."""

TABLES = (
    "users",
    "alerts",
    "sensor_readings_1m",
    "sensor_readings_5m",
    "sensor_readings_1h",
    "sensor_readings_latest",
    "ml_models",
    "predictions",
    "sensor_threshold_profiles",
    "delta_thresholds",
    "rule_versions",
)


def select(database, statement):
    return [tuple(row) for row in database._connection.execute(statement).fetchall()]


@pytest.fixture
def old(empty):
    """The settings of an old installation."""
    install_old(empty)
    database = Database(empty, create=True)
    for _ in range(2):
        predict_as_before(database)
    database.close()
    return empty


def rows_of(settings):
    """The number of rows of each table."""
    database = Database(settings, create=True)
    tables = select(
        database,
        "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_TYPE = 'BASE TABLE'",
    )
    counts = {
        name: select(database, f"SELECT count(*) FROM dbo.{name}")[0][0] for (name,) in tables
    }
    database.close()
    return counts


def predict_as_before(database):
    """The old service's own statement."""
    database._connection.execute(
        "INSERT INTO dbo.predictions (model_id, sensor_id, predicted_value, confidence,"
        " predicted_at, target_timestamp, horizon_minutes, window_points)"
        " VALUES (1, 1, 1.5, 0.5, '2024-11-24T10:00:00', '2024-11-24T10:10:00', 10, 60)"
    )


def test_a_fresh_schema_has_every_table_and_no_rows(database):
    for table in TABLES:
        assert select(database, f"SELECT count(*) FROM {table}") == [(0,)]


@pytest.mark.parametrize("empty", ["sqlite"], indirect=True)
def test_rows_of_an_earlier_release_are_kept(empty):
    first, second, *later = scripts(empty.engine)
    database = Database(empty, create=True)
    for script in (first, second):
        database.migrate(script.name, script.batches, script.checksum)
    database._connection.execute(
        "INSERT INTO devices (device_uuid, name, device_type)"
        " VALUES ('00000000-0000-0000-0000-000000000001', 'rig', 'simulator')"
    )
    database._connection.execute(
        "INSERT INTO sensors (device_id, sensor_uuid, sensor_type, name, unit)"
        " VALUES (1, '00000000-0000-0000-0000-000000000002', 'power', 'pump', 'W')"
    )
    database._connection.execute(
        "INSERT INTO alert_thresholds (sensor_id, name, condition_type, threshold_value_min)"
        " VALUES (1, 'high', 'greater_than', 80.5)"
    )
    database.close()
    assert apply_schema(empty) == [script.name for script in later]
    assert [script.once for script in later] == sorted((s.once for s in later), reverse=True)
    database = open_database(empty)
    assert [tuple(row) for row in database.query(RULE_ROWS["list_alert_thresholds"])] == [
        (1, 1, "high", "greater_than", 80.5, None, "warning", None, None, None, None, None)
    ]
    assert select(database, "SELECT operational_state, valid_readings_count FROM sensors") == [
        ("INITIALIZING", 0)
    ]
    database.close()


@pytest.mark.parametrize("empty", ["mssql"], indirect=True)
def test_an_old_installation_keeps_its_rows_and_gets_the_missing_objects(old):
    before = rows_of(old)
    assert apply_schema(old) == [script.name for script in scripts("mssql")]
    assert differences(old) == []
    after = rows_of(old)
    assert {table: after[table] for table in before} == before
    added = {table for table in after if table not in before} - {"schema_migrations"}
    assert {after[table] for table in added} == {0}
    database = open_database(old)
    assert [tuple(row) for row in database.query(RULE_ROWS["list_alert_thresholds"])] == [
        (1, 1, "high", "greater_than", 80.0, None, "warning", None, None, None, None, None)
    ]
    (delta,) = (tuple(row) for row in database.query(RULE_ROWS["list_deltas"]))
    assert delta == (1, 1, 5.5, None, None, None, None, 5, None, None)
    assert isinstance(delta[2], float)
    database.execute("write_rollups", json((60_000, 1, text_of(AT), 2.0, 2.0, 2.0, 2.0, 4)))
    assert select(database, "SELECT avg_value, samples FROM sensor_readings_1m") == [(1, 5)]
    database.execute("write_rollups", json((60_000, 1, text_of(AT), 2.0, 2.0, 2.0, 2.0, 5)))
    assert select(database, "SELECT avg_value, samples FROM sensor_readings_1m") == [(2, 5)]
    database.execute("write_readings", readings((1, 2.0, AT, None, AT - 1, 99)))
    assert select(database, "SELECT latest_value FROM sensor_readings_latest") == [(1,)]
    database.execute("write_readings", readings((1, 2.0, AT, None, AT, 99)))
    assert select(database, "SELECT latest_value FROM sensor_readings_latest") == [(2,)]
    database.close()


@pytest.mark.parametrize("empty", ["mssql"], indirect=True)
def test_a_status_of_twenty_characters_is_widened(old):
    """An installation of early 2026 has such a column with an index."""
    database = Database(old)
    for statement in (
        "ALTER TABLE dbo.sensors ADD status varchar(20) NOT NULL DEFAULT 'online'",
        "CREATE INDEX ix_sensors_status ON dbo.sensors (status) WHERE status = 'suspended'",
    ):
        database._connection.execute(statement)
    apply_schema(old)
    assert differences(old) == []
    database._connection.execute("UPDATE dbo.sensors SET status = 'pending_confirmation_long'")
    assert select(
        database,
        "SELECT is_nullable FROM sys.columns"
        " WHERE object_id = OBJECT_ID(N'dbo.sensors') AND name = N'status'",
    ) == [(False,)]
    database.close()


BEFORE = {"sqlite": "009_prediction_key.sql", "mssql": "005_prediction_key.sql"}


def test_predictions_of_the_version_before_keep_their_key_and_are_not_written_again(empty):
    """The schema of the version before, with a row of its flow; then the new key."""
    repeatable = [script for script in scripts(empty.engine) if not script.once]
    numbered = [script for script in scripts(empty.engine) if script.once]
    database = Database(empty, create=True)
    for script in numbered:
        if script.name != BEFORE[empty.engine]:
            database.migrate(script.name, script.batches, script.checksum)
    execute = database._connection.execute
    execute(
        "INSERT INTO devices (device_uuid, name, device_type, status)"
        " VALUES ('00000000-0000-0000-0000-000000000001', 'rig', 'simulator', 'online')"
    )
    execute(
        "INSERT INTO sensors (device_id, sensor_uuid, sensor_type, name, unit)"
        " VALUES (1, '00000000-0000-0000-0000-000000000002', 'power', 'pump', 'W')"
    )
    execute(
        "INSERT INTO ml_models (sensor_id, model_name, model_type, version, is_active, trained_at)"
        f" VALUES (1, 'baseline_moving_average', 'baseline', '1.0.0', 1, '{text_of(AT)}')"
    )
    at, target = text_of(AT), text_of(AT + 600_000)
    stored = (
        "INSERT INTO predictions (model_id, sensor_id, device_id, predicted_value, confidence,"
        " predicted_at, target_timestamp, horizon_minutes, window_points, event_predicted_at)"
        f" VALUES (1, 1, 1, 1.5, 0.5, '{at}', '{target}', %s, %s, %s)"
    )
    execute(stored % (10, 60, f"'{at}'"))
    for _ in range(2):  # others may repeat themselves, and may lack both
        execute(stored % ("NULL", "NULL", "NULL"))
    database.close()
    assert apply_schema(empty) == [BEFORE[empty.engine], *(script.name for script in repeatable)]
    assert apply_schema(empty) == []
    assert apply_schema(empty, again={repeatable[0].name})[0] == repeatable[0].name
    assert differences(empty) == []
    database = open_database(empty)
    old = (0, 1, 1, at, target, 2.5, 0.5, 60, "up", 10)
    told = ("LOW", "info", {"short_message": "m"}, "moving_average")
    if empty.engine == "mssql":  # a flow of the version before calls the new procedure
        database.execute("write_predictions", json(old))
    database.execute("write_predictions", json((*old, *told)))
    assert select(database, "SELECT COUNT(*) FROM predictions") == [(3,)]
    later = (0, 1, 1, at, text_of(AT + 1_800_000), 3.5, 0.5, 60, "up", 30)
    rows = [(*later, *told), (*later[:7], 30, *later[8:], *told)]
    if empty.engine == "mssql":
        database.execute("write_predictions", json((*later[:7], 90, *later[8:])))
    for _ in range(2):
        database.execute("write_predictions", json(*rows))
    assert select(
        database,
        "SELECT horizon_minutes, window_points, risk_level FROM predictions"
        " WHERE event_predicted_at IS NOT NULL AND window_points < 90"
        " ORDER BY horizon_minutes, window_points",
    ) == [(10, 60, None), (30, 30, "LOW"), (30, 60, "LOW")]
    if empty.engine == "mssql":
        assert select(
            database,
            "SELECT risk_level, severity, explanation FROM predictions WHERE window_points = 90",
        ) == [("NONE", "info", None)]
    database.close()


@pytest.mark.parametrize("empty", ["mssql"], indirect=True)
def test_duplicate_old_predictions_are_kept_and_ours_are_written_once(old):
    apply_schema(old)
    database = open_database(old)
    ours = json((0, 1, 1, text_of(AT), text_of(AT + 600_000), 2.5, 0.5, 60, "up", 10))
    database.execute("write_predictions", ours)
    predict_as_before(database)
    database.execute("write_predictions", ours)
    stored = select(database, "SELECT model_id, predicted_value FROM predictions ORDER BY id")
    assert [(model, float(value)) for model, value in stored] == [
        (1, 1.5),
        (1, 1.5),
        (1, 2.5),
        (1, 1.5),
    ]
    assert select(database, "SELECT count(*) FROM ml_models") == [(1,)]
    database.close()
