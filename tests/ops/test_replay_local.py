"""A run's own database, its rules and its folder."""

import json
import subprocess
import sys

import msgspec
import pytest

from contract.errors import SetupError
from contract.settings import child_environment
from ops.devices import SensorSpec, register
from ops.dry_run import read_rules
from ops.replay.local import local_settings, make_local
from ops.replay.plan import ReplayArguments, ReplayPlan, open_run
from ops.replay.rules import (
    EACH_TIME,
    PastRules,
    Used,
    check_stored,
    given_rules,
    rule_book,
    used,
)
from rules.delta import DELTA
from rules.history import LiveRules, OneEdition
from rules.models import TrendModel
from rules.tables import decode_rules, make_rules, rule_tables
from rules.threshold import THRESHOLD
from sql import statements
from sql.schema import open_database
from tests.databases import environment_of

RANGES = {"warning": (0.0, 80.5), "critical": (-10.0, 90.0)}


@pytest.fixture
def rig(database):
    register(database, "rig Ñ", [SensorSpec("boiler", "temperature", "°C", RANGES)])
    register(database, "bare", [SensorSpec("pump", "power", "W")])
    for statement in (
        "INSERT INTO ml_models (sensor_id, model_name, model_type, version, is_active, trained_at,"
        " metadata) VALUES (1, 'old', 'detector', '1', 0, '2024-11-24 10:00:00', '{}')",
        "INSERT INTO ml_models (sensor_id, model_name, model_type, version, is_active, trained_at,"
        " metadata) VALUES (1, 'new', 'detector', '1', 1, '2024-11-24 11:00:00',"
        ' \'{"kind":"deep"}\')',
        "INSERT INTO sensor_threshold_profiles (sensor_id, warning_max) VALUES (2, 7.25)",
        "INSERT INTO delta_thresholds (sensor_id, abs_delta, is_active) VALUES (2, 0.5, 1)",
        "UPDATE sensors SET is_active = 0 WHERE id = 2",
    ):
        database._connection.execute(statement)
    return database


def test_a_run_has_the_limits_of_silence_of_a_rules_file(settings, rig, tmp_path):
    """Rows that only give names have no id."""
    own = local_settings(settings, tmp_path / "run.db")
    limits: list[dict[str, object]] = [{"id": 2, "no_data_after_seconds": 60}, {"name": "pump"}]
    make_local(own, rig, {**rule_tables(rig), "sensors": limits, "devices": []})
    tables = rule_tables(open_database(own))
    assert (tables["sensors"], tables["devices"]) == ([limits[0]], [])


def test_a_run_has_the_devices_models_and_rules_of_the_live_database(settings, rig, tmp_path):
    own = local_settings(settings, tmp_path / "run.db")
    assert (own.engine, own.iot_sqlite_path) == ("sqlite", tmp_path / "run.db")
    make_local(own, rig, rule_tables(rig))
    copy = open_database(own)
    assert list(map(tuple, copy.query(statements.LIST_SENSOR_NAMES))) == list(
        map(tuple, rig.query(statements.LIST_SENSOR_NAMES))
    )
    assert [str(row[1]).lower() for row in copy.query(statements.LIST_INSTALLATION)] == [
        str(row[1]).lower() for row in rig.query(statements.LIST_INSTALLATION)
    ]

    def plain(row):
        return row._replace(device_uuid="", sensor_uuid="", is_active=int(row.is_active))

    assert list(map(plain, copy.query(statements.LIST_INSTALLATION))) == list(
        map(plain, rig.query(statements.LIST_INSTALLATION))
    )
    assert make_rules(rule_tables(copy)) == make_rules(rule_tables(rig))
    assert [row[:6] for row in copy.query(statements.LIST_ALL_MODELS)] == [
        (1, 1, "old", "detector", "1", 0), (2, 1, "new", "detector", "1", 1)
    ]  # fmt: skip
    assert [str(row[7])[:19] for row in copy.query(statements.LIST_ALL_MODELS)] == [
        "2024-11-24 10:00:00", "2024-11-24 11:00:00"
    ]  # fmt: skip
    copy.close()


