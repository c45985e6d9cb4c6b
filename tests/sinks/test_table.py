import json
from threading import Thread
from time import sleep

import numpy as np
import pytest

from contract.columns import NEVER, PacketColumns
from contract.event import Event, event_key
from ops.devices import SensorSpec, register
from sinks.events import events_sink
from sinks.readings import readings_sink


@pytest.fixture
def sensor(database):
    register(database, "rig", [SensorSpec("boiler", "temperature", "°C")])
    return 1


def readings(*rows, sensor=1):
    """Columns of readings (ts, seq, value), each with the sensor."""
    count = len(rows)
    ints = np.array([[ts, seq] for ts, seq, _ in rows], np.int64).reshape(-1, 2)
    return PacketColumns(
        arrival=np.zeros(1, np.int64),
        device_id=np.ones(1, np.int64),
        packet_hash=np.ones(1, np.int64),
        received_at=np.array([5_000]),
        fresh=np.ones(1, bool),
        count=np.array([count]),
        sensor_id=np.full(count, sensor),
        ts=ints[:, 0],
        device_ts=np.where(ints[:, 0] % 2, NEVER, ints[:, 0]),
        value=np.array([value for _, _, value in rows], float),
        seq=ints[:, 1],
    )


def event(number, resolves=None, status="active", sensor=1, title="t"):
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
    )


def select(database, statement):
    return [tuple(row) for row in database._connection.execute(statement).fetchall()]


def write(sink, *values):
    """All partitions of the sink, one after the other, so that each is seen to write."""
    for part in sink.list_parts()[:1]:
        partition = sink.build_part("step", part, None)
        partition.write_batch(list(values))
        partition.snapshot()
        partition.close()


def test_the_same_readings_are_written_once_however_often_they_come(settings, database, sensor):
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


def test_of_two_readings_with_one_identity_the_first_counts(settings, database, sensor):
    write(readings_sink(settings), readings((1000, 0, 1.0), (1000, 0, 2.0)))
    assert select(database, "SELECT value FROM sensor_readings") == [(1,)]


def test_a_refused_row_stands_alone_in_the_dead_letters_and_the_rest_is_stored(
    settings, database, sensor
):
    good = [readings((ts, 0, 1.0)) for ts in range(200)]
    good.insert(77, readings((77, 0, 9.0), sensor=999))
    write(readings_sink(settings), *good)
    write(readings_sink(settings), *good)
    assert select(database, "SELECT count(*) FROM sensor_readings") == [(200,)]
    ((sink, error, row),) = select(database, "SELECT sink, error, row_json FROM sink_dead_letters")
    assert sink == "write_readings"
    assert json.loads(row) == [999, 9.0, 5000, None, 77, 0]
    assert "foreign key" in error.lower()


def test_an_event_has_one_notification_and_ends_the_one_it_resolves(settings, database, sensor):
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


def test_no_event_without_its_notification_when_one_of_them_is_refused(settings, database, sensor):
    write(events_sink(settings), event(1), event(2, sensor=999), event(3))
    assert select(database, "SELECT count(*) FROM ml_events") == [(2,)]
    assert select(database, "SELECT count(*) FROM alert_notifications") == [(2,)]
    assert select(database, "SELECT count(*) FROM sink_dead_letters") == [(1,)]


@pytest.mark.parametrize("empty", ["sqlite"], indirect=True)
def test_while_the_database_is_locked_the_flow_waits_and_then_all_is_stored(
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
def test_an_error_that_waiting_cannot_mend_stops_the_flow(settings, database, sensor):
    database._connection.execute("DROP TABLE sensor_readings")
    partition = readings_sink(settings).build_part("step", "0", None)
    partition.write_batch([readings((1000, 0, 1.0))])
    with pytest.raises(Exception, match="no such table: sensor_readings"):
        partition.snapshot()
    with pytest.raises(Exception, match="no such table: sensor_readings"):
        partition.write_batch([readings((1001, 0, 1.0))])
