"""The statements of the old back end and the old services, run on a fresh schema and an
upgraded old one; the views also on SQLite.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from contract.event import Alert, Event, event_key
from contract.level import Level
from contract.predictions import HORIZON_MS, Predictions
from contract.settings import Settings
from ml.predict.flow_rows import told
from ml.predict.forecast import LINE
from ml.predict.forecast_rows import ModelRow, forecast_row
from ml.predict.outlook import Outlook
from ml.predict.store import thresholds_of, write_forecast
from rules.columns import Rules
from rules.line import NAME, TYPE, VERSION
from rules.tables import make_rules, names_of, rule_tables
from sinks.events import event_row
from sinks.predictions import prediction_rows
from sinks.times import text_of
from sql.schema import apply_schema, open_database
from sql.statements import ForecastSensor
from tests.sinks import batches
from tests.sql.installations import install_old, new_database

EVERYWHERE = ("sqlite", "fresh", "upgraded")
ON_SERVER = ("fresh", "upgraded")


def pytest_generate_tests(metafunc):
    """Tests with a `server` run only on SQL Server, those with a `place` on every engine."""
    for name, places in (("server", ON_SERVER), ("place", EVERYWHERE)):
        if name in metafunc.fixturenames:
            metafunc.parametrize("opened", places, indirect=True, scope="module")
            return


@pytest.fixture(scope="module")
def opened(request, tmp_path_factory):
    """One database per place for all tests of this file; each test creates its own device."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("backend") / "iot.db"
        yield from opened_with_schema(Settings(db_engine="sqlite", iot_sqlite_path=path))
        return
    with new_database(request.getfixturevalue("mssql_server")) as settings:
        if request.param == "upgraded":
            install_old(settings)
        yield from opened_with_schema(settings)


def opened_with_schema(settings):
    apply_schema(settings)
    database = open_database(settings)
    yield database
    database.close()


@pytest.fixture
def place(opened):
    return opened


@pytest.fixture
def server(opened):
    return opened


@dataclass(frozen=True)
class Rig:
    """A device with two sensors, of which the boiler has a threshold, and a user."""

    device: int
    boiler: int
    pump: int
    threshold: int
    user: int
    name: str
    device_uuid: str
    boiler_uuid: str
    pump_uuid: str


@pytest.fixture
def rig(opened):
    return new_rig(opened)


def new_rig(database):
    name = f"rig {uuid4().hex[:8]}"
    uuids = [str(uuid4()).upper() for _ in range(3)]
    run(
        database,
        f"INSERT INTO devices (device_uuid, name, device_type, status)"
        f" VALUES ('{uuids[0]}', '{name}', 'gateway', 'offline')",
    )
    ((device,),) = run(database, f"SELECT id FROM devices WHERE name = '{name}'")
    for uuid, sensor, kind in ((uuids[1], "boiler", "temperature"), (uuids[2], "pump", "power")):
        run(
            database,
            f"INSERT INTO sensors (device_id, sensor_uuid, sensor_type, name, unit,"
            f" valid_readings_count, operational_state)"
            f" VALUES ({device}, '{uuid}', '{kind}', '{sensor}', 'u', 10, 'NORMAL')",
        )
    (boiler,), (pump,) = run(database, f"SELECT id FROM sensors WHERE device_id = {device}")
    run(
        database,
        "INSERT INTO alert_thresholds (sensor_id, name, condition_type, threshold_value_min,"
        f" threshold_value_max, severity) VALUES ({boiler}, 'hot', 'out_of_range', 0, 80.5,"
        " 'critical')",
    )
    run(
        database,
        f"INSERT INTO users (username, email, password_hash) VALUES ('{name}', '{name}', 'x')",
    )
    ((threshold,),) = run(database, f"SELECT id FROM alert_thresholds WHERE sensor_id = {boiler}")
    ((user,),) = run(database, f"SELECT id FROM users WHERE username = '{name}'")
    return Rig(device, boiler, pump, threshold, user, name, *uuids)


def run(database, statement, *parameters):
    """The rows of the statement's last result, with plain values; [] if there is none."""
    while True:
        try:
            cursor = database._connection.execute(statement, parameters)
            break
        except Exception as error:
            # Babelfish fails once at each foreign key that it has checked before a procedure ran
            if not re.search(r'relation "(\w+)_\1_dbo\.', str(error)):
                raise
    rows: list[tuple[Any, ...]] = []
    while True:
        if cursor.description:
            rows = [tuple(plain(value) for value in row) for row in cursor.fetchall()]
        if not (hasattr(cursor, "nextset") and cursor.nextset()):
            break
    cursor.close()
    return rows


def plain(value):
    """Numbers as int and float, times as text to the millisecond."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="milliseconds")
    return value


def ago(seconds):
    """A time as text, and in epoch milliseconds."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=seconds)
    return at.strftime("%Y-%m-%d %H:%M:%S.000"), int(at.timestamp()) * 1000


def read(database, sensor, value, seconds=0):
    """Write a reading from `seconds` ago, with what it means for alerts; return its time as text.
    On SQLite, only the flow writes readings.
    """
    text, ms = ago(seconds)
    if "sqlite" in type(database._connection).__module__:
        run(
            database,
            f"UPDATE alerts SET status = 'resolved', resolved_at = '{text}' WHERE sensor_id ="
            f" {sensor} AND status IN ('active', 'acknowledged')",
        )
        run(
            database,
            "INSERT INTO alerts (threshold_id, sensor_id, device_id, severity, triggered_value,"
            " triggered_at) SELECT b.threshold_id, s.id, s.device_id,"
            f" CASE b.level WHEN 2 THEN 'critical' ELSE 'warning' END, {value}, '{text}'"
            " FROM v_threshold_bounds b JOIN sensors s ON s.id = b.sensor_id"
            f" WHERE s.id = {sensor} AND ({value} < b.low OR {value} > b.high)",
        )
        database.execute("write_readings", batches.readings((sensor, value, ms + 20, ms, ms, 0)))
    else:
        run(
            database,
            "EXEC dbo.sp_insert_reading_and_check_threshold"
            " @p_sensor_id = ?, @p_value = ?, @p_device_timestamp = ?",
            sensor, value, text,
        )  # fmt: skip
    return text


def scalar(database, statement):
    ((value,),) = run(database, statement)
    return value


def columns(database, view, names, where):
    """The rows of a view as dicts, with the columns in `names`, separated by spaces."""
    listed = names.split()
    rows = run(database, f"SELECT {', '.join(listed)} FROM {view} WHERE {where}")
    return [dict(zip(listed, row, strict=True)) for row in rows]


# Views, with all columns in `database.md`, including those of later releases


def test_devices_with_sensors(place, rig):
    run(
        place,
        "INSERT INTO devices (device_uuid, name, device_type, status)"
        f" VALUES ('{uuid4()}', '{rig.name} alone', 'gateway', 'error')",
    )
    read(place, rig.boiler, 20.5)
    names = (
        "device_id device_uuid device_name device_type device_status sensor_id sensor_uuid"
        " sensor_type sensor_name unit sensor_active sensor_status"
    )
    of = (rig.device, rig.device_uuid, rig.name, "gateway", "online")
    rows = columns(place, "v_devices_with_sensors", names, f"device_name = '{rig.name}'")
    assert sorted(tuple(row.values()) for row in rows) == [
        (*of, rig.boiler, rig.boiler_uuid, "temperature", "boiler", "u", 1, "online"),
        (*of, rig.pump, rig.pump_uuid, "power", "pump", "u", 1, "online"),
    ]
    (row,) = columns(place, "v_devices_with_sensors", names, f"device_name = '{rig.name} alone'")
    assert list(row.values())[4:] == ["error", *[None] * 7]
    ((heard,),) = run(
        place, f"SELECT DISTINCT last_connection FROM v_devices_with_sensors"
        f" WHERE device_id = {rig.device}",
    )  # fmt: skip
    assert ago(60)[0] < heard < ago(-60)[0], "in UTC"


def test_deleted_devices_are_not_listed(place, rig):
    run(place, f"UPDATE devices SET status = 'deleted' WHERE id = {rig.device}")
    for view in (
        "v_devices_with_sensors", "v_latest_sensor_readings", "v_device_profile_summary",
        "v_sensor_consolidated_status",
    ):  # fmt: skip
        assert not columns(place, view, "device_id", f"device_id = {rig.device}")


