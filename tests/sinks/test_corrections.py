"""Corrections that a replay makes to stored events."""

import json
from dataclasses import replace

import pytest

from contract.event import Event, event_key
from ops.devices import SensorSpec, register
from sinks.corrections import Correction, write_corrections
from sinks.events import events_sink

AT = 1732442400123
"""2024-11-24 10:00:00.123 UTC."""


@pytest.fixture(autouse=True)
def _sensor(database):
    register(database, "rig", [SensorSpec("boiler", "temperature", "°C")])


def event(number, **changes):
    made = Event(
        event_key=event_key(1, number, "X"), device_id=1, sensor_id=1, at=AT + number,
        event_type="warning", event_code="ML_BEHAVIOR_STATE", title="título", message="está a 90",
        value=90.123456, payload='{"rules_version":"a"}', resolves=None, status="active",
    )  # fmt: skip
    return replace(made, **changes)


def store(settings, *events):
    sink = events_sink(settings).build_part("step", "0", None)
    sink.write_batch(list(events))
    sink.close()


def active(event, *, ends=False):
    return Correction(event, "active", None, ends)


def superseded(event):
    return Correction(event, "superseded", None, ends=False)


def stored(database):
    rows = database._connection.execute(
        "SELECT e.event_key, e.status, e.resolved_at, e.title, e.payload, n.title, n.is_read,"
        " n.event_type, n.triggered_value"
        " FROM ml_events e LEFT JOIN alert_notifications n ON n.event_key = e.event_key"
        " ORDER BY e.event_key"
    ).fetchall()
    return {
        row[0]: (row[1], row[2] and str(row[2])[:23], row[3], json.loads(row[4]), row[5],
                 int(row[6]), row[7], float(row[8]))
        for row in rows
    }  # fmt: skip


def execute(database, statement):
    database._connection.execute(statement)


def test_a_missing_event_is_added_with_its_end_and_a_notification(settings, database):
    resolved = Correction(event(1), "resolved", AT + 5000, ends=True)
    silent = active(event(2, silent=True))
    write_corrections(settings, [silent, resolved])
    write_corrections(settings, [silent, resolved])
    assert stored(database) == {
        event(1).event_key: ("resolved", "2024-11-24 10:00:05.123", "título",
                             {"rules_version": "a"}, "título", 0, "warning", 90.12346),
        event(2).event_key: ("active", None, "título",
                             {"rules_version": "a"}, "título", 1, "warning", 90.12346),
    }  # fmt: skip


def test_a_stored_event_gets_new_texts_and_keeps_its_end_unless_ends_is_set(settings, database):
    store(settings, event(1), event(2, status="resolved", resolves=event(1).event_key))
    changed = event(
        1, title="otro", event_type="critical", value=1.5, payload='{"rules_version":"b"}',
        silent=True,
    )  # fmt: skip
    write_corrections(settings, [active(changed)])
    (first, second) = (stored(database)[event(n).event_key] for n in (1, 2))
    assert first == ("resolved", "2024-11-24 10:00:00.125", "otro", {"rules_version": "b"},
                   "otro", 0, "critical", 1.5)  # fmt: skip
    assert second[2] == "título"
    write_corrections(settings, [active(changed, ends=True)])
    assert stored(database)[event(1).event_key][:2] == ("active", None)
    assert len(stored(database)) == 2


def test_a_superseded_event_is_kept_and_its_notification_is_marked_read(settings, database):
    store(settings, event(1), event(2))
    write_corrections(settings, [superseded(event(1, title="not written"))])
    rows = stored(database)
    assert rows[event(1).event_key][:3] == ("superseded", None, "título")
    assert [rows[event(n).event_key][5] for n in (1, 2)] == [1, 0]
    assert rows[event(2).event_key][0] == "active"


def test_a_superseded_event_stays_superseded_when_the_flow_writes_it_again(settings, database):
    store(settings, event(1))
    write_corrections(settings, [superseded(event(1))])
    store(settings, event(1), event(2, status="resolved", resolves=event(1).event_key))
    assert stored(database)[event(1).event_key][:2] == ("superseded", None)


def test_a_superseded_event_that_is_valid_again_is_like_a_new_one(settings, database):
    store(settings, event(1), event(2))
    write_corrections(settings, [superseded(event(1)), superseded(event(2))])
    write_corrections(settings, [active(event(1)), active(event(2, silent=True))])
    rows = stored(database)
    assert [rows[event(n).event_key][0] for n in (1, 2)] == ["active", "active"]
    assert [rows[event(n).event_key][5] for n in (1, 2)] == [0, 1]


def test_changes_to_an_event_by_a_user_are_kept(settings, database):
    store(settings, event(1), event(2))
    execute(
        database,
        "UPDATE ml_events SET status = 'resolved', resolved_by = 7,"
        " resolved_at = '2024-11-24 11:00:00' WHERE id = 1",
    )
    execute(
        database,
        "UPDATE ml_events SET status = 'acknowledged', acknowledged_by = 7,"
        " acknowledged_at = '2024-11-24 11:00:00' WHERE id = 2",
    )
    for changed in (event(1), event(2)):
        write_corrections(settings, [active(changed, ends=True)])
        write_corrections(settings, [superseded(changed)])
        write_corrections(settings, [active(changed)])
    rows = stored(database)
    assert rows[event(1).event_key][:2] == ("resolved", "2024-11-24 11:00:00")
    assert rows[event(2).event_key][:2] == ("acknowledged", None)


def test_a_superseded_event_is_in_no_view_of_active_or_past_events(settings, database):
    store(settings, event(1), event(2))
    write_corrections(settings, [superseded(event(1))])
    for view in ("v_ml_events_active", "v_device_timeline"):
        dbo = "dbo." if settings.engine == "mssql" else ""
        rows = database._connection.execute(f"SELECT count(*) FROM {dbo}{view}").fetchall()
        assert [tuple(row) for row in rows] == [(1,)], view


def test_only_the_event_that_the_database_refuses_becomes_a_dead_letter(settings, database):
    write_corrections(settings, [active(event(1)), active(event(2, sensor_id=999))])
    assert list(stored(database)) == [event(1).event_key]
    (count,) = database._connection.execute("SELECT count(*) FROM sink_dead_letters").fetchall()
    assert tuple(count) == (1,)
