"""Which events are new, gone or changed, and how the live database is corrected."""

from collections import Counter
from dataclasses import fields, replace

import msgspec
import pytest

from contract.event import Event
from contract.settings import Settings
from ops.devices import SensorSpec, register
from ops.replay.difference import as_corrections, difference
from ops.stored_events import stored_events
from sinks.corrections import write_corrections
from sinks.events import events_sink
from sinks.times import text_of
from sql import statements
from sql.schema import apply_schema, open_database

AT = 1732442400000
"""2024-11-24 10:00 UTC."""
NEWEST, UNTIL = 100, AT + 1_000_000


def event(key, at=AT, version="a", **changes):
    payload = {"mean": 21.5, "rules_version": version}
    made = Event(
        event_key=key, device_id=1, sensor_id=1, at=at, event_type="warning",
        event_code="ML_BEHAVIOR_STATE", title="t", message="m", value=21.5,
        payload=msgspec.json.encode(payload).decode(), resolves=None, status="active",
        incident_key=key,
    )  # fmt: skip
    return replace(made, **changes)


def plain(event, **changes):
    """The event as the flow wrote it."""
    columns = {field.name: getattr(event, field.name) for field in fields(Event)}
    return Event(**columns | changes)


def end_of(key, at):
    return event(f"end of {key}", at, resolves=key, status="resolved")


def stored(database):
    between = text_of(AT - 1000), text_of(AT + 100_000_000)
    return stored_events(database.query(statements.EVENTS_BETWEEN, *between))


@pytest.fixture
def holding(settings, database):
    """Stores events as the flow does, and returns what the database then holds."""
    register(database, "rig", [SensorSpec("boiler", "temperature", "°C")])

    def store(*events):
        sink = events_sink(settings).build_part("step", "0", None)
        sink.write_batch(list(events))
        sink.close()
        return stored(database)

    return store


def compared(replayed, live, *, concerns=lambda _: True, newest=NEWEST, until=UNTIL):
    told = difference(replayed, live, concerns, newest, until)
    return [(change.kind, change.event.event_key, change.fields) for change in told.changes]


@pytest.fixture
def replayed(tmp_path):
    """The same for the events of a replay, in a separate database."""
    own = Settings(iot_sqlite_path=tmp_path / "replayed.db")
    apply_schema(own)
    database = open_database(own)
    register(database, "rig", [SensorSpec("boiler", "temperature", "°C")])

    def store(*events):
        sink = events_sink(own).build_part("step", "0", None)
        sink.write_batch(list(events))
        sink.close()
        return stored(database)

    yield store
    database.close()


def test_stored_events_are_read_unchanged(holding, database):
    assert [tuple(row) for row in database.query(statements.NEWEST_EVENT)] == [(0,)]
    (first, second) = holding(event("a"), replace(end_of("a", AT + 5_250), silent=True))
    assert (first.at, first.resolved_at, first.ended_by, first.status) == (
        AT,
        AT + 5_250,
        second.id,
        "resolved",
    )
    assert first.details == {"mean": 21.5}
    assert first.by_flow
    assert not first.by_person
    assert plain(first, status="active", payload="") == event("a", payload="")
    assert msgspec.json.decode(first.payload) == msgspec.json.decode(event("a").payload)
    assert [tuple(row) for row in database.query(statements.NEWEST_EVENT)] == [(second.id,)]
    assert (second.at, second.resolved_at, second.ended_by) == (AT + 5_250, AT + 5_250, second.id)
    assert second.silent
    assert not first.silent


def test_the_same_events_under_other_versions_of_the_rules_do_not_differ(holding, replayed):
    log = [event("a"), end_of("a", AT + 5_000), event("device", sensor_id=None)]
    live = holding(*log)
    other = replayed(
        *(replace(entry, payload=entry.payload.replace('"a"', '"b"')) for entry in log)
    )
    told = difference(other, live, lambda _: True, NEWEST, UNTIL)
    assert told.changes == ()
    assert told.unchanged == Counter({1: 2, None: 1})


def test_events_are_new_or_gone_or_changed(holding, replayed):
    live = holding(
        event("gone", AT + 1), event("same", AT + 2), event("type", AT + 3),
        event("title", AT + 4), event("message", AT + 5), event("payload", AT + 6),
        event("longer", AT + 7), end_of("longer", AT + 20_000),
        event("shorter", AT + 8), end_of("shorter", AT + 20_001),
    )  # fmt: skip
    now = replayed(
        event("new", AT), event("same", AT + 2), event("type", AT + 3, event_type="critical"),
        event("title", AT + 4, title="other"), event("message", AT + 5, message="other"),
        event("payload", AT + 6, payload='{"mean":22,"rules_version":"a"}'),
        event("longer", AT + 7), event("shorter", AT + 8), end_of("shorter", AT + 10_000),
    )  # fmt: skip
    assert compared(now, live) == [
        ("new", "new", ()),
        ("gone", "gone", ()),
        ("changed", "type", ("event_type",)),
        ("changed", "title", ("title",)),
        ("changed", "message", ("message",)),
        ("changed", "payload", ("payload",)),
        ("changed", "longer", ("end",)),
        ("changed", "shorter", ("end",)),
        ("changed", "end of shorter", ("end",)),
        ("gone", "end of longer", ()),
    ]


def test_an_event_that_the_replay_would_not_produce_is_not_gone(holding, replayed):
    live = holding(event("a"), event("batch", AT + 1, payload='{"mean":1}'))
    assert compared(replayed(), live) == [("gone", "a", ())]
    assert compared(replayed(), live, concerns=lambda live_event: live_event.event_key != "a") == []
    assert compared(replayed(), live, newest=0) == []


