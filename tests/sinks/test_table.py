import json
from dataclasses import replace
from threading import Thread
from time import sleep

import numpy as np
import pytest
from prometheus_client import REGISTRY

from contract.columns import PacketColumns, ReadingColumns, RecordColumns
from contract.event import Event, device_event_key, event_key
from contract.packet import NO_TIME
from contract.predictions import HORIZON_MS, Predictions
from contract.rollups import ROLLUP_MS, Rollups, StaleRollups
from ops.devices import SensorSpec, register
from sinks.events import events_sink
from sinks.predictions import predictions_sink
from sinks.readings import readings_sink
from sinks.rollups import rollups_sink

HOUR = 1732442400000
"""2024-11-24 10:00 UTC."""


@pytest.fixture
def sensor(database):
    """Sensor 1. Device 1 also has sensor 2."""
    register(
        database,
        "rig",
        [SensorSpec("boiler", "temperature", "°C"), SensorSpec("pump", "power", "W")],
    )
    return 1


def readings(*rows, sensor=1):
    """Columns of readings (ts, seq, value) of one sensor. Times are in milliseconds."""
    count = len(rows)
    ints = np.array([[round(1000 * ts), seq] for ts, seq, _ in rows], np.int64).reshape(-1, 2)
    return PacketColumns(
        RecordColumns(
            arrival=np.zeros(1, np.int64),
            partition=np.zeros(1, np.int64),
            offset=np.zeros(1, np.int64),
            version=np.full(1, 2, np.int8),
            device_id=np.ones(1, np.int64),
            packet_hash=np.ones(1, np.int64),
            received_at=np.array([5_000_000]),
            fresh=np.ones(1, bool),
            count=np.array([count]),
        ),
        ReadingColumns(
            sensor_id=np.full(count, sensor),
            ts=ints[:, 0],
            device_ts=np.where(ints[:, 0] % 2000, NO_TIME, ints[:, 0]),
            value=np.array([value for _, _, value in rows], float),
            seq=ints[:, 1],
        ),
    )


def rollups(*rows):
    """Columns of buckets (period, sensor, bucket, count, mean), with bounds 1 from the mean."""
    period, sensor, bucket, count, mean = zip(*rows, strict=True)
    return Rollups(
        period=np.array(period),
        sensor_id=np.array(sensor),
        bucket=np.array(bucket),
        count=np.array(count),
        mean=np.array(mean, float),
        minimum=np.array(mean, float) - 1,
        maximum=np.array(mean, float) + 1,
        last=np.array(mean, float) + 1,
    )


TEXT = '{"short_message":"say \\"30 °C\\"","recommended_action":"Revise sótano."}'


def predictions(*rows, horizon_ms=HORIZON_MS, window=60):
    """Columns of predictions (model, sensor, predicted_at, value)."""
    model, sensor, predicted_at, value = zip(*rows, strict=True)
    return Predictions(
        model_id=np.array(model),
        sensor_id=np.array(sensor),
        device_id=np.ones(len(rows), np.int64),
        predicted_at=np.array(predicted_at),
        target=np.array(predicted_at) + horizon_ms,
        value=np.array(value, float),
        confidence=np.full(len(rows), 0.123456),
        window=np.full(len(rows), window),
        trend=np.arange(len(rows)) % 3 - 1,
        engine=np.full(len(rows), "moving_average", object),
        risk_level=np.full(len(rows), "MEDIUM", object),
        severity=np.full(len(rows), "warning", object),
        explanation=np.full(len(rows), TEXT, object),
    )


def event(number, resolves=None, status="active", sensor=1, title="t", silent=False):
    return Event(
        event_key=event_key(1, number, "X"),
        device_id=1,
        sensor_id=sensor,
        at=1732442400123 + number,
        event_type="critical",
        event_code="ML_BEHAVIOR_STATE",
        title=title,
        message="está a 90 °C",
        value=90.123456,
        payload='{"recommended_action":"check_soon","text":"say \\"90\\""}',
        resolves=resolves,
        status=status,
        silent=silent,
    )


