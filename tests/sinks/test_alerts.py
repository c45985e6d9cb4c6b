"""Alerts, latest values and states after writing readings, compared with a model that processes one
reading at a time.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

import pytest

from ops.devices import SensorSpec, register
from tests.sinks.batches import readings

START = 1732442400000
"""2024-11-24 10:00 UTC."""
NAMES = {1: "warning", 2: "critical"}


def select(database, statement):
    return [tuple(row) for row in database._connection.execute(statement).fetchall()]


def ms(text):
    """Milliseconds from START to a time, as returned by either engine."""
    at = text if isinstance(text, datetime) else datetime.fromisoformat(text)
    return None if text is None else round(at.replace(tzinfo=UTC).timestamp() * 1000) - START


@dataclass
class Model:
    """The expected alerts and state of one sensor."""

    bounds: list
    """(level, low, high, equal_to, name)."""
    cooldown: int = 300
    judged: int = 0
    """Number of readings that arrived in order."""
    latest: tuple | None = None
    standing: int = 0
    last: dict = field(default_factory=dict)
    """level -> time of its last alert."""
    alerts: list = field(default_factory=list)
    """[level, at, value, resolved_at]."""
    state: str = "INITIALIZING"

    def take(self, received, at, value):
        if at > received + 300_000 or (self.latest and at < self.latest[0]):
            return
        self.latest = (at, value)
        self.judged += 1
        level = max(
            (
                level
                for level, low, high, equal, _ in self.bounds
                if (low is not None and value < low)
                or (high is not None and value > high)
                or (equal is not None and value == equal)
            ),
            default=0,
        )
        if self.judged <= 10:
            self.state = "INITIALIZING" if self.judged < 10 else "NORMAL"
            return
        self.state = ("NORMAL", "WARNING", "ALERT")[level]
        free = level and at >= self.last.get(level, -(10**15)) + self.cooldown * 1000
        if level < self.standing or (level > self.standing and free):
            for alert in self.alerts:
                if alert[3] is None:
                    alert[3] = at
            self.standing = 0
        if level > self.standing and free:
            self.standing = level
            self.last[level] = at
            self.alerts.append([level, at, value, None])


def stream(random, sensors):
    """Rows for `write_readings` in order of arrival. Values stay the same for a while."""
    rows, arrival, seqs = [], START, {}
    value = dict.fromkeys(sensors, 50.0)
    for _ in range(random.randrange(40, 400)):
        arrival += random.choice((1, 10, 1000, 20_000, 200_000))
        sensor = random.choice(sensors)
        if random.random() < 0.3:
            value[sensor] = random.choice((50.0, 5.0, 81.0, 96.0, -3.5, 42.0))
        at = arrival - random.choice((0, 0, 0, 0, 500, 60_000, -400_000))
        seq = seqs[sensor, at] = seqs.get((sensor, at), -1) + 1
        rows.append((sensor, value[sensor], arrival, at, at, seq))
    return rows


def write(database, rows):
    database.execute("write_readings", readings(*rows))


@pytest.fixture
def bounds(database):
    """The bounds of three sensors: with thresholds, with a profile, with neither."""
    register(database, "rig", [SensorSpec(name, "other", "W") for name in "abc"])
    add = (
        "INSERT INTO alert_thresholds (sensor_id, name, condition_type, threshold_value_min,"
        " threshold_value_max, severity, is_active) VALUES "
    )
    for values in (
        "(1, 'wide', 'out_of_range', 0, 90, 'critical', 1)",
        "(1, 'hot', 'greater_than', 80, NULL, 'warning', 1)",
        "(1, 'cold', 'less_than', 10, NULL, 'warning', 1)",
        "(1, 'odd', 'equal_to', 42, NULL, 'critical', 1)",
        "(1, 'off', 'greater_than', 1, NULL, 'critical', 0)",
        "(1, 'fyi', 'greater_than', 1, NULL, 'info', 1)",
        "(1, 'upside down', 'out_of_range', 90, 10, 'critical', 1)",
    ):
        database._connection.execute(add + values)
    database._connection.execute(
        "INSERT INTO sensor_threshold_profiles (sensor_id, warning_min, warning_max, alert_min,"
        " alert_max, cooldown_seconds) VALUES (2, 10, 80, NULL, 90, 60)"
    )
    return {
        1: [
            (2, 0, 90, None, "wide"),
            (1, None, 80, None, "hot"),
            (1, 10, None, None, "cold"),
            (2, None, None, 42, "odd"),
        ],
        2: [(1, 10, 80, None, "profile 1"), (2, None, 90, None, "profile 1")],
        3: [],
    }


def reset(database):
    for table in ("alert_notifications", "alerts", "sensor_readings_latest", "sensor_readings"):
        database._connection.execute(f"DELETE FROM {table}")
    database._connection.execute(
        "UPDATE sensors SET operational_state = 'INITIALIZING', valid_readings_count = 0,"
        " state_changed_at = NULL"
    )


def stored(database):
    alerts = select(
        database,
        "SELECT sensor_id, severity, triggered_at, triggered_value, resolved_at, status"
        " FROM alerts ORDER BY sensor_id, id",
    )
    latest = select(database, "SELECT * FROM sensor_readings_latest")
    states = select(database, "SELECT id, operational_state FROM sensors")
    return (
        [
            (sensor, severity, ms(at), float(value), end and ms(end), status)
            for sensor, severity, at, value, end, status in alerts
        ],
        {sensor: (ms(at), float(value)) for sensor, value, at in latest},
        dict(states),
    )


def expected(bounds, rows):
    models = {sensor: Model(of) for sensor, of in bounds.items()}
    models[2].cooldown = 60
    for sensor, value, received, _, at, _ in rows:
        models[sensor].take(received - START, at - START, value)
    alerts = [
        (sensor, NAMES[level], at, value, end, "active" if end is None else "resolved")
        for sensor, model in models.items()
        for level, at, value, end in model.alerts
    ]
    return (
        alerts,
        {sensor: model.latest for sensor, model in models.items() if model.latest},
        {sensor: model.state for sensor, model in models.items()},
    )


def test_alerts_do_not_depend_on_how_the_stream_is_split_into_batches(database, bounds):
    raised = 0
    for seed in range(60 if "sqlite" in type(database._connection).__module__ else 12):
        random = Random(seed)
        rows = stream(random, [1, 2, 3])
        reset(database)
        place = 0
        while place < len(rows):
            size = random.choice((1, 5, 50, 500))
            write(database, rows[place : place + size])
            if random.random() < 0.2:  # a replay changes nothing
                write(database, rows[max(0, place - 20) : place + size])
            place += size
        rows.sort(key=lambda row: (row[2], row[4], row[5]))
        wanted = expected(bounds, rows)
        assert stored(database) == wanted, seed
        raised += len(wanted[0])
        notified = select(
            database,
            "SELECT n.severity, a.severity, n.source, n.is_read FROM alerts a LEFT JOIN"
            " alert_notifications n ON n.source_event_id = a.id AND n.source = 'alert'",
        )
        assert notified == [(row[1], row[1], "alert", 0) for row in notified]
        assert len(notified) == len(wanted[0])
    assert raised > 20
