"""The two patch scripts, run like `sqlcmd` does on an old installation, alone and repeatedly; and
an upgrade that keeps and backfills every old row.
"""

import re
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

import sql.mssql
from contract.errors import RefusedError
from sql import statements
from sql.check import differences
from sql.database import Database
from sql.schema import apply_schema, open_database
from tests.sql.installations import install_old, new_database

FOLDER = Path(sql.mssql.__file__).parent
BULK, TIMESTAMP = "patch_bulk_ingest.sql", "patch_device_timestamp.sql"
OLD_READINGS = [
    (1, 1, Decimal(1), datetime(2024, 11, 24, 9, 59, 59, 123400)),
    (2, 1, Decimal(2), datetime(2024, 11, 24, 10)),
    (3, 1, Decimal(2), datetime(2024, 11, 24, 10)),
    (4, 2, Decimal("20.5"), datetime(2024, 11, 24, 10)),
]


def cut(name):
    """The batches of a script, split at lines that contain only GO."""
    batches = [""]
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines(keepends=True):
        if line.strip().upper() == "GO":
            batches.append("")
        else:
            batches[-1] += line
    return [batch for batch in batches if batch.strip()]


@pytest.fixture
def old(mssql_server):
    """A connection to an old installation."""
    with new_database(mssql_server) as settings:
        install_old(settings)
        database = Database(settings, create=True)
        yield database
        database.close()


def run(database, statement, *parameters):
    cursor = database._connection.execute(statement, parameters)
    rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
    cursor.close()
    return rows


def sqlcmd(database, name):
    for batch in cut(name):
        run(database, batch)


def old_readings(database):
    return run(
        database,
        "SELECT id, sensor_id, value, [timestamp] FROM dbo.sensor_readings WHERE id <= 4"
        " ORDER BY id",
    )


def columns(database, table):
    return {row[1] for row in database.query(statements.LIST_COLUMNS) if row[0] == table}


@pytest.mark.parametrize(
    "scripts", [(BULK,), (TIMESTAMP,), (BULK, TIMESTAMP), (TIMESTAMP, BULK)], ids=" then ".join
)
def test_the_patches_can_be_applied_alone_and_again_in_any_order(old, scripts):
    for name in scripts:
        for _ in range(2):
            sqlcmd(old, name)

    assert {"device_timestamp", "event_timestamp", "seq"} <= columns(old, "sensor_readings")
    assert old_readings(old) == OLD_READINGS
    known = run(old, "SELECT event_timestamp, seq FROM dbo.sensor_readings ORDER BY id")
    if TIMESTAMP in scripts:
        ten = datetime(2024, 11, 24, 10)
        first = datetime(2024, 11, 24, 9, 59, 59, 123400)
        assert known == [(first, 0), (ten, 0), (ten, 1), (ten, 0)]
    else:
        assert known == [(None, None)] * 4

    at = datetime(2024, 11, 24, 10, 30)
    single = "EXEC dbo.sp_insert_reading_and_check_threshold @p_sensor_id = ?, @p_value = ?"
    run(old, single, 2, 21.5)
    for _ in range(2):
        run(old, f"{single}, @p_device_timestamp = ?", 2, 22.5, at)
    packet = [
        {"sensor_id": 2, "value": value, "device_timestamp": f"2024-11-24T1{hour}:30:00+01:00"}
        for value, hour in ((23.5, 2), (24.5, 2), (25.5, 3))
    ]
    bulk = "EXEC dbo.sp_insert_readings_bulk_json_and_check_threshold @p_readings_json = ?"
    for _ in range(2):
        run(old, bulk, msgspec.json.encode(packet).decode())
    hours = timedelta(hours=1)
    stored = run(
        old,
        "SELECT value, device_timestamp, event_timestamp, seq FROM dbo.sensor_readings"
        " WHERE id > 4 AND device_timestamp IS NOT NULL ORDER BY value",
    )
    assert stored == [
        (Decimal("22.5"), at, at, -999_999),
        (Decimal("23.5"), at + hours, at + hours, -999_999),
        (Decimal("24.5"), at + hours, at + hours, -999_998),
        (Decimal("25.5"), at + 2 * hours, at + 2 * hours, -999_999),
    ]
    ((value, seq),) = run(
        old,
        "SELECT value, seq FROM dbo.sensor_readings WHERE id > 4 AND device_timestamp IS NULL"
        " AND ABS(DATEDIFF(second, event_timestamp, SYSUTCDATETIME())) < 60",
    )
    assert (value, seq < -1_000_000) == (Decimal("21.5"), True)
    if BULK in scripts:
        assert_alerts_are_right(old)


def assert_alerts_are_right(database):
    """Check the effects of `patch_bulk_ingest.sql`."""
    assert run(database, "SELECT id, status FROM dbo.alerts ORDER BY id") == [
        (1, "resolved"),
        (2, "active"),
    ], "of two active alerts, the newer one stays active"
    triggers = run(
        database,
        "SELECT name, CAST(is_disabled AS int) FROM sys.triggers"
        " WHERE parent_id = OBJECT_ID(N'dbo.sensor_readings') ORDER BY name",
    )
    assert triggers == [("tr_sensor_readings_thresholds", 0), ("trg_check_thresholds", 1)]
    run(database, "UPDATE dbo.alerts SET status = 'resolved'")
    run(database, "UPDATE dbo.sensors SET operational_state = 'NORMAL'")
    run(
        database,
        "INSERT INTO dbo.alert_thresholds (sensor_id, name, condition_type, threshold_value_min,"
        " severity) VALUES (2, 'hot', 'greater_than', 30, 'critical')",
    )
    # by any client, several rows of several sensors at once
    run(
        database,
        "INSERT INTO dbo.sensor_readings (sensor_id, value)"
        " SELECT s, v FROM (VALUES (1, 85), (2, 35.5), (2, 36.5)) AS r (s, v)",
    )
    assert run(
        database,
        "SELECT a.sensor_id, a.severity, a.triggered_value, n.severity, n.sensor_id"
        " FROM dbo.alerts a LEFT JOIN dbo.alert_notifications n"
        " ON n.source = 'alert' AND n.source_event_id = a.id"
        " WHERE a.status = 'active' ORDER BY a.sensor_id",
    ) == [
        (1, "warning", 85, "warning", 1),
        (2, "critical", Decimal("35.5"), "critical", 2),
    ]
    assert run(
        database,
        "SELECT sensor_id, latest_value FROM dbo.sensor_readings_latest ORDER BY sensor_id",
    ) == [(1, 85), (2, Decimal("36.5"))]


