"""The alerts that events raise and end, and the states of sensors."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random

import pytest

from contract.event import Alert, Event, event_key
from contract.level import Level
from ops.devices import SensorSpec, register
from sinks.corrections import Correction, write_corrections
from sinks.events import events_sink
from tests.sinks.batches import readings

START = 1732442400000
"""2024-11-24 10:00 UTC."""
NAMES = {Level.WARN: "warning", Level.CRITICAL: "critical"}
NORMAL, WARN, CRITICAL = Level
NONE = "NORMAL"
"""The state of a sensor without an alert."""


def select(database, statement):
    return [tuple(row) for row in database._connection.execute(statement).fetchall()]


def execute(database, statement):
    database._connection.execute(statement)


def seconds(text):
    """Seconds from START to a time, as returned by either engine; None for None."""
    if text is None:
        return None
    at = text if isinstance(text, datetime) else datetime.fromisoformat(text)
    return (at.replace(tzinfo=UTC).timestamp() * 1000 - START) / 1000


def key(at, sensor=1, late=False):
    return event_key(sensor, START + round(1000 * at), f"X{late}")


def event(at, level, *, sensor=1, late=False, resolves=None, alert=True, **changes):
    """A change of level `at` seconds after START that a threshold has caused."""
    title = None if level is NORMAL else f"{NAMES[level]} alert"
    rule = 1 if sensor == 1 and level is not NORMAL else None
    made = Event(
        event_key=key(at, sensor, late), device_id=1, sensor_id=sensor,
        at=START + round(1000 * at), event_type="notice", event_code="X", title="title",
        message=f"at {at}", value=50.0 + at, payload="{}", resolves=resolves, status="active",
        incident_key=f"incident of {sensor}",
        alert=Alert(level, rule, title, late) if alert else None,
    )  # fmt: skip
    return replace(made, **changes)


def store(settings, *events):
    """Store the events as one batch."""
    sink = events_sink(settings).build_part("step", "0", None)
    sink.write_batch(list(events))
    sink.close()


def alerts(database, sensor=1):
    """[(severity, status, triggered_at, resolved_at)] in order of time."""
    rows = select(
        database,
        "SELECT severity, status, triggered_at, resolved_at FROM alerts"
        f" WHERE sensor_id = {sensor} ORDER BY triggered_at, id",
    )
    return [(*row[:2], *map(seconds, row[2:])) for row in rows]


def states(database):
    rows = select(database, "SELECT operational_state FROM sensors ORDER BY id")
    return [state for (state,) in rows]


@pytest.fixture(autouse=True)
def rig(database):
    """Three sensors past their warm-up: with a threshold, with a profile, with neither."""
    register(database, "rig", [SensorSpec(name, "other", "W") for name in "abc"])
    execute(
        database,
        "INSERT INTO alert_thresholds (sensor_id, name, condition_type, threshold_value_min,"
        " severity) VALUES (1, 'hot', 'greater_than', 80, 'warning')",
    )
    execute(
        database,
        "INSERT INTO sensor_threshold_profiles (sensor_id, warning_max, cooldown_seconds)"
        " VALUES (2, 80, 60)",
    )
    execute(database, "UPDATE sensors SET operational_state = 'NORMAL', valid_readings_count = 10")


def test_an_alert_is_raised_escalated_and_resolved(settings, database):
    store(settings, event(0, WARN))
    assert alerts(database) == [("warning", "active", 0, None)]
    assert states(database) == ["WARNING", "NORMAL", "NORMAL"]
    store(settings, event(5, CRITICAL))
    assert alerts(database) == [("warning", "resolved", 0, 5), ("critical", "active", 5, None)]
    assert states(database)[0] == "ALERT"
    store(settings, event(9, NORMAL))
    assert alerts(database) == [("warning", "resolved", 0, 5), ("critical", "resolved", 5, 9)]
    assert states(database)[0] == "NORMAL"
    rows = select(
        database,
        "SELECT threshold_id, device_id, triggered_value, event_key, incident_key, is_late"
        " FROM alerts ORDER BY id",
    )
    assert [(*row[:2], float(row[2]), *row[3:]) for row in rows] == [
        (1, 1, 50.0, key(0), "incident of 1", 0), (1, 1, 55.0, key(5), "incident of 1", 0)
    ]  # fmt: skip
    ((changed,),) = select(database, "SELECT state_changed_at FROM sensors WHERE id = 1")
    assert seconds(changed) == 9


def test_an_alert_has_a_notification_that_is_read(settings, database):
    store(settings, event(0, WARN))
    store(settings, event(0, WARN), event(3, CRITICAL))
    rows = select(
        database,
        "SELECT a.severity, n.severity, n.title, n.message, n.is_read, n.created_at, n.read_at,"
        " n.sensor_id, n.device_id, n.triggered_value, n.event_type, n.incident_key, n.event_key"
        " FROM alert_notifications n LEFT JOIN alerts a ON a.id = n.source_event_id"
        " WHERE n.source = 'alert' ORDER BY n.id",
    )
    assert [
        (*row[:5], *map(seconds, row[5:7]), *row[7:9], float(row[9]), *row[10:]) for row in rows
    ] == [
        ("warning", "warning", "warning alert", "at 0", 1, 0, 0, 1, 1, 50.0, "warning",
         "incident of 1", None),
        ("critical", "critical", "critical alert", "at 3", 1, 3, 3, 1, 1, 53.0, "critical",
         "incident of 1", None),
    ]  # fmt: skip
    assert select(
        database, "SELECT count(*) FROM alert_notifications WHERE source = 'ml_event'"
    ) == [(2,)]


def test_a_fall_to_warning_resolves_the_critical_alert_and_raises_a_warning(settings, database):
    store(settings, event(0, CRITICAL), event(7, WARN))
    assert alerts(database) == [("critical", "resolved", 0, 7), ("warning", "active", 7, None)]
    assert states(database)[0] == "WARNING"


def test_a_profile_raises_alerts_without_a_threshold_and_has_a_cooldown_of_its_own(
    settings, database
):
    store(settings, event(0, WARN, sensor=2), event(10, NORMAL, sensor=2))
    store(settings, event(60, WARN, sensor=2))
    assert alerts(database, 2) == [("warning", "resolved", 0, 10), ("warning", "active", 60, None)]
    assert select(database, "SELECT threshold_id FROM alerts") == [(None,), (None,)]


def test_within_its_cooldown_an_alert_stands_again_instead_of_a_new_one(settings, database):
    store(settings, event(0, WARN), event(10, NORMAL))
    store(settings, event(299.999, WARN))
    assert alerts(database) == [("warning", "active", 0, None)]
    assert states(database)[0] == "WARNING"
    store(settings, event(310, NORMAL), event(320, WARN))
    assert alerts(database) == [("warning", "resolved", 0, 310), ("warning", "active", 320, None)]
    assert select(database, "SELECT count(*) FROM alert_notifications WHERE source = 'alert'") == [
        (2,)
    ]


def test_a_person_who_resolves_an_alert_has_peace_until_its_cooldown_is_over(settings, database):
    store(settings, event(0, CRITICAL))
    execute(
        database,
        "UPDATE alerts SET status = 'resolved', resolved_by = NULL,"
        " resolved_at = '2024-11-24 10:00:05'",
    )
    execute(database, "INSERT INTO users (username, email, password_hash) VALUES ('u', 'u', 'x')")
    execute(database, "UPDATE alerts SET resolved_by = 1")
    store(settings, event(20, NORMAL), event(30, WARN), event(40, CRITICAL))
    assert alerts(database) == [("critical", "resolved", 0, 5), ("warning", "active", 30, None)]
    assert states(database)[0] == "WARNING"
    store(settings, event(300, NORMAL), event(301, CRITICAL))
    assert alerts(database)[1:] == [
        ("warning", "resolved", 30, 300), ("critical", "active", 301, None)
    ]  # fmt: skip


def test_an_acknowledged_alert_stays_and_keeps_who_acknowledged_it(settings, database):
    execute(database, "INSERT INTO users (username, email, password_hash) VALUES ('u', 'u', 'x')")
    store(settings, event(0, WARN))
    execute(
        database,
        "UPDATE alerts SET status = 'acknowledged', acknowledged_by = 1,"
        " acknowledged_at = '2024-11-24 10:00:01'",
    )
    store(settings, event(2, NORMAL, alert=False), event(1000, WARN))
    assert alerts(database) == [("warning", "acknowledged", 0, None)]
    store(settings, event(1001, NORMAL))
    assert alerts(database) == [("warning", "resolved", 0, 1001)]
    ((at, by),) = select(database, "SELECT acknowledged_at, acknowledged_by FROM alerts")
    assert (seconds(at), by) == (1, 1)
    store(settings, event(1002, WARN))
    assert alerts(database)[1:] == [("warning", "active", 1002, None)]


def test_an_acknowledged_alert_that_stands_again_is_still_acknowledged(settings, database):
    store(settings, event(0, WARN))
    execute(
        database,
        "UPDATE alerts SET status = 'acknowledged', acknowledged_at = '2024-11-24 10:00:01'",
    )
    store(settings, event(2, NORMAL), event(3, WARN))
    assert alerts(database) == [("warning", "acknowledged", 0, None)]


def test_an_event_without_an_alert_leaves_alerts_alone(settings, database):
    store(settings, event(0, WARN))
    store(settings, event(5, CRITICAL, alert=False))
    assert alerts(database) == [("warning", "active", 0, None)]
    store(settings, event(6, WARN))
    assert alerts(database) == [("warning", "active", 0, None)]


def test_a_late_alert_is_over_and_disturbs_no_other(settings, database):
    store(settings, event(100, WARN))
    began, ended = event(-60, WARN, late=True), event(-50, NORMAL, late=True, alert=False)
    whole = event(-20, CRITICAL, late=True, status="resolved")
    store(settings, began)
    store(settings, whole, began, replace(ended, resolves=began.event_key))
    assert alerts(database) == [
        ("warning", "resolved", -60, -50), ("critical", "resolved", -20, -20),
        ("warning", "active", 100, None),
    ]  # fmt: skip
    assert states(database)[0] == "WARNING"
    store(settings, event(110, CRITICAL), event(120, NORMAL))
    assert alerts(database)[3] == ("critical", "resolved", 110, 120)
    assert alerts(database)[:2] == [
        ("warning", "resolved", -60, -50), ("critical", "resolved", -20, -20)
    ]  # fmt: skip
    notified = select(database, "SELECT is_read FROM alert_notifications WHERE source = 'alert'")
    assert notified == [(1,)] * 4


def test_an_alert_of_a_threshold_that_is_gone_has_none(settings, database):
    execute(database, "DELETE FROM alert_thresholds")
    store(settings, event(0, WARN))
    assert alerts(database) == [("warning", "active", 0, None)]
    assert select(database, "SELECT threshold_id FROM alerts") == [(None,)]
    assert select(database, "SELECT count(*) FROM sink_dead_letters") == [(0,)]


def test_a_sensor_in_its_warm_up_stays_there(settings, database):
    execute(database, "UPDATE sensors SET operational_state = 'INITIALIZING'")
    store(settings, event(0, WARN))
    assert states(database)[0] == "INITIALIZING"
    database.execute("write_readings", readings((1, 1.0, START, START, START, 0)))
    assert states(database)[0] == "WARNING"


def test_the_next_reading_updates_the_state_of_an_alert_that_another_program_resolves(
    settings, database
):
    store(settings, event(0, CRITICAL))
    execute(database, "UPDATE alerts SET status = 'resolved'")
    assert states(database)[0] == "ALERT"
    database.execute("write_readings", readings((1, 99.0, START, START, START, 0)))
    assert states(database)[0] == "NORMAL"


@dataclass
class Model:
    """The expected alerts of one sensor."""

    cooldown: int = 300
    alerts: list = field(default_factory=list)
    """[severity, at, resolved_at]."""

    def take(self, at, level):
        severity = NAMES.get(level)
        mine = [alert for alert in self.alerts if alert[0] == severity]
        if severity and not any(alert[2] is None for alert in mine):
            if mine and at < mine[-1][1] + self.cooldown:
                mine[-1][2] = None
            else:
                self.alerts.append([severity, at, None])
        for alert in self.alerts:
            if alert[2] is None and alert[0] != severity:
                alert[2] = at


def changes(random):
    """Events of two sensors in order of time, and the alerts that they should make."""
    at, events, level = 0, [], {1: NORMAL, 2: NORMAL}
    models = {1: Model(), 2: Model(60)}
    for _ in range(60):
        at += random.choice((1, 7, 50, 150))
        sensor = random.choice((1, 2))
        level[sensor] = random.choice([other for other in Level if other != level[sensor]])
        events.append(event(at, level[sensor], sensor=sensor))
        models[sensor].take(at, level[sensor])
        if random.random() < 0.2:
            events.append(event(at - 30, WARN, sensor=sensor, late=True))
    return events, models


def test_alerts_do_not_depend_on_how_events_are_split_into_batches(settings, database):
    for seed in range(20 if settings.engine == "sqlite" else 4):
        for table in ("alert_notifications", "alerts", "ml_events"):
            execute(database, f"DELETE FROM {table}")
        execute(database, "UPDATE sensors SET operational_state = 'NORMAL'")
        random = Random(seed)
        events, models = changes(random)
        place = 0
        sink = events_sink(settings).build_part("step", "0", None)
        while place < len(events):
            size = random.choice((1, 5, 50))
            again = random.choice((0, 0, 20))  # after a crash
            sink.write_batch(events[max(0, place - again) : place + size])
            sink.snapshot()
            place += size
        sink.close()
        for sensor, model in models.items():
            stored = select(
                database,
                "SELECT severity, triggered_at, resolved_at, status FROM alerts"
                f" WHERE sensor_id = {sensor} AND is_late = 0 ORDER BY id",
            )
            assert [(row[0], *map(seconds, row[1:3]), row[3]) for row in stored] == [
                (severity, begin, end, "active" if end is None else "resolved")
                for severity, begin, end in model.alerts
            ], seed
            standing = [severity for severity, _, end in model.alerts if end is None]
            state = {"warning": "WARNING", "critical": "ALERT"}[standing[0]] if standing else NONE
            assert states(database)[sensor - 1] == state
        raised = sum(event.alert.level > 0 for event in events)
        assert raised > len(select(database, "SELECT id FROM alerts")) > 10


def superseded(event):
    return Correction(event, "superseded", None, ends=False)


def test_the_alert_of_a_superseded_event_is_resolved(settings, database):
    store(settings, event(0, CRITICAL), event(1, WARN, sensor=2))
    write_corrections(settings, [superseded(event(0, CRITICAL))])
    resolved = [("critical", "resolved", 0, 0)]  # at the time of its event
    assert alerts(database) == resolved
    assert alerts(database, 2) == [("warning", "active", 1, None)]
    assert states(database) == ["NORMAL", "WARNING", "NORMAL"]
    write_corrections(settings, [superseded(event(0, CRITICAL))])
    assert alerts(database) == resolved


@dataclass
class Warmup:
    """The expected latest value and state of one sensor that sends readings."""

    judged: int = 0
    """Number of readings that arrived in order."""
    latest: tuple | None = None

    def take(self, received, at, value):
        if at > received + 300_000 or (self.latest and at < self.latest[0]):
            return
        self.latest = (at, value)
        self.judged += 1


def stream(random, sensors):
    """Rows for `write_readings` in order of arrival. Values stay the same for a while."""
    rows, arrival, seqs = [], START, {}
    value = dict.fromkeys(sensors, 50.0)
    for _ in range(random.randrange(5, 60)):
        arrival += random.choice((1, 10, 1000, 20_000, 200_000))
        sensor = random.choice(sensors)
        if random.random() < 0.3:
            value[sensor] = random.choice((50.0, 5.0, 81.0, 96.0, -3.5, 42.0))
        at = arrival - random.choice((0, 0, 0, 0, 500, 60_000, -400_000))
        seq = seqs[sensor, at] = seqs.get((sensor, at), -1) + 1
        rows.append((sensor, value[sensor], arrival, at, at, seq))
    return rows


def test_latest_values_and_warm_ups_do_not_depend_on_how_readings_are_split(settings, database):
    execute(database, "INSERT INTO alerts (sensor_id, device_id, severity, triggered_value,"
            " triggered_at) VALUES (3, 1, 'critical', 1, '2024-11-24 10:00:00')")  # fmt: skip
    seen = set()
    for seed in range(60 if settings.engine == "sqlite" else 8):
        random = Random(seed)
        rows = stream(random, [1, 2, 3])
        execute(database, "DELETE FROM sensor_readings_latest")
        execute(database, "DELETE FROM sensor_readings")
        execute(
            database,
            "UPDATE sensors SET operational_state = 'INITIALIZING', valid_readings_count = 0",
        )
        place = 0
        while place < len(rows):
            size = random.choice((1, 5, 50, 500))
            database.execute("write_readings", readings(*rows[place : place + size]))
            if random.random() < 0.2:  # a replay changes nothing
                again = rows[max(0, place - 20) : place + size]
                database.execute("write_readings", readings(*again))
            place += size
        models = {sensor: Warmup() for sensor in (1, 2, 3)}
        for sensor, value, received, _, at, _ in sorted(rows, key=lambda row: (row[2], *row[4:])):
            models[sensor].take(received - START, at - START, value)
        latest = select(database, "SELECT * FROM sensor_readings_latest")
        assert {
            sensor: (round(1000 * seconds(at)), float(value)) for sensor, value, at in latest
        } == {sensor: model.latest for sensor, model in models.items() if model.latest}
        wanted = [
            "INITIALIZING" if model.judged < 10 else "ALERT" if sensor == 3 else "NORMAL"
            for sensor, model in models.items()
        ]
        assert states(database) == wanted, seed
        seen |= set(wanted)
    assert len(alerts(database)) == 0, "readings alone raise no alert"
    assert seen == {"INITIALIZING", "NORMAL", "ALERT"}
