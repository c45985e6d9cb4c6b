"""After any fault of the connection, the server or a row, every good row is stored once, every bad
row is a dead letter with its reason, and the flow continues.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from multiprocessing import get_context
from threading import Event as Moment
from threading import Thread
from time import monotonic, sleep

import numpy as np
import pytest
from prometheus_client import REGISTRY

from contract.columns import PacketColumns, ReadingColumns, RecordColumns
from contract.errors import SetupError
from contract.event import Alert, Event, event_key
from contract.level import Level
from ops.devices import SensorSpec, register
from sinks import metrics
from sinks.events import events_sink
from sinks.readings import readings_sink
from sql.database import Database
from sql.schema import open_database
from tests.sinks.proxy import Proxy

START = 1732442400000
"""2024-11-24 10:00 UTC."""
SENSORS = 10


@pytest.fixture
def rig(settings):
    """Settings of a database with one device, whose sensor ids start at 1."""
    database = open_database(settings)
    register(database, "rig", [SensorSpec(f"s{n}", "other", "u") for n in range(SENSORS)])
    database.close()
    return settings


def readings(count, first=0, sensors=SENSORS):
    """Columns of `count` readings from number `first`: one per millisecond, sensors in turn."""
    number = np.arange(first, first + count)
    return PacketColumns(
        RecordColumns(
            arrival=np.array([START + first + count]),
            partition=np.zeros(1, np.int64),
            offset=np.zeros(1, np.int64),
            version=np.full(1, 2, np.int8),
            device_id=np.ones(1, np.int64),
            packet_hash=np.array([first]),
            received_at=1000 * np.array([START + first + count]),
            fresh=np.ones(1, bool),
            count=np.array([count]),
        ),
        ReadingColumns(
            sensor_id=number % sensors + 1,
            ts=1000 * (START + number),
            device_ts=1000 * (START + number),
            value=number / 8,
            seq=np.zeros(count, np.int64),
        ),
    )


def select(settings, statement):
    database = Database(settings)
    rows = [tuple(row) for row in database._connection.execute(statement).fetchall()]
    database.close()
    return rows


def assert_stored(settings, count):
    """Exactly the readings with the numbers below `count`, each once."""
    rows = select(
        settings,
        "SELECT COUNT(*), COUNT(DISTINCT value), MIN(value), MAX(value) FROM sensor_readings",
    )
    assert [(*row[:2], float(row[2]), float(row[3])) for row in rows] == [
        (count, count, 0.0, (count - 1) / 8)
    ]


def dead_letters(settings):
    return select(settings, "SELECT sink, error, row_json FROM sink_dead_letters ORDER BY id")


def retries(sink="write_readings"):
    return metrics.RETRIES.labels(sink)._value.get()


@pytest.fixture
def proxied(rig):
    """A proxy in front of the server, and settings that connect through it."""
    if rig.engine == "sqlite":
        pytest.skip("SQLite has no connection that could be cut")
    proxy = Proxy(rig.db_host, rig.db_port)
    yield proxy, rig.model_copy(update={"db_host": "127.0.0.1", "db_port": proxy.port})
    proxy.close()


CUTS = {
    "as the request begins": lambda proxy: proxy.cut_request(0),
    "in the middle of the request": lambda proxy: proxy.cut_request(100_000),
    "while the server works": lambda proxy: proxy.cut_work(250_000, 0.1),
    "after the commit, before the answer": lambda proxy: proxy.cut_answer(0, after=250_000),
    "in the middle of the answer": lambda proxy: proxy.cut_answer(1, after=250_000),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_a_cut_connection_loses_and_repeats_nothing(proxied, cut):
    proxy, settings = proxied
    partition = readings_sink(settings).build_part("step", "0", None)
    partition.write_batch([readings(100)])
    partition.snapshot()
    before = retries()
    cut(proxy)
    partition.write_batch([readings(5_000, 100)])
    partition.snapshot()
    partition.write_batch([readings(100, 5_100)])
    partition.close()
    assert proxy.cuts == 1
    assert retries() > before
    assert_stored(settings, 5_200)
    assert dead_letters(settings) == []


def test_the_flow_waits_while_the_server_is_unavailable_for_half_a_minute(proxied):
    proxy, settings = proxied
    partition = readings_sink(settings).build_part("step", "0", None)
    partition.write_batch([readings(100)])
    partition.snapshot()
    proxy.leave()
    is_back = Moment()
    Thread(target=lambda: (sleep(30), is_back.set(), proxy.come_back())).start()
    partition.write_batch([readings(1_000, 100)])
    partition.snapshot()
    assert is_back.is_set()
    partition.write_batch([readings(100, 1_100)])
    partition.close()
    assert_stored(settings, 1_200)


def test_close_raises_nothing_while_another_error_ends_the_process(rig):
    partition = readings_sink(rig).build_part("step", "0", None)
    partition.write_batch([readings(100)])
    partition.snapshot()
    database = Database(rig)
    what = "TABLE sensor_readings" if rig.engine == "sqlite" else "PROCEDURE sp_sink_readings"
    database._connection.execute(f"DROP {what}")
    database.close()
    partition.write_batch([readings(100, 100)])
    partition.close()
    with pytest.raises(SetupError, match=r"sensor_readings|sp_sink_readings"):
        partition.snapshot()


def hold(settings, statement):
    """An open transaction that has executed the statement."""
    other = Database(settings)._connection
    if settings.engine == "sqlite":
        other.execute("BEGIN IMMEDIATE")
    else:
        other.autocommit = False
    other.execute(statement).close()
    return other


LATEST = "UPDATE sensor_readings_latest SET latest_value = latest_value WHERE sensor_id = 1"
DEVICE = "UPDATE devices SET name = name WHERE id = 1"


def test_a_statement_that_times_out_is_retried(rig, monkeypatch):
    monkeypatch.setattr("sql.sqlite._BUSY_S", 1.0)
    settings = rig.model_copy(update={"db_query_timeout_seconds": 6})
    partition = readings_sink(settings).build_part("step", "0", None)
    partition.write_batch([readings(100)])
    partition.snapshot()
    before = retries()
    other = hold(rig, LATEST)
    partition.write_batch([readings(1_000, 100)])
    deadline = monotonic() + 240
    while retries() < before + 4 and monotonic() < deadline:  # it is halved after three time-outs
        sleep(0.05)
    other.commit()
    other.close()
    partition.close()
    assert retries() >= before + 4
    assert_stored(settings, 1_100)
    assert dead_letters(settings) == []


def test_a_deadlock_victim_is_retried(rig):
    """The flow locks latest values, then the device; the other transaction does the reverse."""
    if rig.engine == "sqlite":
        pytest.skip("SQLite takes one writer at a time")
    partition = readings_sink(rig).build_part("step", "0", None)
    partition.write_batch([readings(100)])
    partition.snapshot()
    before = retries()
    for turn in range(5):  # the server chooses the victim
        other = hold(rig, DEVICE)
        partition.write_batch([readings(100, 100 * (turn + 1))])
        sleep(0.5)  # now the flow waits for the device
        victim = False
        try:
            other.execute(LATEST).close()
        except Exception as error:
            victim = "deadlock" in str(error)
            if not victim:
                raise
        (other.rollback if victim else other.commit)()
        other.close()
        partition.snapshot()
        if retries() > before:
            break
    partition.close()
    assert retries() > before, "the flow was never the victim"
    assert_stored(rig, 100 * (turn + 2))
    assert dead_letters(rig) == []


def with_a_bad(name, value):
    """5 000 readings; one in the middle has `value` in column `name`."""
    columns = readings(5_000)
    column = getattr(columns.readings, name).copy()
    column[2_500] = value
    return replace(columns, readings=replace(columns.readings, **{name: column}))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (with_a_bad("value", 1e11), "value"),
        (with_a_bad("value", -np.inf), "value"),
        (with_a_bad("sensor_id", 999), "foreign key"),
    ],
    ids=["out of range", "no number", "of an unknown sensor"],
)
def test_one_bad_reading_among_5000_is_the_only_dead_letter(rig, bad, reason):
    partition = readings_sink(rig).build_part("step", "0", None)
    partition.write_batch([bad])
    partition.snapshot()
    partition.write_batch([readings(100, 5_000)])
    partition.close()
    stored = select(rig, "SELECT COUNT(*), COUNT(DISTINCT value) FROM sensor_readings")
    assert stored == [(5_099, 5_099)]
    ((sink, error, row),) = dead_letters(rig)
    assert sink == "write_readings"
    assert reason in error.lower()
    assert "2024-11-24 10:00:02.500" in row


def test_one_oversized_event_among_5000_is_the_only_dead_letter(rig):
    events = [
        Event(
            event_key=event_key(1, number, "X"),
            device_id=1,
            sensor_id=1,
            at=START + number,
            event_type="warning",
            event_code="ML_BEHAVIOR_STATE",
            title="t" * (300 if number == 2_500 else 20),
            message="m",
            value=1.5,
            payload="{}",
            resolves=None,
            status="active",
            silent=False,
        )
        for number in range(5_000)
    ]
    partition = events_sink(rig).build_part("step", "0", None)
    partition.write_batch(events)
    partition.close()
    for table in ("ml_events", "alert_notifications"):
        counts = select(rig, f"SELECT COUNT(*), COUNT(DISTINCT event_key) FROM {table}")
        assert counts == [(4_999, 4_999)]
    ((sink, _, row),) = dead_letters(rig)
    assert sink == "write_events"
    assert events[2_500].event_key in row


def test_a_sink_exports_its_metrics_from_the_start_and_times_each_snapshot(rig):
    def figures():
        return [
            REGISTRY.get_sample_value(f"iot_sink_{name}", {"sink": "write_readings"})
            for name in ("flush_seconds_count", "retries_total", "dead_letters_total")
        ]

    partition = readings_sink(rig).build_part("step", "0", None)
    before = figures()
    assert None not in before
    partition.write_batch([readings(100)])
    partition.snapshot()
    assert figures()[0] == before[0] + 1
    partition.close()


TWICE = 100_000


def replay(settings, shift):
    """Write all readings in batches that depend on `shift` and overlap by `shift` rows."""
    partition = readings_sink(settings).build_part("step", str(shift), None)
    for first in range(0, TWICE, 5_000):
        low = max(0, first - shift)
        partition.write_batch([readings(min(TWICE, first + 5_000 + shift) - low, low)])
    partition.close()


def test_two_writers_with_overlapping_replays_create_no_duplicates(rig):
    context = get_context("spawn")
    writers = [context.Process(target=replay, args=(rig, shift)) for shift in (0, 700)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=300)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert_stored(rig, TWICE)
    assert dead_letters(rig) == []


CALLS, LOOPS = 60, 4


def judged(sensor, turn):
    """An event of the flow that raises an alert, or ends one."""
    at, level = START + 1000 * turn, (Level.WARN, Level.NORMAL, Level.CRITICAL)[turn % 3]
    return Event(
        event_key=event_key(sensor, at, "X"), device_id=1, sensor_id=sensor, at=at,
        event_type="notice", event_code="X", title="t", message="m", value=1.5, payload="{}",
        resolves=None, status="active", alert=Alert(level, None, "alert"),
    )  # fmt: skip


def test_procedures_called_concurrently_with_a_sink_store_everything_once(rig):
    """Values cross a bound, so that the calls compete for alerts as well as readings, and with the
    events of the flow. One reading of the sink has the same time as a call.
    """
    if rig.engine == "sqlite":
        pytest.skip("SQLite has no procedures")
    database = open_database(rig)
    database._connection.execute(
        "INSERT INTO dbo.alert_thresholds"
        " (sensor_id, name, condition_type, threshold_value_min, severity)"
        " VALUES (1, 'hot', 'greater_than', 50, 'warning'),"
        " (2, 'hot', 'greater_than', 50, 'critical')"
    )
    database._connection.execute("UPDATE dbo.sensors SET min_readings_for_normal = 0")
    database.close()
    errors = []

    def call(loop):
        own = Database(rig)
        single = "EXEC dbo.sp_insert_reading_and_check_threshold @p_sensor_id = ?, @p_value = ?"
        for number in range(CALLS):
            value = loop + number / 1000 + (100 if number % 3 == 0 else 0)
            try:
                cursor = own._connection.execute(single, (1 + number % 2, value))
                while cursor.nextset():
                    pass
            except Exception as error:  # noqa: BLE001 - reported by the assertion below
                errors.append(error)
        own.close()

    threads = [Thread(target=call, args=(1000 * loop,)) for loop in range(1, LOOPS + 1)]
    for thread in threads:
        thread.start()
    partition = readings_sink(rig).build_part("step", "0", None)
    events = events_sink(rig).build_part("step", "0", None)
    for turn, first in enumerate(range(0, 400, 20)):
        partition.write_batch([readings(20, first, sensors=2)])
        events.write_batch([judged(1, turn), judged(2, turn)])
        events.snapshot()
        partition.snapshot()
    for thread in threads:
        thread.join()
    taken = select(rig, "SELECT sensor_id, event_timestamp FROM sensor_readings WHERE seq < 0")
    same = readings(1, 10_000)
    at = (taken[0][1] - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    ts = np.array([at])
    moved = replace(same.readings, sensor_id=np.array([taken[0][0]]), ts=ts, device_ts=ts)
    partition.write_batch([replace(same, readings=moved)])
    partition.close()
    events.close()
    assert errors == []
    assert select(
        rig, "SELECT COUNT(*), COUNT(DISTINCT value) FROM sensor_readings WHERE seq < 0"
    ) == [(LOOPS * CALLS, LOOPS * CALLS)]
    assert select(rig, "SELECT COUNT(*) FROM sensor_readings WHERE seq >= 0") == [(401,)]
    assert select(
        rig,
        "SELECT COUNT(*) FROM (SELECT sensor_id, severity FROM alerts WHERE status = 'active'"
        " GROUP BY sensor_id, severity HAVING COUNT(*) > 1) AS double_ones",
    ) == [(0,)]
    assert dead_letters(rig) == []