def select(database, statement):
    return [tuple(row) for row in database._connection.execute(statement).fetchall()]


def write(sink, *values):
    """Write the values through the first partition of the sink, then close it."""
    for part in sink.list_parts()[:1]:
        partition = sink.build_part("step", part, None)
        partition.write_batch(list(values))
        partition.snapshot()
        partition.close()


def test_repeated_readings_are_written_once(settings, database, sensor):
    rows = readings((1000, 0, 1.5), (1000, 1, 2.5), (1001, 0, 3.123456))
    write(readings_sink(settings), rows, rows)
    write(readings_sink(settings), rows, readings((1002, 0, -1.0)))
    stored = select(database, "SELECT value, seq FROM sensor_readings ORDER BY value")
    assert [(float(value), seq) for value, seq in stored] == [
        (-1.0, 0),
        (1.5, 0),
        (2.5, 1),
        (3.12346, 0),
    ]


def test_readings_differ_by_time_seq_or_value_and_repeated_ones_are_counted(
    settings, database, sensor
):
    before = repeated()
    rows = [(1000, 0, 1.0), (1000, 0, 2.0), (1000, 1, 1.0), (1000.001, 0, 1.0), (1000.002, 0, 1.0)]
    write(readings_sink(settings), readings(*rows, (1000, 0, 1.0), (1000, 0, 1.000001)))
    assert repeated() - before == 2  # in the batch
    write(readings_sink(settings), readings(*rows), readings((999, 0, 1.0)))
    assert repeated() - before == 2 + 5  # in the table
    stored = select(
        database,
        "SELECT event_timestamp, seq, value FROM sensor_readings ORDER BY event_timestamp, 2, 3",
    )
    assert [(seq, float(value)) for _, seq, value in stored] == [
        (0, 1.0), (0, 1.0), (0, 2.0), (1, 1.0), (0, 1.0), (0, 1.0),
    ]  # fmt: skip
    if settings.engine == "sqlite":
        assert [text[17:] for text, *_ in stored[3:]] == ["01.000", "01.000001", "01.000002"]


def test_a_reading_stored_in_milliseconds_equals_the_same_one_in_microseconds(
    settings, database, sensor
):
    text = "1970-01-01 00:00:01.007"
    row = [1, 1.5, text, None, text, 0]
    database.execute("write_readings", json.dumps([row]))
    write(readings_sink(settings), readings((1007, 0, 1.5)))
    assert len(select(database, "SELECT id FROM sensor_readings")) == 1


def repeated():
    return REGISTRY.get_sample_value("iot_readings_repeated_total")


def test_only_the_refused_row_becomes_a_dead_letter_and_the_rest_is_stored(
    settings, database, sensor
):
    good = [readings((ts, 0, 1.0)) for ts in range(200)]
    good.insert(77, readings((77, 0, 9.0), sensor=999))
    write(readings_sink(settings), *good)
    write(readings_sink(settings), *good)
    assert select(database, "SELECT count(*) FROM sensor_readings") == [(200,)]
    ((sink, error, row),) = select(database, "SELECT sink, error, row_json FROM sink_dead_letters")
    assert sink == "write_readings"
    assert json.loads(row) == [
        999, 9.0, "1970-01-01 00:00:05.000", None, "1970-01-01 00:00:00.077", 0
    ]  # fmt: skip
    assert "foreign key" in error.lower()


