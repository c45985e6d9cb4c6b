from concurrent.futures import ThreadPoolExecutor

import pytest

from contract.errors import SchemaError, SetupError
from contract.settings import Settings
from ops.devices import SensorSpec, register
from sql import schema
from sql.check import damaged, differences
from sql.database import Database
from sql.schema import Script, apply_schema, open_database
from tests.databases import RULE_ROWS
from tests.sinks.batches import readings


def test_a_schema_is_applied_once_and_can_be_applied_again(empty):
    assert apply_schema(empty)
    assert apply_schema(empty) == []
    open_database(empty).close()


def test_a_script_that_changed_after_it_was_applied_is_reported(settings, database):
    database._connection.execute("UPDATE schema_migrations SET checksum = 'x'")
    with pytest.raises(SetupError, match="is not the one that was applied"):
        apply_schema(settings)


def test_a_failed_script_leaves_nothing_behind_on_sqlite(tmp_path):
    database = Database(Settings(iot_sqlite_path=tmp_path / "iot.db"), create=True)
    with pytest.raises(SetupError, match="no_such"):
        database.migrate("1", ["CREATE TABLE t (x);", "INSERT INTO no_such VALUES (1);"], "c")
    assert database._connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    database.close()


def test_a_name_that_the_database_cannot_store_is_refused(settings, database):
    if settings.engine == "sqlite":
        assert set(register(database, "Ёж", [SensorSpec("Темп", "other", "")]).sensors) == {"Темп"}
    else:
        with pytest.raises(SetupError, match="varchar columns do not keep"):
            register(database, "Ёж", [SensorSpec("Темп", "other", "")])


def test_registering_an_inactive_sensor_is_refused(database):
    spec = SensorSpec("boiler", "temperature", "°C")
    register(database, "rig", [spec])
    database._connection.execute("UPDATE sensors SET is_active = 0")
    with pytest.raises(SetupError, match="boiler is inactive"):
        register(database, "rig", [spec])


def test_a_database_without_a_schema_is_refused_with_a_remedy(empty):
    Database(empty, create=True).close()
    with pytest.raises(SetupError, match="run `python -m sql`"):
        open_database(empty)


def test_sqlite_files_are_only_created_by_apply_schema(tmp_path):
    with pytest.raises(SetupError, match="IOT_SQLITE_PATH: there is no file"):
        open_database(Settings(iot_sqlite_path=tmp_path / "none.db"))
    with pytest.raises(SetupError, match="IOT_SQLITE_PATH: the folder"):
        apply_schema(Settings(iot_sqlite_path=tmp_path / "none" / "iot.db"))


def test_a_dropped_view_is_reported_and_recreated(settings):
    database = open_database(settings)
    database._connection.execute("DROP VIEW v_active_alerts")
    database.close()
    (line,) = differences(settings)
    assert line == "view v_active_alerts: is missing"
    assert damaged(settings) == {"views.sql"}
    applied = apply_schema(settings, again=damaged(settings))
    views_2 = ["views_2.sql"] if settings.engine == "sqlite" else []
    assert applied == ["views.sql", *views_2]
    assert (differences(settings), damaged(settings)) == ([], set())


def test_a_file_that_is_not_a_database_is_reported_in_one_line(tmp_path):
    path = tmp_path / "iot.db"
    path.write_text("this is not a database, " * 100)
    with pytest.raises(SetupError, match=r"iot\.db .*file is not a database"):
        apply_schema(Settings(iot_sqlite_path=path))


def test_devices_sensors_and_thresholds_are_registered_once(database):
    spec = SensorSpec("boiler", "temperature", "°C", {"critical": (-5.5, 80.25)})
    first = register(database, "rig", [spec])
    again = register(database, "rig", [spec, SensorSpec("pump", "power", "W")])
    assert again.uuid == first.uuid
    assert again.sensors["boiler"] == first.sensors["boiler"]
    assert set(again.sensors) == {"boiler", "pump"}
    (rule,) = database.query(RULE_ROWS["list_alert_thresholds"])
    assert tuple(rule)[2:7] == ("boiler critical", "out_of_range", -5.5, 80.25, "critical")


MOMENTS = [0, 1, 999, 1732442400123, 1732442400999, 2**31 * 1000 + 7, 253_370_764_799_999]


def test_times_are_stored_to_the_millisecond(database):
    register(database, "rig", [SensorSpec("boiler", "temperature", "°C")])
    rows = [(1, float(n), ms, ms, ms, 0) for n, ms in enumerate(MOMENTS)]
    database.execute("write_readings", readings(*rows))
    stored = reading_times(database)
    assert [times for _, *times in stored] == [[ms] * 3 for ms in MOMENTS]


def reading_times(database):
    """(value, timestamp, device_timestamp, event_timestamp) in epoch ms, ordered by value."""
    if "sqlite" in type(database._connection).__module__:
        ms = "CAST(round((julianday({0}) - 2440587.5) * 86400000) AS INTEGER)"
    else:
        ms = (
            "CAST(DATEDIFF(day, '1970-01-01', {0}) AS bigint) * 86400000"
            " + DATEDIFF(millisecond, CAST(CAST({0} AS date) AS datetime2(3)), {0})"
        )
    columns = ", ".join(
        ms.format(name) for name in ("[timestamp]", "device_timestamp", "event_timestamp")
    )
    rows = database._connection.execute(
        f"SELECT value, {columns} FROM sensor_readings ORDER BY value"
    )
    return [tuple(row) for row in rows.fetchall()]


def newer(monkeypatch, engine, name):
    """Simulate a newer version with one more script and one changed script."""
    real = schema.scripts(engine)
    again = next(script for script in real if not script.once)
    changed = Script(again.name, (*again.batches, "SELECT 1"))
    more = Script(name, ("CREATE TABLE of_the_newer (id int)",))
    plan = tuple(changed if script is again else script for script in (*real, more))
    monkeypatch.setattr(schema, "scripts", lambda _: plan)


def test_a_schema_that_a_newer_version_only_added_to_is_used_unchanged(empty, monkeypatch):
    apply_schema(empty)
    with monkeypatch.context() as patch:
        newer(patch, empty.engine, "900_more.sql")
        with pytest.raises(SchemaError, match="run `python -m sql`"):
            open_database(empty)
        assert {"views.sql", "900_more.sql"} <= set(apply_schema(empty))
        open_database(empty).close()
    open_database(empty).close()
    assert apply_schema(empty) == []
    with monkeypatch.context() as patch:
        newer(patch, empty.engine, "900_more.sql")
        open_database(empty).close()


def test_a_schema_with_a_breaking_change_of_a_newer_version_is_refused(empty, monkeypatch):
    apply_schema(empty)
    with monkeypatch.context() as patch:
        newer(patch, empty.engine, "900_more.breaking.sql")
        apply_schema(empty)
    for use in (open_database, apply_schema):
        with pytest.raises(SchemaError, match=r"newer version .*900_more\.breaking\.sql.* install"):
            use(empty)


def test_concurrent_applies_of_a_schema_wait_for_each_other(empty):
    if empty.engine == "mssql":
        Database(empty, create=True).close()  # the server lets only one of them create it
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: apply_schema(empty), range(3)))
    assert sorted(map(len, done)) == [0, 0, len(schema.scripts(empty.engine))]
    assert differences(empty) == []
