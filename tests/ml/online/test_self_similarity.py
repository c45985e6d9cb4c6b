import numpy as np
import pytest

from ml.online.self_similarity import SelfSimilarity
from tests.ml.streams import QUARTER, daily, noise, scores

UNUSUAL = 2.0


def share(given):
    return (given >= UNUSUAL).mean()


def test_a_wave_of_another_frequency_is_unusual_although_its_values_are_not():
    point = np.arange(2000)[:, None]
    value = 10 * np.sin(point / 10) + noise(2000, 10)
    value[1500:1600] = 10 * np.sin(point[1500:1600] / 4) + noise(100, 10, seed=1)
    given = scores(SelfSimilarity(), value)
    assert share(given[1500:1600].max(axis=0)) == 1.0
    assert share(given[700:1500]) < 0.02


def test_night_values_at_noon_are_unusual():
    value = daily(14, 10)
    nine, five = 12 * 96 + 36, 12 * 96 + 68
    value[nine:five] = 10 + noise(five - nine, 10, seed=1)
    given = scores(SelfSimilarity(), value, step=QUARTER)
    assert share(given[nine : nine + 12].max(axis=0)) == 1.0
    assert share(given[7 * 96 : 12 * 96]) < 0.02


@pytest.mark.parametrize("step", [120_000, 300_000, 1_800_000, 3_600_000])
def test_days_are_compared_at_every_interval(step):
    value = daily(12, 3, step)
    a_day = 86_400_000 // step
    nine, five = 10 * a_day + 9 * a_day // 24, 10 * a_day + 17 * a_day // 24
    value[nine + 1 : five] = 10 + noise(five - nine - 1, 3, seed=1)
    given = scores(SelfSimilarity(memory=256), value, step=step)
    assert share(given[nine + 1 : five + 1].max(axis=0)) == 1.0


@pytest.mark.parametrize("shift", [20.0, -50.0, 1e6])
def test_a_level_shift_is_unusual_at_once_and_normal_after_130_panes(shift):
    value = noise(2500, 10)
    value[1500:] += shift
    given = scores(SelfSimilarity(), value)
    assert share(given[1500:1520]) > 0.95
    assert share(given[1630:]) < 0.02


def test_what_happened_once_before_is_still_unusual():
    value = noise(1500, 10)
    value[[700, 1200]] += 30
    given = scores(SelfSimilarity(), value)
    assert share(given[700]) == 1.0
    assert share(given[1200]) == 1.0


def test_a_constant_sensor_is_normal_and_its_change_is_unusual_for_a_while():
    value = np.full(2000, 21.5)
    assert not share(scores(SelfSimilarity(), value))
    value[1000:] = 21.6
    given = scores(SelfSimilarity(), value)
    assert share(given[1000:1010]) == 1.0
    assert not share(given[1250:])


@pytest.mark.parametrize("memory", [0, 32, 100])
def test_an_invalid_memory_is_refused(memory):
    with pytest.raises(ValueError, match="memory"):
        SelfSimilarity(memory=memory)


@pytest.mark.parametrize("unit", [2.0**20, -(2.0**-20)])
def test_units_do_not_matter(unit):
    value = daily(8, 3)
    plain = scores(SelfSimilarity(), value, step=QUARTER)
    assert np.allclose(scores(SelfSimilarity(), unit * value, step=QUARTER), plain, atol=1e-6)


def test_days_are_compared_after_half_a_day_is_missing():
    value = daily(14, 10)
    nine, five = 12 * 96 + 36, 12 * 96 + 68
    value[10 * 96 : 10 * 96 + 48] = np.nan
    value[nine:five] = 10 + noise(five - nine, 10, seed=1)
    given = scores(SelfSimilarity(), value, step=QUARTER)
    assert share(given[nine : nine + 12].max(axis=0)) == 1.0


def test_missing_panes_are_normal_and_hide_no_anomalies():
    rng = np.random.default_rng(3)
    value = daily(20, 10)
    value[rng.random(value.shape) < 0.1] = np.nan
    value[11 * 96 : 13 * 96] = np.nan  # two days
    value[18 * 96] = 200.0
    given = scores(SelfSimilarity(), value, step=QUARTER)
    known = ~np.isnan(given)
    assert share(given[800 : 18 * 96][known[800 : 18 * 96]]) < 0.02
    spike = given[18 * 96]
    assert share(spike[~np.isnan(spike)]) == 1.0


@pytest.mark.parametrize("kind", ["normal", "Laplace", "autocorrelated", "daily"])
def test_on_steady_noise_at_most_twice_the_requested_panes_are_unusual(kind):
    """And at one pane in 100, at least a tenth of the requested ones."""
    value = noise(7000, 20)
    if kind == "Laplace":
        value = np.random.default_rng(4).laplace(size=value.shape)
    elif kind == "daily":
        value += 3 * np.sin(np.arange(7000) * 2 * np.pi / 96)[:, None]
    elif kind == "autocorrelated":
        for point in range(1, len(value)):
            value[point] += 0.9 * value[point - 1]
    given = scores(SelfSimilarity(), value, step=QUARTER if kind == "daily" else 1_000)
    assert 1e-2 / 10 < (given[1500:] >= 2).mean() < 1e-2 * 2
    assert (given[1500:] >= 3).mean() < 1e-3 * 2


def test_what_is_normal_is_frozen_after_learning_ends():
    value = noise(1200, 10)
    value[800:] += 20
    given = scores(SelfSimilarity(learn_for=400), value)
    assert share(given[802:]) == 1.0
    assert share(given[400:800]) < 0.05