def test_an_event_has_one_notification_and_ends_the_event_it_resolves(settings, database, sensor):
    first, second = event(1), event(2, resolves=event(1).event_key, status="resolved")
    write(events_sink(settings), first)
    write(events_sink(settings), first, second)
    write(events_sink(settings), second)
    rows = select(
        database,
        "SELECT e.event_key, e.status, n.source, n.severity, n.is_read, n.triggered_value,"
        " n.message"
        " FROM ml_events e JOIN alert_notifications n ON n.source_event_id = e.id"
        " AND n.event_key = e.event_key ORDER BY e.id",
    )
    assert [row[:5] for row in rows] == [
        (first.event_key, "resolved", "ml_event", "critical", 0),
        (second.event_key, "resolved", "ml_event", "critical", 0),
    ]
    assert float(rows[0][5]) == 90.12346
    assert rows[0][6] == "está a 90 °C"
    assert select(database, "SELECT count(*) FROM alert_notifications") == [(2,)]
    (payload,) = select(
        database, "SELECT payload FROM ml_events WHERE status = 'resolved' AND id = 1"
    )
    assert json.loads(payload[0]) == {"recommended_action": "check_soon", "text": 'say "90"'}


def test_an_event_and_its_notification_are_stored_together_or_not_at_all(
    settings, database, sensor
):
    write(events_sink(settings), event(1), event(2, sensor=999), event(3))
    assert select(database, "SELECT count(*) FROM ml_events") == [(2,)]
    assert select(database, "SELECT count(*) FROM alert_notifications") == [(2,)]
    assert select(database, "SELECT count(*) FROM sink_dead_letters") == [(1,)]


def test_the_notification_of_a_silent_event_is_already_read(settings, database, sensor):
    write(events_sink(settings), event(1, silent=True), event(2))
    write(events_sink(settings), event(1, silent=True))
    rows = select(
        database, "SELECT is_read, read_at, created_at FROM alert_notifications ORDER BY created_at"
    )
    assert rows == [(1, rows[0][2], rows[0][2]), (0, None, rows[1][2])]
    assert select(database, "SELECT status FROM ml_events") == [("active",)] * 2


def test_an_event_of_a_device_has_no_sensor(settings, database, sensor):
    of_device = replace(event(1, sensor=None), event_key=device_event_key(1, 1, "X"))
    write(events_sink(settings), of_device, event(1))
    write(events_sink(settings), of_device)
    for table in ("ml_events", "alert_notifications"):
        stored = select(database, f"SELECT device_id, sensor_id FROM {table} ORDER BY sensor_id")
        assert sorted(stored, key=str) == [(1, 1), (1, None)]


@pytest.mark.parametrize(("period", "table"), [(60_000, "1m"), (300_000, "5m"), (3_600_000, "1h")])
def test_a_bucket_is_only_replaced_by_one_with_at_least_as_many_readings(
    settings, database, sensor, period, table
):
    def stored():
        rows = select(database, f"SELECT * FROM sensor_readings_{table} ORDER BY sensor_id")
        return [(row[0], str(row[1])[:19], *map(float, row[2:])) for row in rows]

    first = rollups((period, 1, HOUR, 3, 3.0), (period, 2, HOUR, 9, -2.5))
    full = [
        (1, "2024-11-24 10:00:00", 5.12346, 4.12346, 6.12346, 6.12346, 5),
        (2, "2024-11-24 10:00:00", -2.5, -3.5, -1.5, -1.5, 9),
    ]
    write(rollups_sink(settings), first)
    fuller = rollups((period, 1, HOUR, 4, 4.0), (period, 1, HOUR, 5, 5.123456))
    write(rollups_sink(settings), fuller, rollups((period, 2, HOUR, 8, 0.0)))
    assert stored() == full
    write(rollups_sink(settings), first, fuller, first)
    write(rollups_sink(settings), first)
    assert stored() == full
    write(rollups_sink(settings), rollups((period, 1, HOUR, 5, 7.0)))
    assert stored()[0][2:] == (7.0, 6.0, 8.0, 8.0, 5)


def stale(*buckets):
    period, sensor, bucket = zip(*buckets, strict=True)
    return StaleRollups(np.array(period), np.array(sensor), np.array(bucket))


