import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random
from time import monotonic, sleep, time

import numpy as np
import pytest

from contract.settings import Settings, child_environment
from ml.batch import BatchSummary, run_once
from ml.predict.forecast import forecast
from ml.predict.store import newest_readings
from rules.line import decode
from sinks.times import as_text
from tests.databases import environment_of
from tests.ml.conftest import START, opened

RANDOM = np.random.default_rng(5)


def run(place, dedupe=10, settings=None, now=START):
    settings = settings or place.settings
    return run_once(place.database, settings, dedupe, now=lambda _: now)


def events(place, sensor):
    return place.rows(
        "SELECT event_code, event_type FROM ml_events WHERE sensor_id = ? ORDER BY id", sensor
    )


def check_pairs(place):
    """Check that every event has its notification, and that no key is duplicated."""
    lonely = place.rows(
        "SELECT e.id FROM ml_events AS e LEFT JOIN alert_notifications AS a"
        " ON a.event_key = e.event_key AND a.source_event_id = e.id AND a.source = 'ml_event'"
        " AND a.severity = e.event_type AND a.title = e.title WHERE a.id IS NULL"
    )
    assert lonely == []
    orphans = place.rows(
        "SELECT a.id FROM alert_notifications AS a LEFT JOIN ml_events AS e"
        " ON e.event_key = a.event_key WHERE a.source = 'ml_event' AND e.id IS NULL"
    )
    assert orphans == []
    for table, key in (
        ("ml_events", "event_key"),
        ("predictions", "model_id, sensor_id, event_predicted_at"),
        ("ml_models", "sensor_id, model_name"),
    ):
        assert place.rows(f"SELECT COUNT(*) FROM {table} GROUP BY {key} HAVING COUNT(*) > 1") == []
    unseen = place.rows(
        "SELECT w.sensor_id FROM ml_watermarks AS w LEFT JOIN predictions AS p"
        " ON p.sensor_id = w.sensor_id WHERE p.id IS NULL"
    )
    assert unseen == []


def test_each_sensor_gets_the_forecast_of_its_own_readings_and_a_model(place):
    lengths = (1, 7, 20, 150)
    sensors = [place.sensor() for _ in lengths]
    for sensor, length in zip(sensors, lengths, strict=True):
        place.store(sensor, np.round(20 + RANDOM.normal(0, 1, length) + np.arange(length) / 10, 5))
    run(place)
    for sensor, length in zip(sensors, lengths, strict=True):
        readings = newest_readings(place.database, [sensor], 500)
        wanted = forecast(readings, 10)
        value, confidence, window, engine, at, target, horizon, device, own = place.row(
            "SELECT p.predicted_value, p.confidence, p.window_points, p.engine_name,"
            " p.predicted_at, p.target_timestamp, p.horizon_minutes, p.device_id, s.device_id"
            " FROM predictions AS p JOIN sensors AS s ON s.id = p.sensor_id WHERE s.id = ?",
            sensor,
        )
        assert float(value) == pytest.approx(float(wanted.value[0]), abs=1e-5)
        assert float(confidence) == pytest.approx(float(wanted.confidence[0]), abs=1e-4)
        assert (window, engine) == (
            (length, "ridge_line") if length >= 20 else (min(length, 5), "few_readings")
        )
        last = START + (length - 1) * 60_000
        assert [str(at)[:19], str(target)[:19]] == [
            text[:19] for text in as_text(np.array([last, last + 600_000])).tolist()
        ]
        assert (horizon, device) == (10, own)
        name, kind, version, active, trained, accuracy, metadata = place.row(
            "SELECT model_name, model_type, version, is_active, trained_at, accuracy, metadata"
            " FROM ml_models WHERE sensor_id = ?",
            sensor,
        )
        assert (name, kind, version, active) == (
            "sklearn_regression_iforest", "sklearn", "1.0.0", 1,
        )  # fmt: skip
        assert str(trained)[:19] == str(at)[:19]
        model = decode(metadata)
        assert set(json.loads(metadata)) == {
            "format", "kind", "slope_per_minute", "intercept", "residual_scale", "r2", "points",
            "trained_from", "trained_to",
        }  # fmt: skip
        assert model.points == length
        assert float(accuracy) == pytest.approx(model.r2, abs=1e-4)
        assert model.slope_per_minute == pytest.approx(float(wanted.lines.slope[0]))
        assert model.trained_from.timestamp() * 1000 == START
        assert model.trained_to.timestamp() * 1000 == last