SHARED = (
    "ADD device_timestamp ",
    "ADD event_timestamp ",
    "ADD seq ",
    "DROP INDEX ux_sensor_readings_event ",
    "ALTER COLUMN event_timestamp ",
    "CREATE UNIQUE INDEX ux_sensor_readings_identity",
    "CREATE INDEX ix_sensor_readings_undated",
    "DROP PROCEDURE dbo.sp_insert_reading_and_check_threshold;",
    "CREATE PROCEDURE dbo.sp_insert_reading_and_check_threshold\n",
    "DROP PROCEDURE dbo.sp_insert_readings_bulk_json_and_check_threshold;",
    "CREATE PROCEDURE dbo.sp_insert_readings_bulk_json_and_check_threshold\n",
)


def test_the_shared_parts_of_both_patches_are_identical():
    bulk, timestamp = cut(BULK), cut(TIMESTAMP)
    for piece in SHARED:
        (first,), (second,) = (
            [batch for batch in batches if piece in batch] for batches in (bulk, timestamp)
        )
        assert first == second
    made = r"CREATE (?:UNIQUE )?(?:\w+) \S+|ADD \w+ "
    both = [set(re.findall(made, "".join(batches))) for batches in (bulk, timestamp)]
    wanted = {text.strip() for text in SHARED if text.startswith(("ADD", "CREATE"))}
    assert {text.strip() for text in both[0] & both[1]} == wanted


MANY = 50_000
FIRST_BATCH = 20_000


def fill(database):
    """Old readings of two sensors: about three for each (sensor, time), far apart."""
    digits = " UNION ALL ".join(f"SELECT {n} AS d" for n in range(10))
    value = " + ".join(f"p{place}.d * {10**place}" for place in range(5))
    joined = " CROSS JOIN ".join(f"({digits}) AS p{place}" for place in range(5))
    run(
        database,
        "INSERT INTO dbo.sensor_readings (sensor_id, value, [timestamp])"
        " SELECT n % 2 + 1, n, DATEADD(microsecond, n % 7 * 100,"
        " DATEADD(second, n % 15000, CAST('2024-11-24T11:00:00' AS datetime2(6))))"
        f" FROM (SELECT {value} AS n FROM {joined}) AS numbers WHERE n < {MANY} ORDER BY n",
    )
    run(
        database,
        "SELECT id, sensor_id, value, [timestamp] INTO dbo.kept FROM dbo.sensor_readings",
    )


def count(database, condition="1 = 1"):
    ((rows,),) = run(database, f"SELECT COUNT(*) FROM dbo.sensor_readings WHERE {condition}")
    return rows


def test_an_interrupted_upgrade_keeps_and_backfills_every_old_row(old):
    fill(old)
    run(old, "ALTER TABLE dbo.sensor_readings ADD event_timestamp datetime2(3) NULL")
    run(
        old,
        "ALTER TABLE dbo.sensor_readings"
        f" ADD CONSTRAINT ck_stop CHECK (event_timestamp IS NULL OR id < {FIRST_BATCH + 9})",
    )
    with pytest.raises(RefusedError, match="ck_stop"):
        apply_schema(old._settings)
    assert count(old, "event_timestamp IS NOT NULL") == FIRST_BATCH, "each batch is committed"
    run(old, "ALTER TABLE dbo.sensor_readings DROP CONSTRAINT ck_stop")
    # the old back end continues to write in between
    run(old, "EXEC dbo.sp_insert_reading_and_check_threshold @p_sensor_id = 1, @p_value = 3")

    applied = []
    apply_schema(old._settings, applied.append)
    assert applied[0] == TIMESTAMP, "completed scripts are not applied again"
    assert differences(old._settings) == []
    assert count(old) == MANY + 4 + 1
    for left, right in (("kept", "sensor_readings"), ("sensor_readings", "kept")):
        assert run(
            old,
            f"SELECT COUNT(*) FROM (SELECT id, sensor_id, value, [timestamp] FROM dbo.{left}"
            f" WHERE id <= {MANY + 4} EXCEPT"
            f" SELECT id, sensor_id, value, [timestamp] FROM dbo.{right}) AS lost",
        ) == [(0,)]
    assert count(old, "event_timestamp IS NULL OR seq IS NULL") == 0
    assert count(old, "event_timestamp <> [timestamp]") == 0
    assert run(
        old,
        "SELECT COUNT(*), MAX(seq) FROM (SELECT id, seq, ROW_NUMBER() OVER ("
        "PARTITION BY sensor_id, event_timestamp ORDER BY id) - 1 AS wanted"
        " FROM dbo.sensor_readings) AS n WHERE seq <> wanted AND seq >= 0",
    ) == [(0, None)]
    assert run(old, "SELECT MAX(seq) FROM dbo.sensor_readings")[0][0] >= 1
    open_database(old._settings).close()
