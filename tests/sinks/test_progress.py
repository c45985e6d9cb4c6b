"""Stored progress, and the error when a database is behind the flow."""

import pytest

from contract.errors import SetupError
from contract.settings import Settings
from ops.devices import SensorSpec, register
from sinks.progress import Covered, StoredProgress, write_progress
from sinks.readings import readings_sink
from sql import statements

from .test_table import readings

TOPIC = Settings().kafka_topic


def at(columns, partition, offset):
    columns.records.partition[:] = partition
    columns.records.offset[:] = offset
    return columns


@pytest.fixture
def sensor(database):
    register(database, "rig", [SensorSpec("boiler", "temperature", "°C")])


def test_a_snapshot_stores_the_last_record_of_each_partition(settings, database, sensor):
    part = readings_sink(settings, "id", progress=True).build_part("store", "0", None)
    part.write_batch([at(readings((1000, 0, 1.0)), 3, 7), at(readings((2000, 0, 1.0)), 4, 9)])
    part.write_batch([at(readings((3000, 0, 1.0)), 3, 8), at(readings(), 4, -1)])
    assert database.query(statements.LIST_PROGRESS, TOPIC) == []
    part.snapshot()
    progress = [tuple(row) for row in database.query(statements.LIST_PROGRESS, TOPIC)]
    assert progress == [(3, "id", 8), (4, "id", 9)]
    part.write_batch([at(readings((4000, 0, 1.0)), 4, 2)])  # another log, from its start
    part.snapshot()
    part.close()
    assert [tuple(row) for row in database.query(statements.LIST_PROGRESS, TOPIC)][1] == (
        4,
        "id",
        2,
    )


def test_the_sink_of_a_replay_does_not_change_the_progress(settings, database, sensor):
    part = readings_sink(settings).build_part("store", "0", None)
    part.write_batch([at(readings((1000, 0, 1.0)), 3, 7)])
    part.snapshot()
    part.close()
    assert database.query(statements.LIST_PROGRESS, TOPIC) == []


def test_a_database_that_is_behind_the_flow_is_refused(settings, database, sensor):
    write_progress(database.execute, {3: Covered(TOPIC, "id", 7), 4: Covered(TOPIC, None, 9)})
    stored = StoredProgress(database, TOPIC)
    assert (stored.last(3), stored.last(5)) == (7, -1)
    stored.check(3, "id", 7)
    stored.check(3, "id", 0)
    stored.check(3, "other", 99)  # the topic was recreated
    stored.check(4, "other", 9)
    for partition, last in ((3, 8), (4, 10), (5, 0)):
        with pytest.raises(SetupError, match=r"older than the recovery store.*iot replay --into l"):
            stored.check(partition, "id", last)


def test_an_empty_database_is_refused_but_one_from_before_progress_was_stored_is_not(
    settings, database, sensor
):
    with pytest.raises(SetupError, match="it has nothing, but the flow has read those up to 5"):
        StoredProgress(database, TOPIC).check(3, "id", 5)
    part = readings_sink(settings).build_part("store", "0", None)
    part.write_batch([readings((1000, 0, 1.0))])
    part.close()
    StoredProgress(database, TOPIC).check(3, "id", 5)