def test_a_sensor_without_new_readings_is_not_predicted_again(place):
    sensor, other = place.sensor(), place.sensor()
    for sensor_id in (sensor, other):
        place.store(sensor_id, [20.0] * 30)
    run(place)
    assert run(place).due == 0
    place.store(sensor, [20.5], start=START + 3_600_000)
    place.store(other, [99.0], start=START - 60_000)  # late: not the newest
    summary = run(place)
    assert (summary.due, summary.predicted) == (1, 1)
    assert run(place).due == 0
    statement = "SELECT COUNT(*) FROM predictions WHERE sensor_id = ?"
    assert place.row(statement, sensor) == (2,)
    assert place.row("SELECT COUNT(*) FROM ml_models WHERE sensor_id = ?", sensor) == (1,)
    (seen,) = place.row("SELECT last_reading_id FROM ml_watermarks WHERE sensor_id = ?", sensor)
    assert place.row("SELECT value FROM sensor_readings WHERE id = ?", seen)[0] == 20.5


def test_a_backlog_gets_no_forecast_but_its_readings_are_judged_once(place):
    sensor = place.sensor(bounds={"critical": (0.0, 10.0)})
    values = 20 + RANDOM.normal(0, 0.5, 200)
    values[-1] = 60.0
    last = place.store(sensor, values)
    summary = run(place, now=last + 600_000)
    assert (summary.due, summary.predicted, summary.too_old, summary.breaches) == (1, 0, 1, 0)
    assert place.rows("SELECT id FROM predictions WHERE sensor_id = ?", sensor) == []
    assert events(place, sensor) == [("ANOMALY_DETECTED", "warning")]
    prediction, payload = place.row(
        "SELECT prediction_id, payload FROM ml_events WHERE sensor_id = ?", sensor
    )
    told = json.loads(payload)
    assert (prediction, told["predicted_value"], told["severity"]) == (None, None, "warning")
    assert "2024-11-24" in told["explanation"]
    assert place.row("SELECT COUNT(*) FROM ml_models WHERE sensor_id = ?", sensor) == (1,)
    assert run(place, now=last + 600_000).due == 0
    place.store(sensor, [20.0], start=last + 60_000)
    assert run(place, now=last + 600_000).predicted == 1, "its time is still to come"


def test_readings_without_event_time_count_as_new(place):
    sensor = place.sensor()
    place.store(sensor, [20.0] * 3)
    run(place)
    insert = "INSERT INTO sensor_readings (sensor_id, value, timestamp) VALUES (?, ?, ?)"
    place.do(insert, sensor, 26.0, "2024-11-24 11:00:00.000")
    place.do(insert, sensor, 99.0, "2024-11-24 09:00:00.000")  # older than the last forecast
    assert run(place).due == 1
    assert run(place).due == 0
    value, at = place.row(
        "SELECT predicted_value, predicted_at FROM predictions WHERE sensor_id = ?"
        " ORDER BY predicted_at DESC OFFSET 0 ROWS FETCH NEXT 1 ROWS ONLY"
        if place.settings.engine == "mssql"
        else "SELECT predicted_value, predicted_at FROM predictions WHERE sensor_id = ?"
        " ORDER BY predicted_at DESC LIMIT 1",
        sensor,
    )
    assert float(value) == pytest.approx((99 + 60 + 26) / 5)
    assert str(at)[:19] == "2024-11-24 11:00:00"