def test_a_stale_bucket_is_computed_from_the_readings_that_are_stored_with_it(
    settings, database, sensor
):
    def stored(table):
        rows = select(database, f"SELECT * FROM sensor_readings_{table} ORDER BY bucket_ts")
        return [(str(row[1])[11:19], *map(float, row[2:])) for row in rows]

    write(rollups_sink(settings), rollups((60_000, 1, HOUR, 1, 1.0), (3_600_000, 1, HOUR, 1, 1.0)))
    late = readings((HOUR, 0, 1.0), (HOUR + 59_999, 0, 4.0), (HOUR + 59_999, 1, 2.5))
    later = readings((HOUR + 60_000, 0, 7.123456))
    write(
        readings_sink(settings),
        late,
        stale((60_000, 1, HOUR), (60_000, 1, HOUR + 60_000), (3_600_000, 1, HOUR)),
        later,
    )
    first, second = ("10:00:00", 2.5, 1.0, 4.0, 2.5, 3), ("10:01:00", *[7.12346] * 4, 1)
    assert stored("1m") == [first, second]
    assert stored("1h") == [("10:00:00", 3.65587, 1.0, 7.12346, 7.12346, 4)]
    # a stale bucket without readings, as after upkeep has deleted them, stays as it is
    write(readings_sink(settings), stale((60_000, 1, HOUR + 120_000), (60_000, 2, HOUR)))
    assert stored("1m") == [first, second]


def test_an_event_that_escalates_takes_the_place_of_its_incidents_notification(
    settings, database, sensor
):
    first, other = event(1), event(2)
    worse = replace(event(3), incident_key=first.event_key, escalates=True)
    end = replace(event(4, resolves=worse.event_key, silent=True), incident_key=first.event_key)
    write(events_sink(settings), first, other)
    write(events_sink(settings), worse, end)
    write(events_sink(settings), first, worse)
    rows = select(
        database, "SELECT is_read, incident_key FROM alert_notifications ORDER BY created_at"
    )
    keys = [first.event_key, other.event_key, first.event_key, first.event_key]
    assert [(bool(read), key) for read, key in rows] == list(
        zip((True, False, False, True), keys, strict=True)
    )
    assert select(database, "SELECT incident_key FROM ml_events ORDER BY created_at") == [
        (key,) for key in keys
    ]


def test_buckets_of_each_period_have_their_own_table(settings, database, sensor):
    write(rollups_sink(settings), rollups(*((period, 1, HOUR, 1, 1.0) for period in ROLLUP_MS)))
    for table in ("1m", "5m", "1h"):
        assert select(database, f"SELECT count(*) FROM sensor_readings_{table}") == [(1,)]


def test_predictions_are_written_once_and_create_one_baseline_per_sensor(
    settings, database, sensor
):
    first = predictions((0, 1, HOUR, 1.0), (0, 1, HOUR + 60_000, 2.0), (0, 2, HOUR, 3.123456))
    write(predictions_sink(settings), first, first)
    write(predictions_sink(settings), first, predictions((0, 1, HOUR + 120_000, 4.0)))
    models = select(
        database,
        "SELECT id, sensor_id, model_name, model_type, version, is_active, trained_at"
        " FROM ml_models ORDER BY id",
    )
    assert [(*row[:6], str(row[6])[:19]) for row in models] == [
        (1, 1, "baseline_moving_average", "baseline", "1.0.0", 1, "2024-11-24 10:00:00"),
        (2, 2, "baseline_moving_average", "baseline", "1.0.0", 1, "2024-11-24 10:00:00"),
    ]
    rows = select(
        database,
        "SELECT model_id, sensor_id, device_id, horizon_minutes, window_points, trend, is_anomaly,"
        " anomaly_score, risk_level, severity, status, explanation, predicted_at, target_timestamp,"
        " predicted_value, confidence, engine_name FROM predictions"
        " ORDER BY sensor_id, predicted_at",
    )
    assert [(*row[:2], float(row[14])) for row in rows] == [
        (1, 1, 1.0),
        (1, 1, 2.0),
        (1, 1, 4.0),
        (2, 2, 3.12346),
    ]
    assert [row[5] for row in rows] == ["down", "stable", "down", "up"]
    assert rows[0][2:11] == (1, 10, 60, "down", 0, 0, "MEDIUM", "warning", "active")
    assert json.loads(rows[0][11]) == json.loads(TEXT)  # Babelfish adds spaces
    assert rows[0][16] == "moving_average"
    assert [str(row[12])[:19] for row in rows[:2]] == ["2024-11-24 10:00:00", "2024-11-24 10:01:00"]
    assert str(rows[0][13])[:19] == "2024-11-24 10:10:00"
    assert float(rows[0][15]) == 0.1235


