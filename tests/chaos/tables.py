"""What must be in the tables: equal to another database, row by row, and to what was posted."""

import sqlite3
from collections import Counter
from datetime import UTC, datetime

from tests.chaos.rig import DifferenceError

_IDS = {"id", "source_event_id", "prediction_id", "model_id", "last_reading_id"}
"""Numbers that say only which row was written first. What they stand for is compared: an event and
its notification have the same event_key."""
_CLOCK = {
    ("rule_versions", "created_at"),
    ("alert_notifications", "read_at"),
    ("ml_watermarks", "last_processed_at"),
    ("flow_progress", "updated_at"),
}
"""When something was written, by the database's own clock."""
_BATCHES = {("sensors", "valid_readings_count"), ("sensors", "state_changed_at")}
"""What the old system's rules count or date once a batch, however it was cut."""
_LEFT_OUT = {"schema_migrations", "sqlite_sequence", "sqlite_stat1"}
_SHOWN, _WIDTH = 3, 300


def contents(path):
    """table -> (columns, its rows in an order of their own)."""
    with sqlite3.connect(path) as database:
        names = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if name not in _LEFT_OUT
        ]
        tables = {}
        for name in sorted(names):
            columns = [
                column
                for _, column, *_ in database.execute(f"PRAGMA table_info({name})")
                if column not in _IDS and (name, column) not in _CLOCK | _BATCHES
            ]
            rows = database.execute(f"SELECT {', '.join(columns)} FROM {name}")
            tables[name] = (columns, sorted(rows, key=repr))
    database.close()
    return tables


OF_OLD_RULES = frozenset(
    {"alerts", "alert_notifications", "devices", "sensors", "sensor_readings_latest"}
)
"""Written by rules that look at a batch of readings, in the order in which they were received."""


def check_equal(disturbed, calm, leave_out=frozenset()):
    """Raise DifferenceError with the first rows that only one of the two databases has."""
    told, wanted = [], contents(calm)
    for name, (columns, rows) in contents(disturbed).items():
        if name in leave_out:
            continue
        here, there = Counter(rows), Counter(wanted[name][1])
        for which, extra in (("disturbed", here - there), ("calm", there - here)):
            if extra:
                told.append(f"{name}: {extra.total()} rows only in the {which} one: {columns}")
                told += [f"    {row}"[:_WIDTH] for row in sorted(extra, key=repr)[:_SHOWN]]
    if told:
        raise DifferenceError("\n".join(told))


def check_posted(path, packets, acknowledged):
    """Raise DifferenceError unless the readings of all packets are there once, and nothing else is.
    A reading that its device did not date is known by its value.
    """
    if missing := {packet["packet_id"] for packet in packets} - acknowledged:
        raise DifferenceError(f"packets that were never acknowledged: {sorted(missing)[:_SHOWN]}")
    posted = Counter(
        (reading["sensor_uuid"], reading["value"], _ms(reading.get("ts")))
        for packet in packets
        for reading in packet["readings"]
    )
    with sqlite3.connect(path) as database:
        stored = Counter(
            (sensor, value, _ms(at))
            for sensor, value, at in database.execute(
                "SELECT s.sensor_uuid, r.value, r.device_timestamp"
                " FROM sensor_readings AS r JOIN sensors AS s ON s.id = r.sensor_id"
            )
        )
    database.close()
    for what, rows in (("lost", posted - stored), ("twice or invented", stored - posted)):
        if rows:
            raise DifferenceError(f"{rows.total()} readings {what}: {sorted(rows)[:_SHOWN]}")


def _ms(text):
    """Epoch milliseconds of a time as text, in UTC; -1 where there is none."""
    if text is None:
        return -1
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def check_pairs(path):
    """Raise DifferenceError unless every event has its one notification, and each the other."""
    with sqlite3.connect(path) as database:
        lonely = database.execute(
            "SELECT e.event_key, count(n.id) FROM ml_events AS e LEFT JOIN alert_notifications AS n"
            " ON n.source = 'ml_event' AND n.source_event_id = e.id AND n.event_key = e.event_key"
            " GROUP BY e.id HAVING count(n.id) <> 1"
            " UNION ALL SELECT n.event_key, 0 FROM alert_notifications AS n"
            " LEFT JOIN ml_events AS e ON e.id = n.source_event_id"
            " WHERE n.source = 'ml_event' AND e.id IS NULL"
        ).fetchall()
    database.close()
    if lonely:
        raise DifferenceError(f"events without their one notification: {lonely[:_SHOWN]}")