def test_inactive_and_deleted_sensors_are_skipped(place):
    inactive, deleted, empty = place.sensor(), place.sensor(), place.sensor()
    for sensor in (inactive, deleted):
        place.store(sensor, [20.0] * 30)
    place.do("UPDATE sensors SET is_active = 0 WHERE id = ?", inactive)
    place.do(
        "UPDATE devices SET status = 'deleted' WHERE id ="
        " (SELECT device_id FROM sensors WHERE id = ?)",
        deleted,
    )
    marked = place.sensor()
    if place.settings.engine == "mssql":
        place.store(marked, [20.0] * 30)
        place.do("UPDATE sensors SET is_deleted = 1 WHERE id = ?", marked)
    run(place)
    for sensor in (inactive, deleted, empty, marked):
        assert place.rows("SELECT id FROM predictions WHERE sensor_id = ?", sensor) == []


def test_breaches_and_anomalies_are_events_with_notifications_and_deduplicated(place):
    sensor = place.sensor(bounds={"critical": (0.0, 10.0)})
    calm = place.sensor()
    place.store(calm, 20 + RANDOM.normal(0, 0.5, 200))
    values = 20 + RANDOM.normal(0, 0.5, 200)
    values[-2] = 60.0
    last = place.store(sensor, values)
    run(place)
    wanted = [("ANOMALY_DETECTED", "warning"), ("PRED_THRESHOLD_BREACH", "critical")]
    assert sorted(events(place, sensor)) == wanted
    assert events(place, calm) == []
    is_anomaly, score, risk, severity = place.row(
        "SELECT is_anomaly, anomaly_score, risk_level, severity FROM predictions"
        " WHERE sensor_id = ?",
        sensor,
    )
    assert (is_anomaly, risk, severity) == (1, "HIGH", "critical")
    assert 0.5 < score <= 1
    place.store(sensor, [20.0], start=last + 60_000)  # the anomaly is still among the newest
    assert run(place).predicted == 1
    assert sorted(events(place, sensor)) == wanted
    place.store(sensor, [20.0] * 10, start=last + 120_000)
    run(place)
    assert sorted(events(place, sensor)) == [*wanted, wanted[1]]  # the open one is 12 min old
    check_pairs(place)


def test_an_anomaly_is_reported_once_even_after_its_event_was_resolved(place):
    sensor = place.sensor()
    values = 20 + RANDOM.normal(0, 0.5, 200)
    values[-1] = 60.0
    last = place.store(sensor, values)
    run(place)
    place.do("UPDATE ml_events SET status = 'resolved' WHERE sensor_id = ?", sensor)
    place.store(sensor, [20.0], start=last + 60_000)
    run(place)
    assert [code for code, _ in events(place, sensor)].count("ANOMALY_DETECTED") == 1


def test_an_anomalous_reading_within_the_users_bounds_is_a_notice(place):
    sensor = place.sensor(bounds={"warning": (0.0, 100.0)})
    values = 20 + RANDOM.normal(0, 0.5, 200)
    values[-1] = 60.0
    place.store(sensor, values)
    run(place)
    assert events(place, sensor) == [("ANOMALY_DETECTED", "notice")]
    assert place.row("SELECT severity FROM predictions WHERE sensor_id = ?", sensor) == ("info",)


def test_a_profile_has_the_effect_of_a_threshold(place):
    sensor = place.sensor()
    place.store(sensor, [20.0] * 30)
    place.do(
        "INSERT INTO sensor_threshold_profiles (sensor_id, warning_min, alert_max)"
        " VALUES (?, 0, 15)",
        sensor,
    )
    run(place)
    assert events(place, sensor) == [("PRED_THRESHOLD_BREACH", "critical")]