def test_a_deleted_sensor_is_not_listed(server, rig):
    run(server, f"UPDATE sensors SET is_deleted = 1 WHERE id = {rig.pump}")
    for view in (
        "v_devices_with_sensors", "v_latest_sensor_readings", "v_sensor_consolidated_status"
    ):  # fmt: skip
        rows = columns(server, view, "sensor_id", f"device_id = {rig.device}")
        assert rows == [{"sensor_id": rig.boiler}]
    assert columns(
        server, "v_device_profile_summary", "sensor_count", f"device_id = {rig.device}"
    ) == [{"sensor_count": 1}]


def test_latest_readings(place, rig):
    at = read(place, rig.boiler, 20.12345, 60)
    run(
        place,
        "UPDATE sensors SET operational_state = 'INITIALIZING', valid_readings_count = 3"
        f" WHERE id = {rig.pump}",
    )
    names = (
        "sensor_id sensor_uuid sensor_name sensor_type unit device_name latest_value"
        " latest_timestamp device_id device_uuid operational_state valid_readings_count"
        " min_readings_for_normal state_changed_at can_generate_events"
    )
    rows = columns(place, "v_latest_sensor_readings", names, f"device_id = {rig.device}")
    assert sorted(tuple(row.values()) for row in rows) == [
        (
            rig.boiler, rig.boiler_uuid, "boiler", "temperature", "u", rig.name, 20.12345, at,
            rig.device, rig.device_uuid, "NORMAL", 10, 10, None, 1,
        ),
        (
            rig.pump, rig.pump_uuid, "pump", "power", "u", rig.name, None, None, rig.device,
            rig.device_uuid, "INITIALIZING", 3, 10, None, 0,
        ),
    ]  # fmt: skip


def test_an_alert_raised_by_a_reading_is_listed_as_active(place, rig):
    read(place, rig.boiler, 20, 60)
    at = read(place, rig.boiler, 81.25, 30)
    alert = scalar(place, f"SELECT id FROM alerts WHERE sensor_id = {rig.boiler}")
    names = (
        "alert_id severity status triggered_value triggered_at device_name device_uuid"
        " sensor_name sensor_type unit threshold_name condition_type threshold_value_min"
        " threshold_value_max sensor_id device_id operational_state"
    )
    (row,) = columns(place, "v_active_alerts", names, f"device_id = {rig.device}")
    assert tuple(row.values()) == (
        alert, "critical", "active", 81.25, at, rig.name, rig.device_uuid, "boiler",
        "temperature", "u", "hot", "out_of_range", 0, 80.5, rig.boiler, rig.device, "ALERT",
    )  # fmt: skip
    run(place, f"UPDATE alerts SET status = 'acknowledged' WHERE id = {alert}")
    (row,) = columns(place, "v_active_alerts", names, f"device_id = {rig.device}")
    assert row["status"] == "acknowledged"
    read(place, rig.boiler, 20, 10)
    assert columns(place, "v_active_alerts", names, f"device_id = {rig.device}") == []


def test_an_alert_of_a_profile_is_listed_as_active_without_a_threshold(place, rig):
    run(
        place,
        f"INSERT INTO sensor_threshold_profiles (sensor_id, warning_max) VALUES ({rig.pump}, 5)",
    )
    read(place, rig.pump, 6)
    names = "severity triggered_value threshold_name condition_type sensor_id"
    (row,) = columns(place, "v_active_alerts", names, f"device_id = {rig.device}")
    assert tuple(row.values()) == ("warning", 6, None, None, rig.pump)


def test_every_alert_is_in_the_history_with_the_user_who_handled_it(place, rig):
    at = read(place, rig.boiler, -0.5, 600)
    run(
        place,
        f"UPDATE alerts SET status = 'acknowledged', acknowledged_at = '{ago(590)[0]}',"
        f" acknowledged_by = {rig.user} WHERE sensor_id = {rig.boiler}",
    )
    run(
        place,
        f"UPDATE alerts SET status = 'resolved', resolved_at = '{at}',"
        f" resolved_by = {rig.user} WHERE sensor_id = {rig.boiler}",
    )
    again = read(place, rig.boiler, 90, 60)
    names = (
        "alert_id device_id device_uuid device_name sensor_id sensor_name sensor_type unit"
        " threshold_id threshold_name condition_type threshold_value_min threshold_value_max"
        " severity status triggered_value triggered_at acknowledged_by"
        " acknowledged_by_username resolved_at resolved_by resolved_by_username"
    )
    rows = columns(
        place, "v_alerts_history", names, f"sensor_id = {rig.boiler} ORDER BY triggered_at"
    )
    (first,), (second,) = (
        run(place, f"SELECT id FROM alerts WHERE sensor_id = {rig.boiler} AND status = '{status}'")
        for status in ("resolved", "active")
    )
    of = (
        rig.device, rig.device_uuid, rig.name, rig.boiler, "boiler", "temperature", "u",
        rig.threshold, "hot", "out_of_range", 0, 80.5, "critical",
    )  # fmt: skip
    who = (rig.user, rig.name, at, rig.user, rig.name)
    assert [tuple(row.values()) for row in rows] == [
        (*first, *of, "resolved", -0.5, at, *who),
        (*second, *of, "active", 90, again, *[None] * 5),
    ]
    assert columns(
        place, "v_alerts_history", "acknowledged_at", f"alert_id = {second[0]}"
    ) == [{"acknowledged_at": None}]  # fmt: skip


def predict(database, rig, seconds=0):
    """Store a prediction of a model; return its id and its target as text."""
    run(
        database,
        "INSERT INTO ml_models (sensor_id, model_name, model_type, version, is_active, trained_at)"
        f" VALUES ({rig.boiler}, 'm', 'baseline', '1.0.0', 1, '{ago(0)[0]}')",
    )
    model = scalar(database, f"SELECT MAX(id) FROM ml_models WHERE sensor_id = {rig.boiler}")
    target = ago(seconds - 600)[0]
    run(
        database,
        "INSERT INTO predictions (model_id, sensor_id, device_id, predicted_value, confidence,"
        f" predicted_at, target_timestamp) VALUES ({model}, {rig.boiler}, {rig.device}, 85.5, 0.75,"
        f" '{ago(seconds)[0]}', '{target}')",
    )
    return scalar(database, f"SELECT MAX(id) FROM predictions WHERE model_id = {model}"), target


def event(
    database, rig, code, *, kind="warning", sensor=True, at=0, prediction="NULL", payload="1"
):
    run(
        database,
        "INSERT INTO ml_events (device_id, sensor_id, prediction_id, event_type, event_code, title,"
        f" message, status, created_at, payload) VALUES ({rig.device},"
        f" {rig.boiler if sensor else 'NULL'}, {prediction}, '{kind}', '{code}', '{code}?', 'm',"
        f" 'active', '{ago(at)[0]}', '{payload}')",
    )
    return scalar(database, f"SELECT MAX(id) FROM ml_events WHERE device_id = {rig.device}")


def test_active_events(place, rig):
    prediction, target = predict(place, rig)
    full = event(place, rig, "A", prediction=prediction, at=60, payload='{"z": 1}')
    bare = event(place, rig, "B", sensor=False, kind="notice", at=30)
    gone = event(place, rig, "C")
    run(place, f"UPDATE ml_events SET status = 'resolved' WHERE id = {gone}")
    run(place, f"UPDATE ml_events SET status = 'acknowledged' WHERE id = {bare}")
    names = (
        "event_id event_type event_code title message status device_id device_uuid device_name"
        " sensor_id sensor_name sensor_type unit prediction_id predicted_value confidence"
        " target_timestamp payload operational_state"
    )
    rows = columns(
        place, "v_ml_events_active", names, f"device_id = {rig.device} ORDER BY created_at DESC"
    )
    of = (rig.device, rig.device_uuid, rig.name)
    assert [tuple(row.values()) for row in rows] == [
        (bare, "notice", "B", "B?", "m", "acknowledged", *of, *[None] * 8, "1", None),
        (
            full, "warning", "A", "A?", "m", "active", *of, rig.boiler, "boiler", "temperature",
            "u", prediction, 85.5, 0.75, target, '{"z": 1}', "NORMAL",
        ),
    ]  # fmt: skip


