"""Lost, repeated and different rows are detected."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from contract.settings import Settings
from ops.devices import SensorSpec, register
from sql.schema import apply_schema, open_database
from tests.chaos.load import READINGS_A_SENSOR, number_of, requests
from tests.chaos.rig import DifferenceError, copy_database
from tests.chaos.soak import Memory, audit
from tests.chaos.tables import check_equal, check_pairs, check_posted

READING = (
    "INSERT INTO sensor_readings"
    " (sensor_id, value, seq, timestamp, device_timestamp, event_timestamp)"
    " SELECT 1, {}, {}, at, at, at FROM (SELECT '2024-11-24 10:00:00.250' AS at)"
)
EVENT = (
    "INSERT INTO ml_events (device_id, event_type, event_code, title, event_key)"
    " VALUES (1, 'notice', 'x', 'x', 'key')"
)


@pytest.fixture
def places(tmp_path):
    """Two equal databases with a sensor and its reading 20.5, and the sensor's uuid."""
    disturbed, other = tmp_path / "one.db", tmp_path / "other.db"
    settings = Settings(iot_sqlite_path=disturbed)
    apply_schema(settings)
    with closing(open_database(settings)) as database:
        device = register(database, "rig", [SensorSpec("boiler", "temperature", "°C")])
    do(disturbed, READING.format(20.5, 0))
    copy_database(disturbed, other)
    return disturbed, other, device.sensors["boiler"]


def do(path, statement):
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(statement)


def test_databases_with_the_same_rows_in_another_order_are_equal(places):
    disturbed, other, _ = places
    for path, values in ((disturbed, (1, 2)), (other, (2, 1))):
        for value in values:
            do(path, READING.format(value, value))
    check_equal(disturbed, other)


@pytest.mark.parametrize(
    "change",
    [READING.format(20.5, 1), "UPDATE sensor_readings SET value = 20.50001", EVENT,
     "DELETE FROM sensor_readings", "UPDATE devices SET last_connection = '2024-11-24 10:00:00'"],
)  # fmt: skip
@pytest.mark.parametrize("which", ["disturbed", "calm"])
def test_an_extra_a_missing_and_a_different_row_are_differences(places, change, which):
    disturbed, other, _ = places
    do(disturbed if which == "disturbed" else other, change)
    with pytest.raises(DifferenceError, match="rows only in the"):
        check_equal(disturbed, other)


def test_posted_readings_must_be_stored_once_and_acknowledged(places):
    disturbed, _, sensor = places
    reading = {"sensor_uuid": sensor, "value": 20.5, "ts": "2024-11-24T10:00:00.250+00:00"}
    packet = {"packet_id": "a", "readings": [reading]}
    check_posted(disturbed, [packet], {"a"})
    with pytest.raises(DifferenceError, match="never acknowledged"):
        check_posted(disturbed, [packet], set())
    with pytest.raises(DifferenceError, match="1 readings lost"):
        check_posted(disturbed, [packet, {**packet, "packet_id": "b"}], {"a", "b"})
    do(disturbed, READING.format(20.5, 1))
    with pytest.raises(DifferenceError, match="1 readings twice or invented"):
        check_posted(disturbed, [packet], {"a"})


def test_an_event_needs_one_notification(places):
    disturbed, *_ = places
    check_pairs(disturbed)
    do(disturbed, EVENT)
    with pytest.raises(DifferenceError, match="one notification"):
        check_pairs(disturbed)


def test_a_soak_counts_lost_repeated_and_invented_readings(tmp_path):
    path = tmp_path / "iot.db"
    settings = Settings(iot_sqlite_path=path)
    apply_schema(settings)
    with closing(open_database(settings)) as database:
        sensors = [
            next(iter(register(database, name, [SensorSpec(name, "other", "")]).sensors.values()))
            for name in ("rig", "probe")
        ]
    plan = [{"sensors": sensors[:1]}]
    answers = np.array([(0, 0, 202), (0, 1, 202), (0, 2, 503)])

    def audited(*numbers):
        do(path, "DELETE FROM sensor_readings")
        for sensor, number in [(1, number) for number in numbers] + [(2, 0)]:
            values = f"({sensor}, 20 + {number} * 1e-5)"
            do(path, f"INSERT INTO sensor_readings (sensor_id, value) VALUES {values}")
        told = audit(path, plan, answers, 1)
        return told["lost"], told["twice"], told["invented"]

    assert audited(0, 1, 2, 3) == (0, 0, 0)
    assert audited(0, 1, 2, 3, 4) == (0, 0, 0)  # of the packet that was answered with 503
    assert audited(0, 1, 3) == (1, 0, 0)
    assert audited(0, 1, 2, 3, 3) == (0, 1, 0)
    assert audited(0, 1, 2, 3, 6) == (0, 0, 1)


def test_a_soak_sends_each_number_and_each_time_of_a_sensor_once():
    made = requests({"uuid": "u", "sensors": ["a", "b"]}, 3)
    bodies = [json.loads(next(made).partition(b"\r\n\r\n")[2]) for _ in range(1000)]
    readings = [
        reading for body in bodies for reading in body["readings"] if reading["sensor_uuid"] == "a"
    ]
    assert [number_of(reading["value"]) for reading in readings] == list(
        range(1000 * READINGS_A_SENSOR)
    )
    times = [round(reading["ts"] * 1000) for reading in readings]
    assert times == sorted(set(times))
    assert max(reading["value"] for reading in readings) > 60


def test_the_slope_of_memory_is_in_megabytes_per_minute():
    memory = Memory(0, [float(second) for second in range(300)])
    memory.megabytes = [100 + max(0, second - 60) / 30 for second in range(300)]
    assert memory.figures(300) == {"first_mb": 100.0, "last_mb": 108.0, "slope_mb_per_minute": 2.0}
