import numpy as np
import pytest

from ml.predict.fleet import outlooks
from ml.predict.forest import SHARE, anomalies
from ml.predict.residuals import NEWEST, residuals
from sql.statements import ForecastSensor
from tests.ml.predict.test_forecast import made

RANDOM = np.random.default_rng(11)


def judged(*values, **options):
    return anomalies(residuals(made(*values, **options)))


def test_a_spike_among_the_newest_readings_is_detected_with_its_column():
    values = 20 + RANDOM.normal(0, 1, (50, 200))
    for place in range(NEWEST):
        values[place, -1 - place] += 15
    detected = judged(*values)
    assert detected.column[:NEWEST].tolist() == [199 - place for place in range(NEWEST)]
    assert (detected.score[:NEWEST] > 0.5).all()
    assert (detected.column[NEWEST:] == -1).sum() >= 44


def test_a_spike_before_the_newest_readings_is_not_reported():
    values = 20 + RANDOM.normal(0, 1, (50, 200))
    values[:, -1 - NEWEST] += 30
    assert (judged(*values).column == -1).mean() > 0.9


@pytest.mark.parametrize("noise", ["normal", "long-tailed", "walk"])
def test_at_most_the_given_share_of_normal_readings_is_flagged(noise):
    flagged = readings = 0
    for _ in range(8):
        steps = {
            "normal": RANDOM.normal(0, 1, (300, 120)),
            "long-tailed": RANDOM.standard_t(3, (300, 120)),
            "walk": RANDOM.normal(0, 1, (300, 120)).cumsum(1),
        }[noise]
        residual = residuals(made(*(20 + steps)))
        flagged += int((anomalies(residual).column >= 0).sum())
        readings += 300 * NEWEST
    assert flagged <= 2 * SHARE * readings


@pytest.mark.parametrize("noise", ["normal", "long-tailed"])
def test_a_deviation_beyond_the_training_range_is_flagged(noise):
    steps = RANDOM.normal(0, 1, (100, 200))
    if noise == "long-tailed":
        steps = RANDOM.standard_t(3, (100, 200))
    steps[:10, -1] = 300
    assert (judged(*(20 + steps)).column[:10] == 199).all()


def test_scales_make_sensors_of_a_type_comparable():
    small, large = RANDOM.normal(0, 0.01, (20, 200)), RANDOM.normal(0, 100, (20, 200))
    small[0, -1] = 1.0
    large[0, -1] = 1.0
    detected = judged(*(20 + small), *(5000 + large))
    assert detected.column[0] == 199
    assert detected.column[20] == -1


def test_a_constant_sensor_is_anomalous_only_when_it_changes():
    moved = [20.0] * 99 + [20.5]
    detected = judged(*[[20.0] * 100] * 5, moved)
    assert detected.column.tolist() == [-1] * 5 + [99]
    assert np.isfinite(residuals(made([20.0] * 100, moved)).feature).all()


def test_rare_steps_of_a_coarse_sensor_are_noise():
    values = 20 + RANDOM.normal(0, 1, (200, 400))
    values[0] = 20.0
    values[0, ::30] = values[0, -1] = 20.1
    assert judged(*values).column[0] == -1
    values[0, -1] = 25.0
    assert judged(*values).column[0] == 399


def test_with_few_readings_nothing_is_tested():
    detected = judged([20.0] * 33 + [99.0], [], [1.0])
    assert detected.column.tolist() == [-1, -1, -1]
    assert not residuals(made([20.0] * 34)).newest.any()
    assert residuals(made([20.0] * 35)).newest.sum() == NEWEST


def test_tested_readings_are_neither_trained_on_nor_held_out():
    residual = residuals(made(RANDOM.normal(0, 1, 100), RANDOM.normal(0, 1, 40)))
    together = residual.trained.astype(int) + residual.held_out + residual.newest
    assert together.max() == 1
    assert residual.trained.sum(1).tolist() == [42, 12]
    assert residual.held_out.sum(1).tolist() == [43, 13]


def test_the_newest_readings_affect_neither_bound_nor_scale():
    values = 20 + RANDOM.normal(0, 1, (30, 100))
    other = values.copy()
    other[:, -NEWEST:] = 1e6
    first, second = residuals(made(*values)), residuals(made(*other))
    assert first.feature[first.held_out] == pytest.approx(second.feature[second.held_out])


def bursts():
    """Rare bursts of noise, and a pair of readings up and down at the end of every sensor."""
    random = np.random.default_rng(10)
    noise = random.normal(0, 1, (300, 150)) * np.where(random.random((300, 150)) < 0.01, 6, 1)
    noise[:, -2] += 4
    noise[:, -1] -= 4
    return 20 + noise


def test_the_forest_detects_combinations_that_the_deviation_misses():
    values = bursts()
    residual = residuals(made(*values))
    bound = np.quantile(residual.deviation[residual.held_out], 1 - SHARE / 2)
    flagged = anomalies(residual).deviation
    assert ((flagged > 0) & (flagged < bound)).any()


def test_the_same_readings_give_the_same_result():
    first, second = judged(*bursts()), judged(*bursts())
    assert first.column.tolist() == second.column.tolist()
    assert first.score.tolist() == second.score.tolist()


def test_an_outlook_has_the_value_that_the_anomaly_was_compared_with():
    values = 20 + RANDOM.normal(0, 1, (3, 200))
    values[1, -2] = 60
    sensors = [ForecastSensor(n, 1, f"s{n}", "temperature", "°C", "rig") for n in (1, 2, 3)]
    by_sensor = {outlook.sensor.id: outlook for outlook, _, _ in outlooks(sensors, made(*values))}
    anomaly = by_sensor[2].anomaly
    assert anomaly.value == 60
    assert anomaly.usual == pytest.approx(20, abs=4)
    assert anomaly.scale == pytest.approx(1, abs=1)
    assert by_sensor[1].anomaly is None
    assert by_sensor[1].judged


def test_models_hold_only_finite_numbers():
    sensors = [ForecastSensor(n, 1, f"s{n}", "x", "", "rig") for n in range(5)]
    values = ([1.0], [5.0] * 30, [], RANDOM.normal(0, 1, 500), [0.0, 1e9] * 100)
    rows = list(outlooks(sensors, made(*values)))
    assert len(rows) == 4
    assert all(model.metadata and b"null" not in bytes(model.metadata) for _, model, _ in rows)