def test_an_active_event_shows_no_forecast_for_a_time_that_has_passed(place, rig):
    old, target = predict(place, rig, seconds=601)
    event(place, rig, "PRED_THRESHOLD_BREACH", prediction=old, at=20)
    event(place, rig, "PREDICTION_DEVIATION", prediction=old, at=10)
    rows = columns(
        place, "v_ml_events_active", "prediction_id predicted_value confidence target_timestamp",
        f"device_id = {rig.device} ORDER BY created_at",
    )  # fmt: skip
    assert [tuple(row.values()) for row in rows] == [
        (old, None, None, None), (old, 85.5, 0.75, target)
    ]  # fmt: skip


def test_the_newest_prediction_of_a_sensor_has_a_risk_and_a_text_whoever_wrote_it(place, rig):
    """What the old back end shows: the newest by `predicted_at`, if its target is ahead."""
    for at, write in ((ago(60)[1], batch_row), (ago(30)[1], flow_row)):
        write(place, rig, at)
        (row,) = columns(
            place, "predictions", "risk_level severity explanation engine_name status",
            f"sensor_id = {rig.boiler} AND target_timestamp > '{ago(0)[0]}' AND predicted_at ="
            f" (SELECT MAX(predicted_at) FROM predictions WHERE sensor_id = {rig.boiler})",
        )  # fmt: skip
        text = msgspec.json.decode(row.pop("explanation"))
        assert tuple(row.values())[:2] == ("HIGH", "critical")
        assert {"short_message", "recommended_action", "details"} <= set(text)
        assert "85.5 u" in text["short_message"]


def batch_row(place, rig, at):
    """A prediction of the batch runner."""
    outlook = Outlook(
        sensor=ForecastSensor(rig.boiler, rig.device, "boiler", "temperature", "u", rig.name),
        predicted_at=at, newest=80.0, horizon_minutes=10, value=85.5, confidence=0.5, trend=1,
        slope=0.5, window=500, engine=LINE, judged=True, anomaly=None,
    )  # fmt: skip
    model = ModelRow(name=NAME, type=TYPE, version=VERSION, trained_at=text_of(at), refresh=True)
    thresholds = thresholds_of(place, [rig.boiler])[rig.boiler]
    write_forecast(
        place, forecast_row(outlook, thresholds, model, language="en", dedupe_minutes=10)
    )


def flow_row(place, rig, at):
    """A prediction of the flow, by the rules that are stored."""

    def one(value):
        return np.array([value])

    columns = {
        "model_id": one(0), "sensor_id": one(rig.boiler), "device_id": one(rig.device),
        "predicted_at": one(at), "value": one(85.5), "confidence": one(0.5), "window": one(60),
        "trend": one(0),
    }  # fmt: skip
    rules = Rules(make_rules(rule_tables(place))[0])
    texts = told(
        **columns, newest=one(80.0), slope=one(0.0), thresholds=rules.thresholds_of,
        names=names_of(place, "en"),
    )  # fmt: skip
    rows = prediction_rows(Predictions(**columns, target=one(at + HORIZON_MS), **texts._asdict()))
    place.execute("write_predictions", msgspec.json.encode(rows).decode())


def test_device_summary(place, rig):
    names = (
        "device_id device_uuid device_name device_type status last_connection sensor_count"
        " active_alerts last_alert_at"
    )
    of = (rig.device, rig.device_uuid, rig.name, "gateway")
    (row,) = columns(place, "v_device_profile_summary", names, f"device_id = {rig.device}")
    assert tuple(row.values()) == (*of, "offline", None, 2, 0, None)
    read(place, rig.boiler, 90, 400)
    read(place, rig.boiler, 20, 390)
    at = read(place, rig.boiler, 90, 30)
    (row,) = columns(place, "v_device_profile_summary", names, f"device_id = {rig.device}")
    assert row.pop("last_connection")
    assert tuple(row.values()) == (*of, "online", 2, 1, at)


def test_a_device_timeline_has_alerts_and_events(place, rig):
    at = read(place, rig.boiler, 90.5, 60)
    event(place, rig, "A", at=30, payload='{"z": 1}')
    event(place, rig, "B", at=10, kind="notice", sensor=False)
    names = "event_type device_id sensor_id occurred_at severity title payload"
    alert, *events = columns(
        place, "v_device_timeline", names, f"device_id = {rig.device} ORDER BY occurred_at"
    )
    payload = msgspec.json.decode(alert.pop("payload"))
    assert payload == {
        "alert_id": scalar(place, f"SELECT id FROM alerts WHERE sensor_id = {rig.boiler}"),
        "status": "active", "triggered_value": 90.5, "unit": "u",
    }  # fmt: skip
    assert tuple(alert.values()) == (
        "alert", rig.device, rig.boiler, at, "critical", "boiler: hot",
    )  # fmt: skip
    for row, wanted in zip(
        events,
        [(rig.boiler, "warning", "A?", '{"z": 1}'), (None, "info", "B?", "1")],
        strict=True,
    ):
        assert tuple(row[key] for key in ("sensor_id", "severity", "title", "payload")) == wanted
        assert row["event_type"] == "ml_event"


CONSOLIDATED = (
    "sensor_id sensor_uuid sensor_name sensor_type unit device_id device_name device_uuid"
    " latest_value latest_timestamp operational_state valid_readings_count"
    " min_readings_for_normal active_alert_id alert_severity alert_triggered_value"
    " alert_triggered_at active_warning_id warning_event_code warning_title"
    " warning_created_at final_state has_active_alert has_active_warning can_generate_events"
    " seconds_since_last_reading"
)


def test_consolidated_status_of_a_sensor(place, rig):
    def status(sensor=rig.boiler):
        (row,) = columns(
            place, "v_sensor_consolidated_status", CONSOLIDATED, f"sensor_id = {sensor}"
        )
        return row

    at = read(place, rig.boiler, 90.5, 60)
    event(place, rig, "A", at=40)
    newest = event(place, rig, "B", kind="critical", at=30)
    event(place, rig, "C", kind="notice", at=10)
    alert = scalar(place, f"SELECT id FROM alerts WHERE sensor_id = {rig.boiler}")
    row = status()
    assert 58 <= row.pop("seconds_since_last_reading") <= 90
    warned = row.pop("warning_created_at")
    assert warned == scalar(place, f"SELECT created_at FROM ml_events WHERE id = {newest}")
    assert tuple(row.values()) == (
        rig.boiler, rig.boiler_uuid, "boiler", "temperature", "u", rig.device, rig.name,
        rig.device_uuid, 90.5, at, "ALERT", 10, 10, alert, "critical", 90.5, at, newest, "B",
        "B?", "ALERT", 1, 1, 1,
    )  # fmt: skip
    run(
        place,
        "INSERT INTO alerts (sensor_id, device_id, severity, triggered_value, triggered_at)"
        f" VALUES ({rig.boiler}, {rig.device}, 'warning', 1, '{ago(0)[0]}')",
    )
    assert status()["active_alert_id"] == alert, "the worst counts, not the newest"
    run(place, f"UPDATE alerts SET status = 'resolved' WHERE id = {alert}")
    assert (status()["final_state"], status()["alert_severity"]) == ("WARNING", "warning")
    run(place, f"UPDATE alerts SET status = 'resolved' WHERE sensor_id = {rig.boiler}")
    run(place, f"UPDATE ml_events SET status = 'resolved' WHERE id = {newest}")
    row = status()
    assert (row["final_state"], row["warning_event_code"]) == ("WARNING", "A")
    assert (row["has_active_alert"], row["active_alert_id"]) == (0, None)
    run(place, f"UPDATE ml_events SET status = 'resolved' WHERE sensor_id = {rig.boiler}")
    assert status()["final_state"] == "NORMAL", "a notice warns of nothing"
    assert status()["has_active_warning"] == 0
    for state, final, can in (
        ("INITIALIZING", "INITIALIZING", 0), ("STALE", "STALE", 0), ("NORMAL", "NORMAL", 1)
    ):  # fmt: skip
        run(place, f"UPDATE sensors SET operational_state = '{state}' WHERE id = {rig.boiler}")
        assert (status()["final_state"], status()["can_generate_events"]) == (final, can)
    run(
        place,
        "INSERT INTO sensor_threshold_profiles (sensor_id, stale_threshold_ms)"
        f" VALUES ({rig.boiler}, 30000)",
    )
    assert status()["final_state"] == "STALE", "its last reading is a minute old"
    assert status(rig.pump)["final_state"] == "UNKNOWN"
    assert status(rig.pump)["seconds_since_last_reading"] is None


# The two procedures that insert readings

