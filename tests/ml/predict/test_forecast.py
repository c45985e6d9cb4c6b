import msgspec
import numpy as np
import pytest

from ml.predict.forecast import FEW, LINE, MEAN, SLOPE, ahead, forecast
from ml.predict.ridge import expected, fit
from ml.predict.series import series
from rules.line import LineModel, moment

START = 1732442400000
RANDOM = np.random.default_rng(7)


def made(*values, step=60_000, start=START):
    """Sensors 1, 2, .. with these values, `step` ms apart."""
    rows = [
        (sensor, sensor * 10_000 + place, 1000 * (start + place * step), 0, value)
        for sensor, of_one in enumerate(values, 1)
        for place, value in enumerate(of_one)
    ]
    RANDOM.shuffle(rows)
    return series(range(1, len(values) + 1), rows, 500)


def plainly(value, horizon):
    """The forecast of one sensor whose readings are a minute apart, step by step."""
    x = np.arange(len(value), dtype=float)
    if len(value) < 20:
        return np.mean(value[-5:]), 0.2
    # ridge with a free intercept, by its normal equations
    design = np.column_stack([np.ones_like(x), x - x.mean()])
    slope = np.linalg.solve(design.T @ design + np.diag([0.0, 1.0]), design.T @ value)[1]
    missed = value - value.mean() - slope * (x - x.mean())
    memory = min(max(float(missed[1:] @ missed[:-1] / (missed @ missed)), 0.0), 0.9999)
    error = missed.std() / np.sqrt(((x - x.mean()) ** 2).sum() + 1.0)
    if abs(slope) / error * np.sqrt((1 - memory) / (1 + memory)) < 4.0:
        slope = 0.0
    missed = value - value.mean() - slope * (x - x.mean())
    memory = min(max(float(missed[1:] @ missed[:-1] / (missed @ missed)), 0.0), 0.9999)
    r2 = 1.0 - (missed @ missed) / ((value - value.mean()) ** 2).sum()
    line = value.mean() + slope * (x[-1] + horizon - x.mean())
    confidence = min(max(0.5 * (r2 + min(1.0, len(value) / 500)), 0.2), 0.95)
    return line + missed[-1] * memory**horizon, confidence


def test_a_line_is_followed_for_no_longer_than_it_was_seen_to_hold():
    rising = np.arange(60.0)
    (short,) = forecast(made(rising, step=1_000), 10).value
    (long,) = forecast(made(rising, step=60_000), 10).value
    assert 59 < short < 59 + 59  # not 659
    assert abs(long - 69) < 0.5


def test_forecasts_of_many_are_those_of_each_alone_whatever_their_lengths():
    values = [
        20
        + RANDOM.normal(0, 1, count)
        + slope * np.arange(count)
        + walk * RANDOM.normal(0, 1, count).cumsum()
        for count in (1, 2, 5, 19, 20, 21, 60, 499, 500)
        for slope in (0.0, 0.05, -2.0)
        for walk in (0.0, 0.3)
    ]  # fmt: skip
    found = forecast(made(*values), 10)
    wanted = np.array([plainly(value, 10) for value in values])
    np.testing.assert_allclose(found.value, wanted[:, 0], rtol=1e-9)
    np.testing.assert_allclose(found.confidence, wanted[:, 1], rtol=1e-9)
    assert found.window.tolist() == [len(v) if len(v) >= 20 else min(len(v), 5) for v in values]
    assert found.straight.tolist() == [len(value) >= 20 for value in values]


def test_only_the_newest_readings_count_in_order_of_time_then_seq():
    rows = [(1, 1, 5, 0, 1.0), (1, 2, 9, 1, 4.0), (1, 3, 9, 0, 3.0), (1, 9, 7, 0, 2.0)]
    found = series([1], rows, 3)
    assert found.value.tolist() == [[2.0, 3.0, 4.0]]
    assert found.newest_id.tolist() == [2]


def test_a_sensor_without_readings_and_one_at_a_single_moment_give_finite_numbers():
    found = forecast(made([], [5.0] * 40, [5.0, 6.0] * 20), 10)
    still = forecast(made([5.0, 6.0] * 20, step=0), 10)
    for one in (found, still):
        assert np.isfinite(one.value).all()
        assert np.isfinite(one.confidence).all()
        assert np.isfinite(one.lines.r2).all()
    assert still.value[0] == pytest.approx(5.5)


