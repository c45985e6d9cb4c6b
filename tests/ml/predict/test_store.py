from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from contract.errors import RefusedError
from ml.predict.forecast_rows import ModelRow, forecast_row
from ml.predict.store import write_forecast
from rules.line import NAME, TYPE, VERSION
from sql.database import Database
from tests.ml.conftest import threshold
from tests.ml.predict.test_forecast_rows import AT, OUTLOOK, SENSOR

MODEL = ModelRow(
    name=NAME, type=TYPE, version=VERSION, trained_at="2024-11-24 10:00:00.000", refresh=True
)


@pytest.fixture
def outlook(place):
    sensor = place.sensor()
    (device,) = place.row("SELECT device_id FROM sensors WHERE id = ?", sensor)
    return replace(OUTLOOK, sensor=SENSOR._replace(id=sensor, device_id=int(device)))


def row(outlook, at=AT, **more):
    # no such row: an event only quotes the id of its threshold
    high = threshold(outlook.sensor.id, 12, "high", "greater_than", 30.0, None, "warning")
    return forecast_row(
        replace(outlook, predicted_at=at), [high], MODEL, language="en", dedupe_minutes=10, **more
    )


def counts(place, sensor):
    tables = ("predictions", "ml_events", "ml_models", "ml_watermarks")
    written = [
        place.row(f"SELECT COUNT(*) FROM {table} WHERE sensor_id = ?", sensor)[0]
        for table in tables
    ]
    statement = (
        "SELECT COUNT(*) FROM alert_notifications WHERE source = 'ml_event' AND sensor_id = ?"
    )
    return [*written, place.row(statement, sensor)[0]]


def test_concurrent_writers_of_one_sensor_write_each_row_once(place, outlook):
    def write(number):
        database = Database(place.settings)
        try:
            # two moments, four writers each; both within the ten minutes
            at = AT + (number // 4) * 1000
            write_forecast(database, row(outlook, at, last_reading_id=number + 1))
        finally:
            database.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert counts(place, outlook.sensor.id) == [2, 1, 1, 1, 1]


def test_a_refused_row_leaves_no_partial_data(place, outlook):
    for wrong in (
        {"value": 1e12},
        {"device_id": 10**9},
    ):
        made = row(outlook, last_reading_id=1)
        values = {name: getattr(made, name) for name in made.__struct_fields__}
        with pytest.raises(RefusedError):
            write_forecast(place.database, type(made)(**(values | wrong)))
    assert counts(place, outlook.sensor.id) == [0, 0, 0, 0, 0]


def test_a_refreshed_model_keeps_its_row_and_its_active_flag(place, outlook):
    sensor = outlook.sensor.id
    write_forecast(place.database, row(outlook))
    place.do("UPDATE ml_models SET is_active = 0, version = 'old' WHERE sensor_id = ?", sensor)
    write_forecast(place.database, row(outlook, AT + 1000))
    assert place.row(
        "SELECT version, is_active FROM ml_models WHERE sensor_id = ?", sensor
    ) == (VERSION, 0)  # fmt: skip


def test_a_forecast_without_a_watermark_does_not_change_it(place, outlook):
    sensor = outlook.sensor.id
    statement = "SELECT last_reading_id FROM ml_watermarks WHERE sensor_id = ?"
    write_forecast(place.database, row(outlook, last_reading_id=7))
    write_forecast(place.database, row(outlook, AT + 1000))
    assert place.row(statement, sensor) == (7,)
    write_forecast(place.database, row(outlook, AT + 1000, last_reading_id=8))
    assert place.row(statement, sensor) == (8,)


def test_names_keep_their_special_characters(place, outlook):
    named = replace(outlook, sensor=outlook.sensor._replace(name='á"\\ñ', device="sótano"))
    write_forecast(place.database, row(named))
    (text,) = place.row(
        "SELECT explanation FROM predictions WHERE sensor_id = ?", outlook.sensor.id
    )
    assert 'á\\"\\\\ñ of sótano' in text