SINGLE = "EXEC dbo.sp_insert_reading_and_check_threshold @p_sensor_id = ?, @p_value = ?"
BULK = "EXEC dbo.sp_insert_readings_bulk_json_and_check_threshold @p_readings_json = ?"


def readings(database, sensor):
    return run(
        database,
        "SELECT value, device_timestamp FROM sensor_readings"
        f" WHERE sensor_id = {sensor} ORDER BY id",
    )


def test_the_single_procedure_with_two_parameters_returns_a_new_alert(server, rig):
    assert run(server, SINGLE, rig.boiler, 20.5) == []
    ((alert,),) = run(server, SINGLE, rig.boiler, 80.6)
    assert run(server, SINGLE, rig.boiler, 80.7) == [], "the alert is already active"
    assert readings(server, rig.boiler) == [(20.5, None), (80.6, None), (80.7, None)]
    assert run(
        server,
        "SELECT alert_id, severity, triggered_value, threshold_name FROM v_active_alerts"
        f" WHERE sensor_id = {rig.boiler}",
    ) == [(alert, "critical", 80.6, "hot")]
    assert run(
        server,
        "SELECT severity, is_read FROM alert_notifications"
        f" WHERE source = 'alert' AND source_event_id = {alert}",
    ) == [("critical", 0)]
    late = scalar(
        server,
        "SELECT COUNT(*) FROM sensor_readings WHERE sensor_id ="
        f" {rig.boiler} AND ABS(DATEDIFF(second, [timestamp], SYSUTCDATETIME())) > 60",
    )
    assert late == 0, "stamped in UTC"


def test_the_single_procedure_with_a_device_time_is_idempotent(server, rig):
    three = f"{SINGLE}, @p_device_timestamp = ?"
    at, _ = ago(60)
    for _ in range(2):
        run(server, three, rig.boiler, 20.5, at)
    run(server, three, rig.boiler, 21.5, None)
    assert readings(server, rig.boiler) == [(20.5, at), (21.5, None)]


def test_the_bulk_procedure_stores_a_packet_once(server, rig):
    at, ms = ago(60)
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat()
    packet = [
        {"sensor_id": rig.boiler, "value": 20.5, "device_timestamp": text},
        {"sensor_id": rig.boiler, "value": 90.5, "device_timestamp": text},
        {"sensor_id": rig.pump, "value": 7, "device_timestamp": text},
    ]
    for _ in range(2):
        run(server, BULK, msgspec.json.encode(packet).decode())
    assert readings(server, rig.boiler) == [(20.5, at), (90.5, at)]
    assert readings(server, rig.pump) == [(7, at)]
    assert run(
        server,
        f"SELECT sensor_id, latest_value FROM v_latest_sensor_readings"
        f" WHERE device_id = {rig.device} ORDER BY sensor_id",
    ) == [(rig.boiler, 90.5), (rig.pump, 7)]
    assert run(
        server, f"SELECT triggered_value FROM v_active_alerts WHERE device_id = {rig.device}"
    ) == [(90.5,)]


def test_the_bulk_procedure_accepts_readings_without_a_time(server, rig):
    packet = [{"sensor_id": rig.pump, "value": value} for value in (1, 2.25, 2.25)]
    run(server, BULK, msgspec.json.encode(packet).decode())
    assert readings(server, rig.pump) == [(1, None), (2.25, None), (2.25, None)]


# Maintenance procedures


def test_readings_are_counted_during_warm_up_and_the_last_one_raises_no_event(server, rig):
    run(
        server,
        "UPDATE sensors SET operational_state = 'INITIALIZING', valid_readings_count = 0,"
        f" min_readings_for_normal = 3 WHERE id = {rig.pump}",
    )

    def count(sensor=rig.pump):
        (answer,) = run(
            server,
            "DECLARE @can bit, @state varchar(20);"
            " EXEC dbo.sp_sensor_increment_valid_readings @sensor_id = ?,"
            " @out_can_generate_events = @can OUTPUT, @out_current_state = @state OUTPUT;"
            " SELECT @can, @state",
            sensor,
        )
        return answer

    assert [count() for _ in range(4)] == [
        (0, "INITIALIZING"), (0, "INITIALIZING"), (0, "NORMAL"), (1, "NORMAL")
    ]  # fmt: skip
    assert run(
        server,
        "SELECT valid_readings_count, CASE WHEN state_changed_at IS NULL THEN 0 ELSE 1 END"
        f" FROM sensors WHERE id = {rig.pump}",
    ) == [(3, 1)], "readings after the warm-up are not counted"
    run(server, f"UPDATE sensors SET operational_state = 'STALE' WHERE id = {rig.pump}")
    assert [count() for _ in range(3)] == [
        (0, "INITIALIZING"), (0, "INITIALIZING"), (0, "NORMAL")
    ]  # fmt: skip
    run(server, f"UPDATE sensors SET operational_state = 'ALERT' WHERE id = {rig.pump}")
    assert count() == (1, "ALERT")
    assert count(0) == (0, "UNKNOWN")


def flow_reads(database, sensor, value, seconds=0):
    """Write a reading from `seconds` ago as the flow does."""
    _, ms = ago(seconds)
    run_rows(database, "write_readings", batches.readings((sensor, value, ms + 20, ms, ms, 0)))


def flow_judges(database, rig, level, seconds=0):
    """Write the event of a level of the boiler's threshold, from `seconds` ago."""
    _, ms = ago(seconds)
    alert = Alert(level, rig.threshold, "Critical alert: hot" if level else None)
    made = Event(
        event_key=event_key(rig.boiler, ms, level.name), device_id=rig.device,
        sensor_id=rig.boiler, at=ms, event_type="critical", event_code="X", title="t",
        message="m", value=99.0, payload="{}", resolves=None, status="active", alert=alert,
    )  # fmt: skip
    run_rows(database, "write_events", batches.json(event_row(made)))


def run_rows(database, statement, rows):
    run(database, f"EXEC dbo.sp_sink_{statement.removeprefix('write_')} @p_rows = ?", rows)


def alerts_of(database, rig):
    """[(status, triggered_value, number of notifications)] in order."""
    return run(
        database,
        "SELECT a.status, a.triggered_value, (SELECT COUNT(*) FROM alert_notifications n"
        " WHERE n.source = 'alert' AND n.source_event_id = a.id)"
        f" FROM alerts a WHERE a.sensor_id = {rig.boiler} ORDER BY a.id",
    )


def state_of(database, rig):
    return scalar(database, f"SELECT operational_state FROM sensors WHERE id = {rig.boiler}")


def test_the_trigger_leaves_the_flows_readings_to_the_flow(server, rig):
    flow_reads(server, rig.boiler, 99.5, 60)
    assert alerts_of(server, rig) == []
    assert state_of(server, rig) == "NORMAL"
    latest = f"SELECT latest_value FROM sensor_readings_latest WHERE sensor_id = {rig.boiler}"
    assert scalar(server, latest) == 99.5
    assert scalar(server, f"SELECT status FROM devices WHERE id = {rig.device}") == "online"
    run(server, SINGLE, rig.boiler, 90)
    assert alerts_of(server, rig) == [("active", 90, 1)]
    # in the same insert as one of another program, and inside the bounds
    run(
        server,
        "INSERT INTO dbo.sensor_readings (sensor_id, value, event_timestamp, seq)"
        f" VALUES ({rig.boiler}, 20, DATEADD(second, 1, SYSUTCDATETIME()), 0),"
        f" ({rig.pump}, 7, NULL, NULL)",
    )
    assert alerts_of(server, rig) == [("active", 90, 1)]
    assert state_of(server, rig) == "ALERT"


def test_the_flow_and_the_procedure_raise_one_alert_for_one_breach(server, rig):
    flow_reads(server, rig.boiler, 99, 10)
    flow_judges(server, rig, Level.CRITICAL, 9)
    assert run(server, SINGLE, rig.boiler, 98) == []
    assert alerts_of(server, rig) == [("active", 99, 1)]
    run(server, SINGLE, rig.boiler, 20)
    assert alerts_of(server, rig) == [("resolved", 99, 1)]
    assert run(server, SINGLE, rig.boiler, 98) == [], "in the cooldown of the flow's alert"
    assert alerts_of(server, rig) == [("resolved", 99, 1)]


