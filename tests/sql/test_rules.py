from time import time

import pytest

from ops.devices import SensorSpec, register
from sql import statements
from tests.databases import RULE_ROWS

pytestmark = pytest.mark.usefixtures("rig")


@pytest.fixture
def rig(database):
    """Sensor 1, with a threshold, and sensor 2, which is inactive."""
    boiler = SensorSpec("boiler", "temperature", "°C", {"critical": (-5.5, 80.25)})
    register(database, "rig", [boiler, SensorSpec("pump", "power", "W")])
    database._connection.execute("UPDATE sensors SET is_active = 0 WHERE id = 2")


def listed(database, query):
    return database.query(RULE_ROWS[query] if isinstance(query, str) else query)


def test_thresholds_are_listed_with_their_settings_for_raising_and_clearing(database):
    plain = (1, 1, "boiler critical", "out_of_range", -5.5, 80.25, "critical")
    assert listed(database, "list_alert_thresholds") == [(*plain, None, None, None, None, None)]
    database._connection.execute(
        "UPDATE alert_thresholds SET consecutive_readings = 2, clear_after = 3,"
        " reset_value_min = -4.5, reset_value_max = 79.25, forecast_after = 4"
    )
    (full,) = listed(database, "list_alert_thresholds")
    assert full == (*plain, 2, 3, -4.5, 79.25, 4)
    assert [type(full[n]) for n in (4, 5, 9, 10)] == [float] * 4
    database._connection.execute("UPDATE alert_thresholds SET is_active = 0")
    assert listed(database, "list_alert_thresholds") == []


def test_profiles_are_listed(database):
    database._connection.execute(
        "INSERT INTO sensor_threshold_profiles (sensor_id, warning_min, warning_max, alert_max)"
        " VALUES (1, 0.5, 70.25, 80)"
    )
    (profile,) = listed(database, "list_profiles")
    assert profile == (1, 1, 0.5, 70.25, None, 80.0)
    assert [type(profile[n]) for n in (2, 3, 5)] == [float] * 3


def test_active_deltas_are_listed(database):
    database._connection.execute(
        "INSERT INTO delta_thresholds (sensor_id, abs_delta, rel_delta, is_active) VALUES"
        " (1, 5, 0.25, 1), (1, 1, 1, 0)"
    )
    database._connection.execute(
        "INSERT INTO delta_thresholds"
        " (sensor_id, abs_slope, rel_slope, severity, min_readings, raise_after, clear_after)"
        " VALUES (2, 0.000125, 2, 'info', 10, 2, 3)"
    )
    assert listed(database, "list_deltas") == [
        (1, 1, 5.0, 0.25, None, None, None, 5, None, None),
        (3, 2, None, None, 0.000125, 2.0, "info", 10, 2, 3),
    ]


def test_active_rates_are_listed(database):
    database._connection.execute(
        "INSERT INTO rate_thresholds (sensor_id, name, span_seconds, rise_per_minute, is_active)"
        " VALUES (1, 'heats up', 300, 2.5, 1), (1, 'off', 60, 1, 0)"
    )
    database._connection.execute(
        "INSERT INTO rate_thresholds (sensor_id, fall_per_minute, severity, raise_after,"
        " clear_after) VALUES (2, 0.5, 'critical', 2, 3)"
    )
    assert listed(database, "list_rates") == [
        (1, 1, "heats up", 300, 2.5, None, "warning", None, None),
        (3, 2, None, 60, None, 0.5, "critical", 2, 3),
    ]


def test_all_sensors_are_listed_with_the_names_of_their_devices(database):
    assert listed(database, statements.LIST_SENSOR_NAMES) == [
        (1, "boiler", "temperature", "°C", 1, "rig"),
        (2, "pump", "power", "W", 1, "rig"),
    ]


def test_a_version_of_the_rules_is_added_if_it_is_not_the_newest(database):
    rules = '[{"name":"sayó \\"90\\""}]'
    began = time() * 1000
    ((before,),) = database.query(statements.NOW_MS)
    apart = 5_000  # allowed difference of the server's clock
    assert began - apart < before < time() * 1000 + apart
    for ahead, version, text in (
        (9, "a" * 64, rules), (9, "a" * 64, "[]"), (20_000, "b", "[]"), (20_000, "b", "[]"),
        (0, "a" * 64, rules),
    ):  # fmt: skip
        database.execute("add_rule_version", ahead, version, text)
    ((after,),) = database.query(statements.NOW_MS)
    first, second, third = listed(database, statements.LIST_RULE_VERSIONS)
    assert first == (0, "a" * 64), "the first version applies from the beginning"
    assert second[1] == "b"
    assert before + 20_000 <= second[0] <= after + 20_000
    assert third == (second[0] + 1, "a" * 64), "a later version never applies before an earlier one"
    assert database.query(statements.RULES_OF_VERSION, "a" * 64)[0][1] == rules


def test_the_newest_active_model_of_each_kind_is_listed_per_sensor(database):
    for sensor, kind, active, day, metadata in (
        (1, "sklearn", 1, 1, "old"),
        (1, "sklearn", 1, 3, "new"),
        (1, "sklearn", 0, 4, "inactive"),
        (1, "detector", 1, 2, "deep"),
        (1, "baseline", 1, 2, "older than the newest"),
        (2, "sklearn", 1, 1, "older than the baseline"),
        (2, "baseline", 1, 2, "baseline"),
    ):
        database._connection.execute(
            "INSERT INTO ml_models (sensor_id, model_name, model_type, version, is_active,"
            f" trained_at, metadata) VALUES ({sensor}, 'm', '{kind}', '1', {active},"
            f" '2024-11-0{day} 10:00:00', '{metadata}')"
        )
    assert [
        (*row[1:4], row.trained_at[:19]) for row in database.query(RULE_ROWS["list_models"])
    ] == [
        (1, "sklearn", "new", "2024-11-03 10:00:00"),
        (1, "detector", "deep", "2024-11-02 10:00:00"),
    ]
