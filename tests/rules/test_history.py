import sqlite3
from contextlib import closing
from math import inf
from time import time

import pytest

from contract.errors import SetupError
from contract.settings import Settings
from ops.devices import SensorSpec, register
from rules.history import LiveRules, in_force
from sql.schema import apply_schema, open_database
from tests.pipeline.conftest import wait_until

HOT = SensorSpec("boiler", "temperature", "°C", {"warning": (0, 80)})


@pytest.fixture
def settings(tmp_path):
    made = Settings(iot_sqlite_path=tmp_path / "iot.db", rules_refresh_seconds=3)
    apply_schema(made)
    database = open_database(made)
    register(database, "rig", [HOT, SensorSpec("pump", "power", "W")])
    database.close()
    return made


def execute(settings, statement, *values):
    with closing(sqlite3.connect(settings.iot_sqlite_path, timeout=60)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def editions(book, arrival=0):
    return [(edition.applies_from, edition.version) for edition in book.editions(arrival)]


def now():
    return int(time() * 1000)


def test_the_first_rules_apply_from_the_beginning_and_are_stored_once(settings):
    book = LiveRules(settings)
    first = book.load()
    book.load()
    again = LiveRules(settings)
    again.load()
    assert editions(book) == editions(again) == [(0, first.version())]
    assert len(execute(settings, "SELECT * FROM rule_versions")) == 1


def test_a_change_applies_shortly_after_at_the_same_arrival_time_for_every_process(settings):
    book, other = LiveRules(settings), LiveRules(settings)
    first = book.load()
    other.load()
    execute(settings, "UPDATE alert_thresholds SET threshold_value_max = 70")
    before = now()
    second = book.load()
    assert second.version() != first.version()
    (_, (applies_from, version)) = editions(book)
    assert version == second.version()
    assert before + 2000 <= applies_from <= now() + 2000
    other.load()
    assert editions(other) == editions(book)
    assert in_force(book.editions(0), applies_from - 1).version == first.version()
    assert in_force(book.editions(0), applies_from).version == second.version()
    fresh = LiveRules(settings)
    fresh.load()
    for version in (first.version(), second.version()):
        assert fresh.rules(version).version == version


def test_the_last_valid_version_of_an_invalid_row_stays_in_force(settings):
    book = LiveRules(settings)
    first = book.load()
    execute(settings, "UPDATE alert_thresholds SET condition_type = 'sometimes'")
    assert book.load().version() == first.version()
    assert LiveRules(settings).load().version() == first.version(), "a restart forgets nothing"
    execute(settings, "UPDATE alert_thresholds SET is_active = 0")
    assert len(book.load()) == 0


def test_rules_are_refreshed_in_the_background(settings):
    book = LiveRules(settings)
    book.load()
    book.editions(0)  # starts the thread
    execute(settings, "UPDATE alert_thresholds SET threshold_value_max = 70")
    wait_until(lambda: len(book.editions(0)) > 1)


def test_names_come_from_the_database(settings):
    book = LiveRules(settings)
    book.load()
    named = book.names.of(1, 1)
    assert (named.name, named.unit, named.device) == ("boiler", "°C", "rig")
    assert book.names.of(99, 1).name == "sensor 99"
    assert book.names.device(1).device == "rig"


def test_a_record_waits_for_rules_that_may_apply_to_it(settings):
    book = LiveRules(settings)
    book.load()
    execute(settings, "UPDATE alert_thresholds SET threshold_value_max = 70")
    book._until, book._read_at = 0, -inf  # as after a long outage of the database
    assert len(book.editions(now())) == 2
    assert book._until >= now()


def test_an_arrival_far_ahead_of_the_clock_does_not_wait(settings):
    book = LiveRules(settings)
    book.load()
    assert len(book.editions(now() + 3_600_000)) == 1


def test_a_database_without_schema_is_reported_at_the_start(tmp_path):
    with pytest.raises(SetupError, match="run `python -m sql`"):
        LiveRules(Settings(iot_sqlite_path=tmp_path / "none.db")).load()