def test_the_procedure_and_the_flow_raise_one_alert_for_one_breach(server, rig):
    ((alert,),) = run(server, SINGLE, rig.boiler, 98)
    flow_reads(server, rig.boiler, 99)
    flow_judges(server, rig, Level.CRITICAL, -1)
    assert alerts_of(server, rig) == [("active", 98, 1)]
    flow_judges(server, rig, Level.NORMAL, -9)
    assert alerts_of(server, rig) == [("resolved", 98, 1)]
    assert state_of(server, rig) == "NORMAL"
    flow_judges(server, rig, Level.CRITICAL, -20)
    assert alerts_of(server, rig) == [("active", 98, 1)], "in its cooldown: it stands again"
    assert state_of(server, rig) == "ALERT"
    assert scalar(server, f"SELECT MAX(id) FROM alerts WHERE sensor_id = {rig.boiler}") == alert


def test_alerts_are_resolved_when_their_bound_has_moved(server, rig):
    read(server, rig.boiler, 90, 60)
    read(server, rig.boiler, 91, 50)
    run(server, "EXEC dbo.sp_auto_resolve_alerts")
    assert len(run(server, f"SELECT 1 FROM v_active_alerts WHERE sensor_id = {rig.boiler}")) == 1
    run(server, f"UPDATE alert_thresholds SET threshold_value_max = 92 WHERE id = {rig.threshold}")
    assert run(server, "EXEC dbo.sp_auto_resolve_alerts") == [(1,)]
    assert run(server, "EXEC dbo.sp_auto_resolve_alerts") == [(0,)]
    assert run(
        server,
        "SELECT status, CASE WHEN ABS(DATEDIFF(second, resolved_at, SYSUTCDATETIME())) < 60"
        f" THEN 1 END FROM alerts WHERE sensor_id = {rig.boiler}",
    ) == [("resolved", 1)]


def test_an_alert_of_the_flow_ends_with_its_event(server, rig):
    flow_judges(server, rig, Level.CRITICAL, 60)
    flow_reads(server, rig.boiler, 80, 50)
    run(server, "EXEC dbo.sp_auto_resolve_alerts")
    assert alerts_of(server, rig) == [("active", 99, 1)]
    flow_judges(server, rig, Level.NORMAL, 40)
    assert alerts_of(server, rig) == [("resolved", 99, 1)]


def test_alerts_of_silent_sensors_are_cleaned_up(server, rig):
    run(server, "EXEC dbo.sp_cleanup_stale_alerts @ttl_minutes = ?", 60)
    other = new_rig(server)
    for sensor in (rig.boiler, other.boiler):
        read(server, sensor, 90, 4000)
    read(server, other.boiler, 91, 60)
    assert run(server, "EXEC dbo.sp_cleanup_stale_alerts @ttl_minutes = ?", 120) == [(0,)]
    assert run(server, "EXEC dbo.sp_cleanup_stale_alerts @ttl_minutes = ?", 60) == [(1,)]
    assert run(
        server,
        f"SELECT sensor_id, status FROM alerts WHERE sensor_id IN ({rig.boiler}, {other.boiler})"
        " ORDER BY sensor_id",
    ) == [(rig.boiler, "resolved"), (other.boiler, "active")]


def test_old_events_are_cleaned_up_in_batches(server, rig):
    run(server, "EXEC dbo.sp_cleanup_stale_ml_events @ttl_minutes = ?", 30)
    run(
        server,
        "INSERT INTO ml_events (device_id, event_type, event_code, title, created_at)"
        f" SELECT {rig.device}, 'warning', 'OLD', 't', DATEADD(minute, -31, SYSUTCDATETIME())"
        f" FROM {numbers(9001)}",
    )
    young = event(server, rig, "YOUNG", at=1700)
    assert run(server, "EXEC dbo.sp_cleanup_stale_ml_events @ttl_minutes = ?", 30) == [(9001,)]
    assert run(server, "EXEC dbo.sp_cleanup_stale_ml_events @ttl_minutes = ?", 30) == [(0,)]
    assert run(
        server, f"SELECT event_id FROM v_ml_events_active WHERE device_id = {rig.device}"
    ) == [(young,)]


def numbers(count):
    """A subquery with `count` rows and one column, n, which starts at 0."""
    digits = " UNION ALL ".join(f"SELECT {n} AS d" for n in range(10))
    places = range(len(str(count - 1)))
    joined = " CROSS JOIN ".join(f"({digits}) AS p{place}" for place in places)
    value = " + ".join(f"p{place}.d * {10**place}" for place in places)
    return f"(SELECT n FROM (SELECT {value} AS n FROM {joined}) AS m WHERE n < {count}) AS numbers"


def test_a_snapshot_stores_the_readings_before_an_alert_once(server, rig):
    run(
        server,
        "INSERT INTO alert_thresholds (sensor_id, name, condition_type, threshold_value_min,"
        f" severity) VALUES ({rig.boiler}, 'warm', 'greater_than', 60, 'warning')",
    )
    run(
        server,
        "INSERT INTO sensor_readings (sensor_id, value, [timestamp])"
        f" SELECT {rig.boiler}, 1, DATEADD(minute, -50, SYSUTCDATETIME())"
        " UNION ALL SELECT"
        f" {rig.boiler}, 2, DATEADD(minute, -20, SYSUTCDATETIME())",
    )
    times = [read(server, rig.boiler, value, 90 - value) for value in (20, 70)]
    times.append(read(server, rig.boiler, 85.5, 4))
    ((alert, at),) = run(
        server,
        f"SELECT id, triggered_at FROM alerts WHERE sensor_id = {rig.boiler}"
        " AND severity = 'critical'",
    )
    assert at == times[-1]
    for _ in range(2):
        run(server, "EXEC dbo.sp_create_alert_snapshot @p_alert_id = ?", alert)
    ((series, *rest),) = run(
        server,
        "SELECT series_data, alert_id, sensor_id, device_id, sensor_name, device_name, unit,"
        " sensor_type, triggered_at, triggered_value, severity, threshold_warning_min,"
        " threshold_warning_max, threshold_alert_min, threshold_alert_max, point_count, context_to"
        f" FROM alert_snapshots WHERE sensor_id = {rig.boiler}",
    )
    assert rest == [
        alert, rig.boiler, rig.device, "boiler", rig.name, "u", "temperature", at, 85.5,
        "critical", None, 60, 0, 80.5, 4, at,
    ]  # fmt: skip
    points = msgspec.json.decode(series)
    assert [(point["value"], point["state"]) for point in points] == [
        (2, "NORMAL"), (20, "NORMAL"), (70, "WARNING"), (85.5, "ALERT")
    ]  # fmt: skip
    stamps = [datetime.fromisoformat(point["ts"]) for point in points[1:]]
    assert stamps == [datetime.fromisoformat(f"{time}+00:00") for time in times]
    run(server, "EXEC dbo.sp_create_alert_snapshot @p_alert_id = ?", 0)


def test_an_event_is_processed_once_by_concurrent_consumers(server, rig):
    def attempt(_):
        other = open_database(server._settings)
        try:
            ((duplicate,),) = run(
                other,
                "DECLARE @is bit; EXEC dbo.sp_try_process_event @event_id = ?, @consumer_id = ?,"
                " @event_type = ?, @is_duplicate = @is OUTPUT; SELECT @is",
                rig.device_uuid, "nest", "alert",
            )  # fmt: skip
        finally:
            other.close()
        return duplicate

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(attempt, range(12))) == [0, *[1] * 11]
    assert run(
        server,
        "SELECT consumer_id, event_type FROM processed_events WHERE event_id ="
        f" '{rig.device_uuid}'",
    ) == [("nest", "alert")]


def test_old_processed_events_are_deleted_in_batches(server, rig):
    run(
        server,
        "INSERT INTO processed_events (event_id, consumer_id, processed_at)"
        f" SELECT CONCAT('{rig.name}', n), 'c', DATEADD(day, -8, SYSUTCDATETIME())"
        f" FROM {numbers(9001)}",
    )
    run(
        server,
        f"INSERT INTO processed_events (event_id, consumer_id) VALUES ('{rig.name} new', 'c')",
    )
    forget = "EXEC dbo.sp_cleanup_old_processed_events @retention_days = ?"
    assert run(server, forget, 9) == [(0,)]
    assert run(server, forget, 7) == [(9001,)]
    assert run(
        server, f"SELECT event_id FROM processed_events WHERE event_id LIKE '{rig.name}%'"
    ) == [(f"{rig.name} new",)]


# The statements of the old services and of Nest