def test_a_constant_series_stays_what_it_is():
    found = forecast(made([0.1] * 60, [1e9] * 60, [-7.0] * 60), 1440)
    assert found.value.tolist() == pytest.approx([0.1, 1e9, -7.0])
    assert found.trend.tolist() == [0, 0, 0]
    assert found.lines.slope.tolist() == [0.0, 0.0, 0.0]


def test_a_line_goes_on_and_tells_its_trend():
    x = np.arange(100.0)
    found = forecast(made(5 + 0.5 * x, 5 - 0.5 * x, 5 + 0.0005 * x), 10)
    assert found.value.tolist() == pytest.approx([59.5, -49.5, 5.0545], abs=0.01)
    assert found.trend.tolist() == [1, -1, 0]


def test_noise_of_a_minute_is_no_slope_for_the_next_ten():
    values = 20 + RANDOM.normal(0, 2, (200, 60))
    found = forecast(made(*values, step=1000), 10)
    assert (np.abs(found.value - 20) < 2).mean() > 0.98
    assert (found.trend == 0).mean() > 0.98


def test_readings_that_stay_near_the_one_before_need_more_to_be_a_trend():
    values = np.zeros((200, 500))
    noise = RANDOM.normal(0, 1, values.shape)
    for place in range(1, 500):
        values[:, place] = 0.9 * values[:, place - 1] + noise[:, place]
    assert (forecast(made(*(20 + values)), 10).trend == 0).mean() > 0.8


def test_a_steep_line_never_leaves_what_the_column_holds():
    found = forecast(made(np.arange(50.0) * 2e8), 1440)
    assert found.value.tolist() == [9_999_999_999.0]


def test_no_reading_has_any_part_in_what_it_is_expected_to_be():
    values = 20 + RANDOM.normal(0, 1, (2, 60)) + 0.1 * np.arange(60)
    said = expected(made(*values))
    for place in (15, 30, 59):
        before = fit(made(*values[:, :place]))
        wanted = before.at(np.full(2, float(place)))
        assert said[:, place] == pytest.approx(wanted, rel=1e-9)
    other = values.copy()
    other[:, 40:] += 1000
    assert (expected(made(*other))[:, :41] == pytest.approx(said[:, :41]))  # fmt: skip


LINE_MODEL = LineModel(
    slope_per_minute=0.5,
    intercept=10.0,
    residual_scale=1.0,
    r2=0.8,
    points=500,
    trained_from=moment(START - 3_600_000),
    trained_to=moment(START),
)


def test_without_a_model_the_forecast_is_the_mean_of_the_window():
    found = ahead(made([1.0, 2.0, 6.0]), 10, 60, None)
    assert (found.value, found.window, found.engine, found.trend) == (3.0, 3, MEAN, 0)
    assert found.confidence == pytest.approx(3 / 60)


def test_a_model_that_saw_the_readings_gives_its_slope_to_their_mean():
    found = ahead(made([1.0, 2.0, 6.0], start=START - 120_000), 10, 60, LINE_MODEL)
    assert found.value == pytest.approx(3.0 + 0.5 * (1 + 10))
    assert (found.engine, found.trend) == (SLOPE, 1)
    assert found.confidence == pytest.approx(0.9)


def test_a_models_slope_is_followed_no_longer_than_it_is_believed():
    brief = msgspec.structs.replace(LINE_MODEL, trained_from=moment(START - 180_000))
    found = ahead(made([1.0, 2.0, 6.0], start=START - 120_000), 10, 60, brief)
    assert found.value == pytest.approx(3.0 + 0.5 * (1 + 3))


def test_an_old_model_gives_way_to_the_line_through_the_window():
    x = np.arange(60.0)
    late = made(100 - x, start=START + 3_600_001)
    found = ahead(late, 10, 60, LINE_MODEL)
    assert found.engine == LINE
    assert found.value == pytest.approx(31.0, abs=0.1)
    assert found.trend == -1
    fresh = msgspec.structs.replace(LINE_MODEL, trained_to=moment(START + 7_200_000))
    assert ahead(late, 10, 60, fresh).engine == SLOPE


def test_few_readings_give_the_mean_of_the_last_five():
    found = forecast(made([100.0, *range(10)]), 10)
    assert found.value.tolist() == [np.mean([5, 6, 7, 8, 9])]
    assert found.confidence.tolist() == [0.2]
    assert found.window.tolist() == [FEW]
