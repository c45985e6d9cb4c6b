from collections.abc import Callable
from pickle import dumps, loads
from typing import Any

import numpy as np
import pytest

from bench.ewma import EwmaDetector
from bench.iforest import IsolationForestDetector
from bench.windowed_gaussian import WindowedGaussianDetector
from contract.errors import SetupError
from contract.table import bytes_of, restore, snapshot_of
from ml.online.level_noise import LevelNoise
from ml.online.self_similarity import SelfSimilarity
from tests.ml.streams import QUARTER, SECOND, noise, scores


def small_forest():
    return IsolationForestDetector(memory=150, refit=100, trees=5)


EVERY: dict[str, Callable[[], Any]] = {
    "light": LevelNoise,
    "light that stops learning": lambda: LevelNoise(learn_for=200),
    "deep": SelfSimilarity,
    "deep that stops learning": lambda: SelfSimilarity(learn_for=200),
    "deep with a short memory": lambda: SelfSimilarity(memory=64),
    "ewma": EwmaDetector,
    "windowed gaussian": lambda: WindowedGaussianDetector(window=200, renew=50),
    "isolation forest": small_forest,
}
MOST_BYTES = {"light": 512, "deep": 64 * 1024}
POINTS = 400

detectors = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)


def sensors():
    """(N, 7) sensors of different kinds, with missing panes."""
    rng = np.random.default_rng(1)
    value = np.stack(
        [
            rng.normal(size=POINTS),
            np.cumsum(rng.normal(size=POINTS)),
            np.full(POINTS, 20.0),
            np.sin(np.arange(POINTS) / 9) * 5 + rng.normal(size=POINTS) / 9,
            np.where(np.arange(POINTS) < 300, 0.0, 1e6),
            np.round(rng.standard_t(2, POINTS)),
            np.exp(rng.normal(size=POINTS) * 3),
        ],
        axis=1,
    )
    missing = rng.random(value.shape) < 0.1
    missing[150:180, 1] = True
    missing[:50, 3] = True
    return np.where(missing, np.nan, value)


@detectors
def test_scores_of_extreme_finite_values_are_finite_and_not_negative(make):
    rng = np.random.default_rng(2)
    extreme = [0.0, 1e308, -1e308, 5e-324, -5e-324, 1e-300, 1e154, 1.0, -1.0]
    value = np.concatenate(
        (
            rng.choice(extreme, size=(300, 3)),
            np.repeat(extreme, 60)[:, None].repeat(3, axis=1),
            noise(100, 3),
        )
    )
    with np.errstate(all="raise", under="ignore"):
        given = scores(make(), value)
    assert np.isfinite(given).all()
    assert (given >= 0).all()


@detectors
def test_scores_are_0_in_the_grace_period_and_not_always_0_afterwards(make):
    detector = make()
    given = scores(detector, noise(POINTS, 20))
    assert not given[: detector.grace_period].any()
    assert given[detector.grace_period :].any()


@detectors
def test_an_unpickled_detector_gives_the_same_scores(make):
    value = sensors()
    detector = make()
    whole = scores(make(), value)
    first = scores(detector, value[:250], end=SECOND * np.arange(1, 251))
    detector = loads(dumps(detector))  # noqa: S301 - our own
    rest = scores(detector, value[250:], end=SECOND * np.arange(251, POINTS + 1))
    assert np.array_equal(np.concatenate((first, rest)), whole, equal_nan=True)


@detectors
def test_a_snapshot_has_only_plain_values_and_restores_the_whole_state(make):
    value = sensors()
    detector, other = make(), make()
    first = scores(detector, value[:250], end=SECOND * np.arange(1, 251))
    snapshot = snapshot_of(tables(detector))
    columns = [value for state in snapshot.values() for value in state.values()]
    assert all(isinstance(value, int | tuple | np.ndarray) for value in columns)
    scores(detector, noise(50, 7), end=SECOND * np.arange(251, 301))  # a snapshot is a copy
    restore(tables(other), loads(dumps(snapshot)))  # noqa: S301 - our own
    rest = scores(other, value[250:], end=SECOND * np.arange(251, POINTS + 1))
    whole = scores(make(), value)
    assert np.array_equal(np.concatenate((first, rest)), whole, equal_nan=True)


@detectors
def test_a_snapshot_with_other_columns_is_refused(make):
    detector = make()
    detector.grow(2)
    name, state = next(iter(snapshot_of(tables(detector)).items()))
    column = next(iter(state))
    with pytest.raises(SetupError, match="new directory"):
        restore(tables(make()), {name: {**state, column: (("mood",), np.zeros((1, 2)))}})


@detectors
def test_the_state_does_not_grow_with_the_number_of_panes(make):
    detector = make()
    scores(detector, noise(200, 3))
    before = size(detector)
    scores(detector, noise(400, 3), end=SECOND * np.arange(201, 601))
    assert size(detector) == before


@pytest.mark.parametrize("name", MOST_BYTES)
def test_the_state_per_sensor_is_bounded(name):
    detector = EVERY[name]()
    detector.grow(10)
    assert 0 < size(detector) / 10 <= MOST_BYTES[name]


@detectors
def test_the_order_of_sensors_does_not_matter(make):
    value = sensors()
    order = np.array([4, 0, 6, 2, 5, 1, 3])
    assert np.array_equal(
        scores(make(), value)[:, order], scores(make(), value[:, order]), equal_nan=True
    )


@detectors
def test_the_array_form_gives_the_same_scores_as_single_sensors(make):
    value = sensors()
    alone = [scores(make(), value[:, sensor]) for sensor in range(value.shape[1])]
    assert np.array_equal(scores(make(), value), np.concatenate(alone, axis=1), equal_nan=True)


@detectors
def test_sensors_added_later_do_not_affect_the_others(make):
    value = noise(POINTS, 3)
    value[:250, 2] = np.nan
    detector = make()
    first = scores(detector, value[:250, :2])
    rest = scores(detector, value[250:], end=SECOND * np.arange(251, POINTS + 1))
    late = scores(make(), value[250:, 2], end=SECOND * np.arange(251, POINTS + 1))
    both = scores(make(), value[:, :2])
    assert np.array_equal(np.concatenate((first, rest[:, :2])), both)
    assert np.array_equal(rest[:, 2:], late)


@pytest.mark.parametrize("make", [LevelNoise, SelfSimilarity], ids=["light", "deep"])
@pytest.mark.parametrize("sensors", [1, 3, 17, 2500])
def test_many_sensors_score_like_a_single_one(make, sensors):
    value = noise(170 if sensors > 100 else 1200, 1)
    value = np.where(np.arange(len(value)) % 50 == 49, 9.0, value[:, 0])[:, None]
    if make is SelfSimilarity and sensors > 100:
        sensors = 100
    many = scores(make(), value.repeat(sensors, axis=1), step=QUARTER // 3)
    assert np.array_equal(many, scores(make(), value, step=QUARTER // 3).repeat(sensors, axis=1))


def tables(detector):
    return getattr(detector, "tables", {"detector": detector})


def size(detector):
    return bytes_of(tables(detector))