AT = "2024-11-24 10:00:00.000"
STATEMENTS = {
    "the newest readings": (
        "INSERT INTO sensor_readings (sensor_id, value, [timestamp]) VALUES"
        " ({pump}, 1.5, '2024-11-24T10:00:00'), ({pump}, 2.5, '2024-11-24T11:00:00')",
        "INSERT INTO sensor_readings (sensor_id, value, [timestamp], device_timestamp) VALUES"
        " ({pump}, 3.5, '2024-11-24T10:30:00', '2024-11-24T10:29:59')",
        "SELECT TOP (2) sensor_id, value, [timestamp] FROM dbo.sensor_readings"
        " WHERE sensor_id = {pump} ORDER BY [timestamp] DESC",
        [("{pump}", 2.5, "2024-11-24 11:00:00.000"), ("{pump}", 3.5, "2024-11-24 10:30:00.000")],
    ),
    "a reading that is stamped by the server": (
        "INSERT INTO dbo.sensor_readings (sensor_id, value) VALUES ({pump}, 1.5)",
        "SELECT CASE WHEN ABS(DATEDIFF(minute, [timestamp], GETDATE())) < 2 THEN 1 ELSE 0 END"
        " FROM dbo.sensor_readings WHERE sensor_id = {pump}",
        [(1,)],
    ),
    "a sensor by both uuids": (
        "SELECT s.id FROM dbo.sensors s JOIN dbo.devices d ON d.id = s.device_id"
        " WHERE d.device_uuid = '{device_uuid}' AND s.sensor_uuid = '{pump_uuid}'",
        [("{pump}",)],
    ),
    "sensors of the batch": (
        "SELECT s.id, s.sensor_type, d.name FROM dbo.sensors s JOIN dbo.devices d"
        " ON d.id = s.device_id WHERE s.is_active = 1 AND d.id = {device} ORDER BY s.id",
        [("{boiler}", "temperature", "{name}"), ("{pump}", "power", "{name}")],
    ),
    "a model, and the newest active one": (
        "INSERT INTO dbo.ml_models (sensor_id, model_name, model_type, version, is_active,"
        " trained_at) VALUES"
        " ({pump}, 'baseline_moving_average', 'baseline', '1.0.0', 1, '2024-11-24T10:00:00'),"
        " ({pump}, 'sklearn_regression_iforest', 'sklearn', '1.0.0', 1, '2024-11-23T10:00:00'),"
        " ({pump}, 'baseline_moving_average', 'baseline', '0.9.0', 0, '2024-11-25T10:00:00')",
        "SELECT TOP 1 model_name, version, accuracy FROM dbo.ml_models"
        " WHERE sensor_id = {pump} AND is_active = 1 ORDER BY trained_at DESC",
        [("baseline_moving_average", "1.0.0", None)],
    ),
    "the sklearn model": (
        "INSERT INTO dbo.ml_models (sensor_id, model_name, model_type, version, is_active,"
        " trained_at, accuracy, metadata) VALUES ({pump}, 'sklearn_regression_iforest', 'sklearn',"
        " '1.0.0', 1, GETDATE(), 0.9876, '{{}}')",
        "SELECT TOP 1 model_name, accuracy FROM dbo.ml_models WHERE sensor_id = {pump}"
        " AND is_active = 1 AND model_type = 'sklearn' ORDER BY trained_at DESC",
        [("sklearn_regression_iforest", 0.9876)],
    ),
    "a prediction of the baseline, which names no device": (
        "INSERT INTO dbo.ml_models (sensor_id, model_name, model_type, version, trained_at)"
        " VALUES ({pump}, 'm', 'baseline', '1.0.0', GETDATE())",
        "INSERT INTO dbo.predictions (model_id, sensor_id, predicted_value, confidence,"
        " predicted_at, target_timestamp, horizon_minutes, window_points)"
        " SELECT MAX(id), {pump}, 1.5, 0.5, GETDATE(), '2024-11-24T10:10:00', 10, 60"
        " FROM dbo.ml_models WHERE sensor_id = {pump}",
        "SELECT predicted_value, confidence, target_timestamp, horizon_minutes, device_id"
        " FROM dbo.predictions WHERE sensor_id = {pump}",
        [(1.5, 0.5, "2024-11-24 10:10:00.000", 10, None)],
    ),
    "a prediction of the batch, as Nest lists it": (
        "INSERT INTO dbo.ml_models (sensor_id, model_name, model_type, version, trained_at)"
        " VALUES ({pump}, 'm', 'sklearn', '1.0.0', GETDATE())",
        "INSERT INTO dbo.predictions (model_id, sensor_id, device_id, predicted_value, confidence,"
        " predicted_at, target_timestamp, horizon_minutes, window_points, trend, is_anomaly,"
        " anomaly_score, risk_level, severity, status, explanation)"
        " SELECT MAX(id), {pump}, {device}, 1.5, 0.5, '2024-11-24T10:00:00',"
        " '2024-11-24T10:10:00', 10, 500, 'up', 1, 0.875, 'HIGH', 'WARNING', 'active',"
        """ N'{{"short_message":"sí"}}' FROM dbo.ml_models WHERE sensor_id = {pump}""",
        "SELECT TOP (50) p.id - p.id, p.predicted_value, p.confidence, p.predicted_at,"
        " p.target_timestamp, p.trend, p.is_anomaly, p.anomaly_score, p.risk_level, p.severity,"
        " p.explanation, m.model_name, s.name, d.name"
        " FROM dbo.predictions p JOIN dbo.ml_models m ON m.id = p.model_id"
        " JOIN dbo.sensors s ON s.id = p.sensor_id JOIN dbo.devices d ON d.id = s.device_id"
        " WHERE s.id = {pump} ORDER BY p.target_timestamp ASC",
        [
            (
                0,
                1.5,
                0.5,
                AT,
                "2024-11-24 10:10:00.000",
                "up",
                1,
                0.875,
                "HIGH",
                "WARNING",
                '{{"short_message":"sí"}}',
                "m",
                "pump",
                "{name}",
            )
        ],
    ),
    "the newest prediction of a sensor, of those that are still ahead": (
        "INSERT INTO dbo.ml_models (sensor_id, model_name, model_type, version, trained_at)"
        " VALUES ({pump}, 'm', 'baseline', '1.0.0', GETDATE())",
        "INSERT INTO dbo.predictions (model_id, sensor_id, device_id, predicted_value, confidence,"
        " predicted_at, target_timestamp) SELECT m.id, {pump}, {device}, v.x, 0.5,"
        " DATEADD(minute, v.x, GETDATE()), DATEADD(minute, v.x + 5, GETDATE())"
        " FROM dbo.ml_models m CROSS JOIN (VALUES (-9), (-3), (-2)) AS v (x)"
        " WHERE m.sensor_id = {pump}",
        "SELECT p.sensor_id, p.predicted_value FROM dbo.predictions p JOIN (SELECT sensor_id,"
        " MAX(predicted_at) AS newest FROM dbo.predictions GROUP BY sensor_id) n"
        " ON n.sensor_id = p.sensor_id AND n.newest = p.predicted_at"
        " WHERE p.target_timestamp > GETDATE() AND p.sensor_id = {pump}",
        [("{pump}", -2)],
    ),
    "the prediction that is nearest to a reading": (
        "INSERT INTO dbo.ml_models (sensor_id, model_name, model_type, version, trained_at)"
        " VALUES ({pump}, 'm', 'baseline', '1.0.0', GETDATE())",
        "INSERT INTO dbo.predictions (model_id, sensor_id, device_id, predicted_value, confidence,"
        " predicted_at, target_timestamp) SELECT m.id, {pump}, {device}, v.x, 0.5, GETDATE(),"
        " DATEADD(second, v.x, '2024-11-24T10:00:00') FROM dbo.ml_models m"
        " CROSS JOIN (VALUES (-61), (-30), (40)) AS v (x) WHERE m.sensor_id = {pump}",
        "SELECT TOP 1 predicted_value FROM dbo.predictions WHERE sensor_id = {pump}"
        " AND ABS(DATEDIFF(second, target_timestamp, '2024-11-24T10:00:00')) <= 60"
        " ORDER BY ABS(DATEDIFF(second, target_timestamp, '2024-11-24T10:00:00'))",
        [(-30,)],
    ),
    "what the explainer takes, and gives": (
        "INSERT INTO dbo.ml_models (sensor_id, model_name, model_type, version, trained_at)"
        " VALUES ({pump}, 'm', 'baseline', '1.0.0', GETDATE())",
        "INSERT INTO dbo.predictions (model_id, sensor_id, device_id, predicted_value, confidence,"
        " predicted_at, target_timestamp, is_anomaly, anomaly_score) SELECT m.id, {pump},"
        " {device}, 1, 0.5, GETDATE(), GETDATE(), v.a, v.s FROM dbo.ml_models m"
        " CROSS JOIN (VALUES (1, 0.9), (1, 0.7), (0, 0.9)) AS v (a, s) WHERE m.sensor_id = {pump}",
        "UPDATE dbo.predictions SET explanation = N'¿?' WHERE id IN (SELECT TOP 50 id"
        " FROM dbo.predictions WHERE is_anomaly = 1 AND anomaly_score >= 0.8"
        " AND (explanation IS NULL OR explanation = '') AND sensor_id = {pump})",
        "SELECT anomaly_score, explanation FROM dbo.predictions WHERE sensor_id = {pump}"
        " AND explanation IS NOT NULL",
        [(0.9, "¿?")],
    ),
    "an event, and the search for one like it": (
        "INSERT INTO dbo.ml_events (device_id, sensor_id, prediction_id, event_type, event_code,"
        " title, message, status, created_at, payload) VALUES ({device}, {pump}, NULL, 'warning',"
        " 'CURVE_ANOMALY', N'ML online: CURVE_ANOMALY', N'qué', 'active', GETDATE(), N'{{}}')",
        "SELECT TOP 1 event_type, title, message, payload FROM dbo.ml_events"
        " WHERE sensor_id = {pump} AND event_code = 'CURVE_ANOMALY'"
        " AND status IN ('active', 'acknowledged')"
        " AND created_at >= DATEADD(minute, -5, GETDATE()) ORDER BY created_at DESC",
        [("warning", "ML online: CURVE_ANOMALY", "qué", "{{}}")],
    ),
    "events dealt with, and the badge": (
        "INSERT INTO dbo.ml_events (device_id, sensor_id, event_type, event_code, title)"
        " VALUES ({device}, {pump}, 'notice', 'A', 'a'), ({device}, {pump}, 'critical', 'B', 'b'),"
        " ({device}, {pump}, 'critical', 'C', 'c')",
        "UPDATE dbo.ml_events SET status = 'acknowledged', acknowledged_at = GETDATE(),"
        " acknowledged_by = {user} WHERE device_id = {device} AND event_code = 'A'",
        "UPDATE dbo.ml_events SET status = 'resolved', resolved_at = GETDATE(),"
        " resolved_by = {user} WHERE device_id = {device} AND event_code = 'B'",
        "SELECT status, COUNT(*), COUNT(acknowledged_by), COUNT(resolved_at) FROM dbo.ml_events"
        " WHERE device_id = {device} GROUP BY status ORDER BY status",
        [("acknowledged", 1, 1, 0), ("active", 1, 0, 0), ("resolved", 1, 0, 1)],
    ),
    "a notification of an event, unread": (
        "INSERT INTO dbo.alert_notifications (source, source_event_id, severity, title, message,"
        " is_read, created_at) VALUES ('ml_event', {device}, 'notice', N'qué', NULL, 0, GETDATE())",
        "SELECT TOP (100) source, severity, title, message FROM dbo.alert_notifications"
        " WHERE is_read = 0 AND source_event_id = {device} AND source = 'ml_event'"
        " ORDER BY created_at DESC",
        [("ml_event", "notice", "qué", None)],
    ),
    "notifications, marked as read": (
        "INSERT INTO dbo.alert_notifications (source, source_event_id, severity, title, created_at)"
        " VALUES ('alert', {device}, 'critical', 'a', GETDATE()),"
        " ('alert', {device}, 'critical', 'b', GETDATE())",
        "UPDATE dbo.alert_notifications SET is_read = 1, read_at = GETDATE() WHERE id IN (SELECT"
        " id FROM dbo.alert_notifications WHERE source_event_id = {device} AND title = 'a')",
        "SELECT title, is_read, COUNT(read_at) FROM dbo.alert_notifications"
        " WHERE source = 'alert' AND source_event_id = {device} AND title IN ('a', 'b')"
        " GROUP BY title, is_read ORDER BY title",
        [("a", 1, 1), ("b", 0, 0)],
    ),
    "unread notifications, with the sensors that may be shown": (
        "EXEC dbo.sp_insert_reading_and_check_threshold @p_sensor_id = {boiler}, @p_value = 99",
        "SELECT n.severity, n.sensor_id, n.triggered_value, s.operational_state"
        " FROM dbo.alert_notifications n"
        " LEFT JOIN dbo.alerts a ON n.source = 'alert' AND a.id = n.source_event_id"
        " LEFT JOIN dbo.alert_events v ON n.source = 'alert_event' AND v.id = n.source_event_id"
        " LEFT JOIN dbo.ml_events e ON n.source = 'ml_event' AND e.id = n.source_event_id"
        " JOIN dbo.sensors s ON s.id = COALESCE(a.sensor_id, v.sensor_id, e.sensor_id)"
        " WHERE n.is_read = 0 AND s.id = {boiler}"
        " AND s.operational_state NOT IN ('INITIALIZING', 'STALE')",
        [("critical", "{boiler}", 99, "ALERT")],
    ),
    "the active threshold": (
        "INSERT INTO dbo.alert_thresholds (sensor_id, name, condition_type, threshold_value_min,"
        " threshold_value_max, severity, is_active, created_at) VALUES ({boiler}, 'later',"
        " 'less_than', 5, NULL, 'info', 1, GETDATE())",
        "SELECT TOP 1 id, name, condition_type, threshold_value_min, threshold_value_max, severity"
        " FROM dbo.alert_thresholds WHERE sensor_id = {boiler} AND is_active = 1 ORDER BY id ASC",
        [("{threshold}", "hot", "out_of_range", 0, 80.5, "critical")],
    ),
    "a threshold that is changed, and its history": (
        "UPDATE dbo.alert_thresholds SET threshold_value_max = 70, updated_at = GETDATE()"
        " WHERE id = {threshold}",
        "INSERT INTO dbo.threshold_history (threshold_id, old_min, old_max, new_min, new_max,"
        " changed_by, changed_at, reason) VALUES ({threshold}, 0, 80.5, 0, 70, {user}, GETDATE(),"
        " N'más')",
        "SELECT h.old_max, h.new_max, h.changed_by, h.reason, t.threshold_value_max"
        " FROM dbo.threshold_history h JOIN dbo.alert_thresholds t ON t.id = h.threshold_id"
        " WHERE t.id = {threshold} ORDER BY h.changed_at DESC",
        [(80.5, 70, "{user}", "más", 70)],
    ),
    "the active deltas": (
        "INSERT INTO dbo.delta_thresholds (sensor_id, abs_delta, rel_delta, abs_slope, rel_slope,"
        " severity, is_active) VALUES ({pump}, 5.5, 0.25, NULL, NULL, NULL, 1)",
        "SELECT TOP 1 abs_delta, rel_delta, abs_slope, rel_slope, severity, min_readings"
        " FROM dbo.delta_thresholds WHERE sensor_id = {pump} AND is_active = 1 ORDER BY id",
        [(5.5, 0.25, None, None, None, 5)],
    ),
    "a watermark": (
        "INSERT INTO dbo.ml_watermarks (sensor_id, last_reading_id, last_processed_at)"
        " VALUES ({pump}, NULL, GETDATE())",
        "UPDATE dbo.ml_watermarks SET last_reading_id = 7, last_processed_at = GETDATE()"
        " WHERE sensor_id = {pump}",
        "SELECT w.last_reading_id, MAX(r.id) FROM dbo.ml_watermarks w LEFT JOIN"
        " dbo.sensor_readings r ON r.sensor_id = w.sensor_id WHERE w.sensor_id = {pump}"
        " GROUP BY w.last_reading_id",
        [(7, None)],
    ),
    **{
        f"the series of {period}": (
            f"INSERT INTO dbo.sensor_readings_{period} (sensor_id, bucket_ts, avg_value,"
            " min_value, max_value, last_value, samples) VALUES"
            " ({pump}, '2024-11-24T10:00:00', 2, 1, 3, NULL, 5),"
            " ({pump}, '2024-11-24T09:00:00', 5, 4, 6.5, 5, 7),"
            " ({pump}, '2024-11-23T09:00:00', 5, 4, 6.5, 5, 7)",
            "SELECT bucket_ts, avg_value, min_value, max_value, last_value, samples"
            f" FROM dbo.sensor_readings_{period} WHERE sensor_id = {{pump}}"
            " AND bucket_ts >= '2024-11-24T00:00:00' AND bucket_ts < '2024-11-25T00:00:00'"
            " ORDER BY bucket_ts ASC",
            [("2024-11-24 09:00:00.000", 5, 4, 6.5, 5, 7), (AT, 2, 1, 3, None, 5)],
        )
        for period in ("1m", "5m", "1h")
    },
    "alerts dealt with": (
        "EXEC dbo.sp_insert_reading_and_check_threshold @p_sensor_id = {boiler}, @p_value = 99",
        "UPDATE dbo.alerts SET status = 'acknowledged', acknowledged_at = GETDATE(),"
        " acknowledged_by = {user} WHERE sensor_id = {boiler} AND status = 'active'",
        "UPDATE dbo.alerts SET status = 'resolved', resolved_at = GETDATE(),"
        " resolved_by = {user} WHERE sensor_id = {boiler} AND status = 'acknowledged'",
        "SELECT a.status, k.username, r.username FROM dbo.alerts a"
        " JOIN dbo.users k ON k.id = a.acknowledged_by JOIN dbo.users r ON r.id = a.resolved_by"
        " WHERE a.sensor_id = {boiler}",
        [("resolved", "{name}", "{name}")],
    ),
    "an alert of the old kind, with its threshold": (
        "INSERT INTO dbo.alerts (threshold_id, sensor_id, device_id, severity, status,"
        " triggered_value, triggered_at) VALUES ({threshold}, {boiler}, {device}, 'info',"
        " 'active', 9.5, '2024-11-24T10:00:00')",
        "SELECT alert_id - alert_id, threshold_name, triggered_value, triggered_at"
        " FROM dbo.v_alerts_history WHERE sensor_id = {boiler}"
        " AND status IN ('active', 'acknowledged') ORDER BY triggered_at DESC",
        [(0, "hot", 9.5, AT)],
    ),
    "the health of the models": (
        "INSERT INTO dbo.ml_events (device_id, event_type, event_code, title)"
        " VALUES ({device}, 'critical', 'A', 'a')",
        "SELECT TOP 1 DATEDIFF(minute, created_at, GETDATE()) / 30 FROM dbo.v_ml_events_active"
        " WHERE device_id = {device} ORDER BY created_at DESC",
        [(0,)],
    ),
    "an event of an alert (later)": (
        "INSERT INTO dbo.alert_events (sensor_id, device_id, event_type, event_subtype, severity,"
        " triggered_value, threshold_id, threshold_value_min, threshold_value_max, triggered_at,"
        " title, message, metadata) VALUES ({boiler}, {device}, 'THRESHOLD_VIOLATION', 'HIGH',"
        " 'critical', 99.5, {threshold}, 0, 80.5, '2024-11-24T10:00:00', N't', N'm', N'{{}}')",
        "SELECT event_subtype, triggered_value, threshold_value_max, status, acknowledged_by,"
        " metadata FROM dbo.alert_events WHERE sensor_id = {boiler} AND status = 'active'",
        [("HIGH", 99.5, 80.5, "active", None, "{{}}")],
    ),
    "a notification with its snapshot (later)": (
        "INSERT INTO dbo.alert_notifications (source, source_event_id, severity, title, sensor_id,"
        " device_id, triggered_value, event_type, snapshot_data) VALUES ('alert_event', {device},"
        " 'warning', 't', {pump}, {device}, 1.5, 'DELTA_SPIKE', N'[]')",
        "SELECT triggered_value, event_type, snapshot_data, is_read FROM dbo.alert_notifications"
        " WHERE sensor_id = {pump}",
        [(1.5, "DELTA_SPIKE", "[]", 0)],
    ),
    "a sensor's profile (later)": (
        "INSERT INTO dbo.sensor_threshold_profiles (sensor_id, warning_min, warning_max, alert_min,"
        " alert_max) VALUES ({pump}, 1, 2, 0, 3)",
        "SELECT warning_min, alert_max, cooldown_seconds, stale_threshold_ms, updated_at"
        " FROM dbo.sensor_threshold_profiles WHERE sensor_id = {pump}",
        [(1, 3, 300, 86400000, None)],
    ),
    "devices that wait to be activated (later)": (
        "UPDATE dbo.devices SET status = 'draft', provisioning_code = '{device}',"
        " activation_attempts = activation_attempts + 1, last_activation_attempt = GETDATE(),"
        " activated_from_ip = '::1', last_seen_at = GETDATE() WHERE id = {device}",
        "SELECT id, activation_attempts, activated_from_ip, deleted_at FROM dbo.devices"
        " WHERE provisioning_code = '{device}'",
        [("{device}", 1, "::1", None)],
    ),
    "a sensor that is claimed (later)": (
        "UPDATE dbo.sensors SET status = 'pending_confirmation', claim_token = '{pump_uuid}',"
        " claim_token_expires = DATEADD(hour, 1, GETDATE()), reserved_by_user_id = {user},"
        " reserved_at = GETDATE(), provisioning_code = 's{pump}', api_key_hash = 'h',"
        " api_key_prefix = 'p', activated_at = NULL, activated_by_user_id = NULL,"
        " activated_from_ip = NULL, last_confirm_attempt = GETDATE(),"
        " confirm_attempts = confirm_attempts + 1 WHERE id = {pump}",
        "SELECT id, status, require_qr_confirmation, confirm_attempts, is_deleted, deleted_at"
        " FROM dbo.sensors WHERE claim_token = '{pump_uuid}' AND claim_token_expires > GETDATE()",
        [("{pump}", "pending_confirmation", 0, 1, 0, None)],
    ),
    "a device's key (later)": (
        "INSERT INTO dbo.device_api_keys (device_id, api_key_hash, key_name)"
        " VALUES ({device}, REPLICATE('a', 64), 'k')",
        "SELECT key_name, is_active, revoked_at FROM dbo.device_api_keys"
        " WHERE device_id = {device} AND api_key_hash = REPLICATE('a', 64)",
        [("k", 1, None)],
    ),
    "a decision (later)": (
        "INSERT INTO dbo.decision_actions (device_id, pattern_signature, title, summary)"
        " VALUES ({device}, 's', N't', N'u')",
        "SELECT decision_type, priority, severity, event_count, status, should_notify, expires_at"
        " FROM dbo.decision_actions WHERE device_id = {device}",
        [("monitor", 3, "info", 1, "pending", 0, None)],
    ),
    "a user's devices and tokens": (
        "INSERT INTO dbo.user_devices (user_id, device_id) VALUES ({user}, {device})",
        "INSERT INTO dbo.push_tokens (user_id, fcm_token, platform)"
        " VALUES ({user}, N'{name}', 'android')",
        "INSERT INTO dbo.refresh_tokens (user_id, token_hash, expires_at, ip, user_agent)"
        " VALUES ({user}, '{name}', GETDATE(), '::1', 'x')",
        "SELECT u.role, u.is_active, d.permission_level, p.is_active, r.revoked_at"
        " FROM dbo.users u JOIN dbo.user_devices d ON d.user_id = u.id"
        " JOIN dbo.push_tokens p ON p.user_id = u.id JOIN dbo.refresh_tokens r ON r.user_id = u.id"
        " WHERE u.id = {user}",
        [("viewer", 1, "read", 1, None)],
    ),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_statements_of_the_old_services_work(server, rig, name):
    known = {field.name: getattr(rig, field.name) for field in fields(rig)}
    *statements, wanted = STATEMENTS[name]
    rows = [run(server, statement.format(**known)) for statement in statements][-1]
    by_text = {f"{{{key}}}": value for key, value in known.items()}
    assert rows == [
        tuple(
            by_text.get(value, value.replace("{{", "{").replace("}}", "}"))
            if isinstance(value, str)
            else value
            for value in row
        )
        for row in wanted
    ]


@pytest.mark.parametrize("table", ["devices", "sensors"])
def test_a_provisioning_code_is_unique(server, rig, table):
    other = new_rig(server)
    ids = (rig.device, other.device) if table == "devices" else (rig.pump, other.pump)
    give = f"UPDATE dbo.{table} SET provisioning_code = ? WHERE id = ?"
    run(server, give, f"once {ids[0]}", ids[0])
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        run(server, give, f"once {ids[0]}", ids[1])