def test_predictions_differ_by_horizon_and_window(settings, database, sensor):
    sink, first = predictions_sink(settings), (0, 1, HOUR, 1.0)
    for _ in range(2):
        write(
            sink,
            predictions(first),
            predictions((0, 1, HOUR, 2.0), horizon_ms=1_800_000),
            predictions((0, 1, HOUR, 3.0), window=30),
            predictions((0, 1, HOUR, 4.0)),
        )
    rows = select(
        database,
        "SELECT horizon_minutes, window_points, predicted_value FROM predictions ORDER BY 3",
    )
    assert [(*row[:2], float(row[2])) for row in rows] == [(10, 60, 1), (30, 60, 2), (10, 30, 3)]


def test_predictions_of_a_named_model_and_of_the_baseline_are_both_stored(
    settings, database, sensor
):
    database._connection.execute(
        "INSERT INTO ml_models (sensor_id, model_name, model_type, version, is_active, trained_at)"
        " VALUES (1, 'sklearn_regression_iforest', 'sklearn', '1.0.0', 1, '2024-11-24 10:00:00')"
    )
    write(predictions_sink(settings), predictions((1, 1, HOUR, 1.0), (0, 1, HOUR, 1.0)))
    assert select(database, "SELECT model_id FROM predictions ORDER BY model_id") == [(1,), (2,)]
    assert select(database, "SELECT model_type FROM ml_models WHERE id = 2") == [("baseline",)]


def test_a_refused_prediction_leaves_no_model_behind(settings, database, sensor):
    both = predictions((0, 1, HOUR, 1.0), (0, 2, HOUR, 1.0))
    write(predictions_sink(settings), replace(both, device_id=np.array([999, 1])))
    assert select(database, "SELECT sensor_id FROM ml_models") == [(2,)]
    assert select(database, "SELECT sensor_id FROM predictions") == [(2,)]
    assert select(database, "SELECT count(*) FROM sink_dead_letters") == [(1,)]


@pytest.mark.parametrize("empty", ["sqlite"], indirect=True)
def test_the_flow_waits_while_the_database_is_locked_and_then_stores_everything(
    settings, database, sensor, monkeypatch
):
    monkeypatch.setattr("sql.sqlite._BUSY_S", 0.05)
    partition = readings_sink(settings).build_part("step", "0", None)
    database._connection.execute("BEGIN IMMEDIATE")

    def unlock():
        sleep(0.5)
        database._connection.execute("COMMIT")

    other = Thread(target=unlock)
    other.start()
    partition.write_batch([readings((1000, 0, 1.0))])
    partition.snapshot()
    partition.close()
    other.join()
    assert select(database, "SELECT count(*) FROM sensor_readings") == [(1,)]


@pytest.mark.parametrize("empty", ["sqlite"], indirect=True)
def test_a_permanent_error_stops_the_flow(settings, database, sensor):
    database._connection.execute("DROP TABLE sensor_readings")
    partition = readings_sink(settings).build_part("step", "0", None)
    partition.write_batch([readings((1000, 0, 1.0))])
    with pytest.raises(Exception, match="no such table: sensor_readings"):
        partition.snapshot()
    with pytest.raises(Exception, match="no such table: sensor_readings"):
        partition.write_batch([readings((1001, 0, 1.0))])
