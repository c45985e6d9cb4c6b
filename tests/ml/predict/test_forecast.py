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
    """The series of sensors 1, 2, ... with these values, `step` ms apart."""
    rows = [
        (sensor, sensor * 10_000 + place, 1000 * (start + place * step), 0, value)
        for sensor, of_sensor in enumerate(values, 1)
        for place, value in enumerate(of_sensor)
    ]
    RANDOM.shuffle(rows)
    return series(range(1, len(values) + 1), rows, 500)


def reference(value, horizon):
    """Reference implementation: the forecast of one sensor with a reading per minute."""
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


def test_a_line_is_extrapolated_no_further_than_its_own_time_span():
    rising = np.arange(60.0)
    (short,) = forecast(made(rising, step=1_000), 10).value
    (long,) = forecast(made(rising, step=60_000), 10).value
    assert 59 < short < 59 + 59  # not 659
    assert abs(long - 69) < 0.5


def test_forecasts_of_many_sensors_equal_those_of_single_sensors():
    values = [
        20
        + RANDOM.normal(0, 1, count)
        + slope * np.arange(count)
        + walk * RANDOM.normal(0, 1, count).cumsum()
        for count in (1, 2, 5, 19, 20, 21, 60, 499, 500)
        for slope in (0.0, 0.05, -2.0)
        for walk in (0.0, 0.3)
    ]  # fmt: skip
    forecasts = forecast(made(*values), 10)
    wanted = np.array([reference(value, 10) for value in values])
    np.testing.assert_allclose(forecasts.value, wanted[:, 0], rtol=1e-9)
    np.testing.assert_allclose(forecasts.confidence, wanted[:, 1], rtol=1e-9)
    assert forecasts.window.tolist() == [len(v) if len(v) >= 20 else min(len(v), 5) for v in values]
    assert forecasts.straight.tolist() == [len(value) >= 20 for value in values]


def test_only_the_newest_readings_count_ordered_by_time_then_seq():
    rows = [(1, 1, 5, 0, 1.0), (1, 2, 9, 1, 4.0), (1, 3, 9, 0, 3.0), (1, 9, 7, 0, 2.0)]
    newest = series([1], rows, 3)
    assert newest.value.tolist() == [[2.0, 3.0, 4.0]]
    assert newest.newest_id.tolist() == [2]


def test_no_readings_and_readings_at_a_single_moment_give_finite_numbers():
    forecasts = forecast(made([], [5.0] * 40, [5.0, 6.0] * 20), 10)
    still = forecast(made([5.0, 6.0] * 20, step=0), 10)
    for result in (forecasts, still):
        assert np.isfinite(result.value).all()
        assert np.isfinite(result.confidence).all()
        assert np.isfinite(result.lines.r2).all()
    assert still.value[0] == pytest.approx(5.5)


def test_the_forecast_of_a_constant_series_is_its_value():
    forecasts = forecast(made([0.1] * 60, [1e9] * 60, [-7.0] * 60), 1440)
    assert forecasts.value.tolist() == pytest.approx([0.1, 1e9, -7.0])
    assert forecasts.trend.tolist() == [0, 0, 0]
    assert forecasts.lines.slope.tolist() == [0.0, 0.0, 0.0]


def test_a_line_is_extrapolated_with_its_trend():
    x = np.arange(100.0)
    forecasts = forecast(made(5 + 0.5 * x, 5 - 0.5 * x, 5 + 0.0005 * x), 10)
    assert forecasts.value.tolist() == pytest.approx([59.5, -49.5, 5.0545], abs=0.01)
    assert forecasts.trend.tolist() == [1, -1, 0]


def test_a_minute_of_noise_gives_no_slope():
    values = 20 + RANDOM.normal(0, 2, (200, 60))
    forecasts = forecast(made(*values, step=1000), 10)
    assert (np.abs(forecasts.value - 20) < 2).mean() > 0.98
    assert (forecasts.trend == 0).mean() > 0.98


def test_autocorrelated_readings_rarely_give_a_trend():
    values = np.zeros((200, 500))
    noise = RANDOM.normal(0, 1, values.shape)
    for place in range(1, 500):
        values[:, place] = 0.9 * values[:, place - 1] + noise[:, place]
    assert (forecast(made(*(20 + values)), 10).trend == 0).mean() > 0.8


def test_a_forecast_never_exceeds_the_range_of_its_column():
    forecasts = forecast(made(np.arange(50.0) * 2e8), 1440)
    assert forecasts.value.tolist() == [9_999_999_999.0]


def test_a_reading_does_not_contribute_to_its_expected_value():
    values = 20 + RANDOM.normal(0, 1, (2, 60)) + 0.1 * np.arange(60)
    line = expected(made(*values))
    for place in (15, 30, 59):
        before = fit(made(*values[:, :place]))
        wanted = before.at(np.full(2, float(place)))
        assert line[:, place] == pytest.approx(wanted, rel=1e-9)
    other = values.copy()
    other[:, 40:] += 1000
    assert (expected(made(*other))[:, :41] == pytest.approx(line[:, :41]))  # fmt: skip


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
    result = ahead(made([1.0, 2.0, 6.0]), 10, 60, None)
    assert (result.value, result.window, result.engine, result.trend) == (3.0, 3, MEAN, 0)
    assert result.confidence == pytest.approx(3 / 60)


def test_a_current_model_moves_the_mean_along_its_slope():
    result = ahead(made([1.0, 2.0, 6.0], start=START - 120_000), 10, 60, LINE_MODEL)
    assert result.value == pytest.approx(3.0 + 0.5 * (1 + 10))
    assert (result.engine, result.trend) == (SLOPE, 1)
    assert result.confidence == pytest.approx(0.9)


def test_a_models_slope_is_followed_only_while_the_model_is_valid():
    brief = msgspec.structs.replace(LINE_MODEL, trained_from=moment(START - 180_000))
    result = ahead(made([1.0, 2.0, 6.0], start=START - 120_000), 10, 60, brief)
    assert result.value == pytest.approx(3.0 + 0.5 * (1 + 3))


def test_an_old_model_is_replaced_by_the_line_through_the_window():
    x = np.arange(60.0)
    late = made(100 - x, start=START + 3_600_001)
    result = ahead(late, 10, 60, LINE_MODEL)
    assert result.engine == LINE
    assert result.value == pytest.approx(31.0, abs=0.1)
    assert result.trend == -1
    fresh = msgspec.structs.replace(LINE_MODEL, trained_to=moment(START + 7_200_000))
    assert ahead(late, 10, 60, fresh).engine == SLOPE


def test_few_readings_give_the_mean_of_the_last_five():
    forecasts = forecast(made([100.0, *range(10)]), 10)
    assert forecasts.value.tolist() == [np.mean([5, 6, 7, 8, 9])]
    assert forecasts.confidence.tolist() == [0.2]
    assert forecasts.window.tolist() == [FEW]