def printed(settings, file, *arguments):
    """What `iot rules` prints, as a file."""
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", "rules", *arguments],
        env=child_environment(environment_of(settings)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    file.write_text(done.stdout, encoding="utf-8")
    return file


def test_what_iot_rules_prints_gives_the_rules_that_are_in_force(settings, rig, tmp_path):
    rules, refused = make_rules(read_rules(printed(settings, tmp_path / "all.json", "--models")))
    assert not refused
    assert rules == LiveRules(settings).load()
    assert len(rules.of(THRESHOLD)) == 3
    assert len(rules.models) == len(rules.of(DELTA)) == 1
    assert rules.models[0].trained_at == 1732446000000
    without = read_rules(printed(settings, tmp_path / "rules.json"))
    assert "ml_models" not in without
    assert make_rules(without)[0].rules == rules.rules


def test_a_file_without_models_leaves_those_of_each_time(settings, rig, tmp_path):
    file = printed(settings, tmp_path / "rules.json")
    first = LiveRules(settings).load()
    rig._connection.execute("UPDATE ml_models SET trained_at = '2024-11-25 11:00:00' WHERE id = 2")
    second = LiveRules(settings).load()
    rig._connection.execute("UPDATE ml_models SET trained_at = '2024-11-26 11:00:00' WHERE id = 2")
    rig._connection.execute("UPDATE alert_thresholds SET threshold_value_max = 70")
    _, rules, with_models = given_rules(rig, file)
    assert (rules.models, with_models) == ((), False)
    given = rules.encode().decode()
    book = rule_book(settings, rig, given, with_models=False)
    for edition in (first, second):
        past = book.rules(edition.version())
        assert past.version == edition.version(), "the file has the same rules"
        assert past.deep_since.tolist() == [edition.models[0].trained_at]
    assert used(rig, file, given, with_models=False) == Used(f"those of {file}", EACH_TIME)
    assert used(rig, None, None, with_models=False) == Used(EACH_TIME, EACH_TIME)


def test_a_file_with_models_replaces_those_of_each_time(settings, rig, tmp_path):
    LiveRules(settings).load()
    file = printed(settings, tmp_path / "rules.json", "--models")
    _, rules, with_models = given_rules(rig, file)
    assert (len(rules.models), with_models) == (1, True)
    given = rules.encode().decode()
    book = rule_book(settings, rig, given, with_models=True)
    assert isinstance(book, OneEdition)
    assert book.rules("").deep_since.tolist() == [1732446000000]
    assert used(rig, file, given, with_models=True) == Used(
        f"those of {file}", f"those of {file} (1), each from its trained_at on"
    )
    file.write_text('{"ml_models": []}')
    _, rules, with_models = given_rules(rig, file)
    assert (rules.models, with_models) == ((), True)
    assert not len(
        rule_book(settings, rig, rules.encode().decode(), with_models=True).rules("").deep
    )


def test_before_the_first_flow_the_models_are_those_in_the_database(settings, rig, tmp_path):
    file = printed(settings, tmp_path / "rules.json")
    given = given_rules(rig, file)[1].encode().decode()
    book = rule_book(settings, rig, given)
    assert book.rules("").deep.tolist() == [1]
    now = "those in the database now"
    assert used(rig, file, given, with_models=False) == Used(f"those of {file}", now)


def test_the_predictions_of_a_model_that_is_not_stored_are_refused_up_front(rig):
    model = TrendModel(table="ml_models", id=2, sensor_id=1, slope_per_minute=1.0, until=1)
    check_stored(rig, [model])
    for changes in ({"id": 9}, {"sensor_id": 2}):
        with pytest.raises(SetupError, match="the database has no model"):
            check_stored(rig, [msgspec.structs.replace(model, **changes)])


def test_tables_in_a_file_replace_tables_of_the_same_name(rig, tmp_path):
    file = tmp_path / "rules.json"
    row = {"sensor_id": 1, "condition_type": "greater_than", "threshold_value_min": 5}
    file.write_text(json.dumps({"alert_thresholds": [row]}))
    tables, rules, _ = given_rules(rig, file)
    now, _ = make_rules(rule_tables(rig))
    assert [(rule.table, rule.high) for rule in rules.of(THRESHOLD)] == [
        ("alert_thresholds", 5.0), ("sensor_threshold_profiles", 7.25)
    ]  # fmt: skip
    assert (rules.of(DELTA), rules.models) == (now.of(DELTA), ())
    assert tables["alert_thresholds"] == [row]
    file.write_text(json.dumps({"alert_thresholds": [row | {"id": 9, "severity": "awful"}]}))
    with pytest.raises(SetupError, match=r"row 9 of alert_thresholds is invalid: .*awful"):
        given_rules(rig, file)


def test_without_a_file_each_time_has_its_own_rules_and_nothing_is_written(settings, rig):
    book = rule_book(settings, rig, None)
    assert isinstance(book, OneEdition)
    assert rig.query(statements.LIST_RULE_VERSIONS) == []
    first = LiveRules(settings).load()
    rig._connection.execute("UPDATE alert_thresholds SET threshold_value_max = 70")
    second = LiveRules(settings).load()
    rig._connection.execute("UPDATE alert_thresholds SET threshold_value_max = 60")
    book = rule_book(settings, rig, None)
    assert isinstance(book, PastRules)
    assert [edition.version for edition in book.editions(0)] == [first.version(), second.version()]
    assert book.rules(first.version()).version == first.version()
    assert len(rig.query(statements.LIST_RULE_VERSIONS)) == 2
    assert book.names.of(1, 1).device == "rig Ñ"
    given = rule_book(settings, rig, first.encode().decode(), with_models=True)
    assert given.rules("").version == decode_rules(first.encode()).version()


ARGUMENTS = ReplayArguments(
    into="dry-run", topic="t", partitions=None, database="d", begin=None, end=None, margin=None,
    sensors=None, rules=None, notify=False, times=(1, 2, 3), language="en",
)  # fmt: skip


def opened(folder, arguments, fails=None):
    def prepare(run):
        assert not run.events.exists()
        run.events.write_text("made")
        if fails:
            raise fails

    return open_run(folder, arguments, lambda: ReplayPlan(arguments, 1, (), None), prepare)


def test_the_same_arguments_find_the_interrupted_run(tmp_path):
    for arguments in (ARGUMENTS, msgspec.structs.replace(ARGUMENTS, into="june")):
        with opened(tmp_path, arguments) as run:
            assert not run.resumed
            with pytest.raises(SetupError, match="another process is running the same"), opened(
                tmp_path, arguments
            ):  # fmt: skip
                pass
        with opened(tmp_path, arguments) as run:
            assert run.resumed
            assert run.plan == ReplayPlan(arguments, 1, (), None)
    other = msgspec.structs.replace(ARGUMENTS, begin="5")
    assert other.run_id != ARGUMENTS.run_id
    with opened(tmp_path, other) as run:
        assert not run.resumed
    named = msgspec.structs.replace(other, into="june")
    with pytest.raises(SetupError, match="begin was None"), opened(tmp_path, named):
        pass


def test_a_start_that_was_interrupted_before_it_wrote_a_plan_starts_over(tmp_path):
    with pytest.raises(RuntimeError), opened(tmp_path, ARGUMENTS, fails=RuntimeError("killed")):
        pass
    with opened(tmp_path, ARGUMENTS) as run:
        assert not run.resumed
        assert run.events.read_text() == "made"


def test_a_plan_that_cannot_be_read_says_what_to_do(tmp_path):
    with opened(tmp_path, ARGUMENTS) as run:
        (run.folder / "run.json").write_text("{}")
    with pytest.raises(SetupError, match=r"remove .*dry-run-\w{12} to start the replay"), opened(
        tmp_path, ARGUMENTS
    ):  # fmt: skip
        pass


def test_a_folder_that_cannot_be_created_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be used: Not a directory"), opened(
        tmp_path / "file", ARGUMENTS
    ):  # fmt: skip
        pass