def test_an_end_that_the_replay_could_not_know_of_does_not_differ(holding, replayed, database):
    holding(event("a"), end_of("a", AT + 5_000), event("person", AT + 1), event("upkeep", AT + 2))
    for key, who, at in (("person", 7, "10:00:05.000"), ("upkeep", "NULL", "11:00:00.000")):
        database._connection.execute(
            f"UPDATE ml_events SET status = 'resolved', resolved_at = '2024-11-24 {at}',"
            f" resolved_by = {who} WHERE event_key = '{key}'"
        )
    live = holding()
    now = replayed(event("a"), event("person", AT + 1), event("upkeep", AT + 2))
    known = ("changed", "a", ("end",))
    assert compared(now, live) == [known, ("gone", "end of a", ())]
    ends = [event for event in live if event.event_key == "end of a"]
    assert compared(now, live, newest=ends[0].id - 1) == []
    assert compared(now, live, until=AT + 4_999) == [("gone", "end of a", ())]


def test_an_end_that_the_live_flow_has_yet_to_write_comes_with_its_event_and_is_no_change(
    holding, replayed, settings
):
    """A flow that is behind the end of the log has only the first events of the replay."""
    log = [event("a"), end_of("a", AT + 5_000)]
    live, now = holding(log[0]), replayed(*log)
    told = difference(now, live, lambda _: True, NEWEST, UNTIL, same_rules=True)
    assert [(change.kind, change.event.event_key) for change in told.changes] == [
        ("new", "end of a")
    ]
    assert told.unchanged == Counter({1: 1})
    assert compared(now, live) == [("changed", "a", ("end",)), ("new", "end of a", ())]
    write_corrections(settings, told.corrections(notify=False))
    same = {event.event_key: (event.status, event.resolved_at) for event in holding()}
    assert same == {event.event_key: (event.status, event.resolved_at) for event in now}
    assert [event.event_key for event in holding(*log)] == ["a", "end of a"]
    assert difference(now, holding(), lambda _: True, NEWEST, UNTIL).changes == ()


def test_an_end_whose_event_is_there_is_a_change_under_the_same_rules_too(
    holding, replayed, database
):
    log = [event("a"), end_of("a", AT + 5_000)]
    holding(*log)
    database._connection.execute(
        "UPDATE ml_events SET status = 'active', resolved_at = NULL WHERE event_key = 'a'"
    )
    told = difference(replayed(*log), holding(), lambda _: True, NEWEST, UNTIL, same_rules=True)
    assert [(change.kind, change.event.event_key, change.fields) for change in told.changes] == [
        ("changed", "a", ("end",))
    ]


def test_an_event_that_the_live_flow_writes_during_the_comparison_keeps_its_end(
    holding, replayed, settings
):
    told = difference(replayed(event("a")), holding(), lambda _: True, NEWEST, UNTIL)
    holding(event("a"), end_of("a", AT + 5_000))
    write_corrections(settings, told.corrections(notify=False))
    ends = {event.event_key: event.resolved_at for event in holding()}
    assert ends["a"] == AT + 5_000


def test_a_superseded_event_that_holds_again_is_new(holding, replayed, database, settings):
    live = holding(event("a"))
    gone = difference(replayed(), live, lambda _: True, NEWEST, UNTIL)
    write_corrections(settings, gone.corrections(notify=False))
    assert compared(replayed(), holding()) == []
    assert compared(replayed(event("a")), holding()) == [("new", "a", ())]


def test_the_corrections_make_the_database_match_the_replay(holding, replayed, settings):
    live = holding(
        event("gone", AT + 1), event("open", AT + 2), end_of("open", AT + 9_000),
        event("text", AT + 3), end_of("text", AT + 9_001),
    )  # fmt: skip
    now = replayed(
        event("new", AT), end_of("new", AT + 4_000), event("open", AT + 2),
        event("text", AT + 3, message="other"), end_of("text", AT + 9_001),
    )  # fmt: skip
    told = difference(now, live, lambda _: True, NEWEST, UNTIL)
    write_corrections(settings, told.corrections(notify=False))
    rows = {event.event_key: event for event in holding()}
    now_is = {
        key: (row.status, row.resolved_at and row.resolved_at - AT, row.message)
        for key, row in rows.items()
    }
    assert now_is == {
        "new": ("resolved", 4_000, "m"),
        "end of new": ("resolved", 4_000, "m"),
        "gone": ("superseded", None, "m"),
        "open": ("active", None, "m"),
        "end of open": ("superseded", 9_000, "m"),
        "text": ("resolved", 9_001, "other"),
        "end of text": ("resolved", 9_001, "m"),
    }  # fmt: skip
    assert {key for key, row in rows.items() if row.silent} == {
        "new", "end of new", "gone", "end of open"
    }  # fmt: skip
    assert compared(now, holding()) == []


def test_new_events_are_unread_with_notify(holding, replayed, settings):
    now = replayed(event("a"), event("flapping", AT + 1, silent=True))
    told = difference(now, holding(), lambda _: True, NEWEST, UNTIL)
    write_corrections(settings, told.corrections(notify=True))
    assert {event.event_key: event.silent for event in holding()} == {"a": False, "flapping": True}


def test_a_kept_run_has_the_events_as_the_flow_would_have_stored_them(holding, replayed, settings):
    now = replayed(event("a"), end_of("a", AT + 5_000), event("quiet", AT + 1, silent=True))
    write_corrections(settings, as_corrections(now))
    same = {"id": 0, "ended_by": None, "payload": ""}  # a server may space JSON as it likes
    assert [replace(event, **same) for event in holding()] == [
        replace(event, **same) for event in now
    ]