def test_texts_are_in_the_configured_language(place):
    for language, word in (("es", "se prevé"), ("en", "is forecast")):
        sensor = place.sensor()
        place.store(sensor, [20.0] * 30)
        run(place, settings=place.settings.model_copy(update={"iot_lang": language}))
        (text,) = place.row("SELECT explanation FROM predictions WHERE sensor_id = ?", sensor)
        assert word in json.loads(text)["short_message"]


def test_a_sensor_whose_row_is_refused_is_counted_and_the_others_are_written(here):
    sensors = [here.sensor() for _ in range(3)]
    for sensor in sensors:
        here.store(sensor, [20.0] * 30)
    here.do(
        "CREATE TRIGGER refuse BEFORE INSERT ON predictions WHEN new.sensor_id = 2"
        " BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    summary = run(here)
    assert (summary.due, summary.predicted, summary.failed) == (3, 2, 1)
    assert here.rows("SELECT sensor_id FROM ml_watermarks") == [(1,), (3,)]
    assert here.rows("SELECT sensor_id FROM ml_models") == [(1,), (3,)]


def test_a_stop_is_heard_between_two_sensors(here):
    for _ in range(5):
        here.store(here.sensor(), [20.0] * 30)
    stopped = []

    def after_two(done, total):
        assert total == 5
        if done == 2:
            stopped.append(True)

    summary = run_once(
        here.database, here.settings, 10, lambda: bool(stopped), after_two, lambda _: START
    )
    assert (summary.due, summary.predicted) == (5, 2)
    assert here.row("SELECT COUNT(*) FROM predictions") == (2,)


def test_two_runs_on_the_same_data_give_the_same_rows(tmp_path):
    fleet(tmp_path / "a.db", 20)
    shutil.copy(tmp_path / "a.db", tmp_path / "b.db")
    for name in ("a", "b"):
        for place in opened(Settings(db_engine="sqlite", iot_sqlite_path=tmp_path / f"{name}.db")):
            run(place)
    assert content(tmp_path / "a.db") == content(tmp_path / "b.db")


def fleet(path, sensors, points=60):
    """A database whose sensors all breach a threshold, every second one with an anomaly. Their
    readings are of the last minute, for programs that look at the clock.
    """
    first = int(time()) * 1000 - points * 1000
    for place in opened(Settings(db_engine="sqlite", iot_sqlite_path=path)):
        random = np.random.default_rng(3)
        place.do("BEGIN")
        place.do(
            "INSERT INTO devices (id, device_uuid, name, device_type) VALUES (1, 'd', 'd', 'x')"
        )
        times = as_text(first + np.arange(points) * 1000).tolist()
        for sensor in range(1, sensors + 1):
            place.do(
                "INSERT INTO sensors (id, device_id, sensor_uuid, sensor_type, name, unit)"
                " VALUES (?, 1, ?, ?, ?, 'u')",
                sensor, str(sensor), f"type {sensor % 3}", f"s{sensor}",
            )  # fmt: skip
            place.do(
                "INSERT INTO alert_thresholds"
                " (sensor_id, name, condition_type, threshold_value_min, severity)"
                " VALUES (?, 'high', 'greater_than', 10, 'critical')",
                sensor,
            )
            values = random.normal(20, 1, points).round(3)
            values[-1] += 100 * (sensor % 2)
            place.database._connection.executemany(
                "INSERT INTO sensor_readings (sensor_id, value, timestamp, event_timestamp, seq)"
                " VALUES (?, ?, ?, ?, 0)",
                [(sensor, value, at, at) for value, at in zip(values.tolist(), times, strict=True)],
            )
        place.do("COMMIT")


def content(path):
    """The rows that a run writes, without the ids that depend on the order of writing."""
    connection = sqlite3.connect(path)
    content = [
        connection.execute(statement).fetchall()
        for statement in (
            "SELECT sensor_id, predicted_value, confidence, predicted_at, is_anomaly,"
            " anomaly_score, explanation FROM predictions ORDER BY sensor_id, predicted_at",
            "SELECT event_key, sensor_id, event_type, message, payload, created_at FROM ml_events"
            " ORDER BY event_key",
            "SELECT event_key, severity, title, message FROM alert_notifications"
            " ORDER BY event_key",
            "SELECT sensor_id, model_name, trained_at, metadata FROM ml_models ORDER BY sensor_id",
            "SELECT sensor_id, last_reading_id FROM ml_watermarks ORDER BY sensor_id",
        )
    ]
    connection.close()
    return content


def start(settings, *arguments, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "ml.batch", *arguments],
        env=child_environment(environment_of(settings) | more),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(place, watermarks):
    """Wait until `watermarks` sensors are done."""
    until = monotonic() + 120
    while place.row("SELECT COUNT(*) FROM ml_watermarks")[0] < watermarks:
        assert monotonic() < until
        sleep(0.001)


def test_after_kills_at_random_moments_nothing_is_duplicated_or_partial(tmp_path):
    sensors = 600
    fleet(tmp_path / "killed.db", sensors)
    shutil.copy(tmp_path / "killed.db", tmp_path / "whole.db")
    settings = Settings(db_engine="sqlite", iot_sqlite_path=tmp_path / "killed.db")
    random, cut_short = Random(8), 0
    for place in opened(settings):
        done = 0
        for _ in range(6):
            runner = start(settings, "--once")
            wait_for(place, done + random.randint(1, 90))
            sleep(random.random() * 0.01)
            runner.send_signal(signal.SIGKILL)
            runner.communicate()
            cut_short += runner.returncode == -signal.SIGKILL
            done = place.row("SELECT COUNT(*) FROM ml_watermarks")[0]
            check_pairs(place)
        assert cut_short == 6
        assert 6 <= done < sensors
        out, err = start(settings, "--once").communicate(timeout=240)
        assert f"{sensors - done} of {sensors - done} sensors predicted" in out, err
        check_pairs(place)
        assert place.row("SELECT COUNT(*) FROM ml_events")[0] == sensors + sensors // 2
    for place in opened(Settings(db_engine="sqlite", iot_sqlite_path=tmp_path / "whole.db")):
        run(place)
    killed, whole = content(tmp_path / "killed.db"), content(tmp_path / "whole.db")
    assert [len(rows) for rows in killed] == [len(rows) for rows in whole]
    assert killed[3:] == whole[3:]  # these do not depend on which other sensors were due


def test_two_concurrent_runners_write_nothing_twice(tmp_path):
    fleet(tmp_path / "iot.db", 200)
    settings = Settings(db_engine="sqlite", iot_sqlite_path=tmp_path / "iot.db")
    runners = [start(settings, "--once") for _ in range(2)]
    for runner in runners:
        _, err = runner.communicate(timeout=240)
        assert runner.returncode == 0, err
    for place in opened(settings):
        check_pairs(place)
        assert place.row("SELECT COUNT(*) FROM predictions") == (200,)
        assert place.row("SELECT COUNT(*) FROM ml_events") == (300,)


def test_sigterm_finishes_the_current_sensor_and_prints_the_summary(tmp_path):
    fleet(tmp_path / "iot.db", 600)
    settings = Settings(db_engine="sqlite", iot_sqlite_path=tmp_path / "iot.db")
    for place in opened(settings):
        runner = start(settings, "--once")
        wait_for(place, 20)
        runner.terminate()
        out, err = runner.communicate(timeout=120)
        (done,) = place.row("SELECT COUNT(*) FROM ml_watermarks")
        assert 20 <= done < 600
        assert out.startswith(f"{done} of 600 sensors predicted")
        assert (runner.returncode, err) == (130, "")
        check_pairs(place)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_runner_waiting_for_its_next_run_stops_at_once(tmp_path, number):
    fleet(tmp_path / "iot.db", 3)
    settings = Settings(db_engine="sqlite", iot_sqlite_path=tmp_path / "iot.db")
    runner = start(settings, "--interval-seconds", "60")
    assert runner.stdout.readline().startswith("3 of 3 sensors predicted")
    runner.send_signal(number)
    out, err = runner.communicate(timeout=120)
    assert (runner.returncode, out, err) == (0, "", "")


def test_it_runs_periodically(tmp_path):
    fleet(tmp_path / "iot.db", 3)
    settings = Settings(db_engine="sqlite", iot_sqlite_path=tmp_path / "iot.db")
    runner = start(settings, "--interval-seconds", "1")
    lines = [runner.stdout.readline() for _ in range(2)]
    runner.terminate()
    runner.communicate(timeout=120)
    assert [line.split(" sensors")[0] for line in lines] == ["3 of 3", "0 of 0"]


def test_without_a_terminal_the_summary_is_one_line_and_errors_exit_with_1(tmp_path):
    fleet(tmp_path / "iot.db", 30)
    settings = Settings(db_engine="sqlite", iot_sqlite_path=tmp_path / "iot.db")
    runner = start(settings, "--once")
    out, err = runner.communicate(timeout=240)
    assert runner.returncode == 0, err
    assert err == ""
    assert out.startswith(
        "30 of 30 sensors predicted (0 from few readings), 0 with readings too old for a forecast, "
        "30 beyond a threshold, "
        "15 with an anomaly, 0 failed, in "
    )
    assert len(out.splitlines()) == 1
    missing = settings.model_copy(update={"iot_sqlite_path": tmp_path / "none.db"})
    runner = start(missing, "--once")
    _, err = runner.communicate(timeout=240)
    assert runner.returncode == 1
    assert err.startswith("ml.batch: IOT_SQLITE_PATH: there is no file")
    assert len(err.splitlines()) == 1


def all_of(terminal):
    """All output of a terminal until it is closed; read at once, its buffer holds a few KB."""
    shown = b""
    with suppress(OSError):  # Linux reports the end as an error
        while piece := os.read(terminal, 65_536):
            shown += piece
    return shown.decode()


def test_a_terminal_gets_a_progress_bar(tmp_path):
    fleet(tmp_path / "iot.db", 300)
    settings = Settings(db_engine="sqlite", iot_sqlite_path=tmp_path / "iot.db")
    parent, child = os.openpty()
    with ThreadPoolExecutor(1) as pool:
        runner = subprocess.Popen(
            [sys.executable, "-m", "ml.batch", "--once"],
            env=child_environment(environment_of(settings) | {"TERM": "xterm", "COLUMNS": "100"}),
            stdout=subprocess.PIPE, stderr=child, text=True,
        )  # fmt: skip
        os.close(child)
        reading = pool.submit(all_of, parent)
        out, _ = runner.communicate(timeout=240)
        shown = reading.result()
    os.close(parent)
    assert "predicting" in shown
    assert "/300" in shown
    assert out.startswith("300 of 300")


def test_a_database_that_is_unavailable_for_a_while_is_retried(tmp_path):
    fleet(tmp_path / "iot.db", 3)
    settings = Settings(db_engine="sqlite", iot_sqlite_path=tmp_path / "iot.db")
    for place in opened(settings):
        place.do("BEGIN IMMEDIATE")
        runner = start(settings, "--once")
        assert "database unavailable, retrying" in runner.stderr.readline()
        place.do("ROLLBACK")
        _, err = runner.communicate(timeout=120)
        assert runner.returncode == 0, err
        assert place.row("SELECT COUNT(*) FROM predictions") == (3,)


def test_summaries_add_up():
    total = BatchSummary(due=3, predicted=1, seconds=1.5)
    total.add(BatchSummary(due=2, predicted=2, failed=1, seconds=0.5))
    assert (total.due, total.predicted, total.failed, total.seconds) == (5, 3, 1, 2.0)
