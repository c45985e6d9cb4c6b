import numpy as np
import pytest

from ml.online import cadence, calibration, tail
from ml.online.calibration import Calibration
from ml.online.tail import Tail


def test_the_tail_extrapolates_a_power_law():
    rng = np.random.default_rng(0)
    excess = rng.exponential(0.3, (8000, 50))  # logarithms of a power law
    state = np.zeros((len(tail.FIELDS), 50))
    for values in excess:
        Tail(most=3.0).score_then_learn(state, values)
    far = np.full(50, 0.3 * np.log(1e5))
    score = Tail(most=3.0).score_then_learn(state, far)
    assert np.median(score) == pytest.approx(5, abs=0.5)


def test_one_outlier_hardly_changes_the_tail():
    rng = np.random.default_rng(0)
    state = np.zeros((len(tail.FIELDS), 1))
    for value in rng.normal(size=2000):
        Tail().score_then_learn(state, np.array([value]))
    before = state.copy()
    Tail().score_then_learn(state, np.array([1e3]))
    assert np.allclose(state[1:], before[1:], rtol=0.02, atol=0.02)


def test_the_calibration_corrects_wrong_claims():
    rng = np.random.default_rng(1)
    claimed = 1.3 * rng.exponential(1 / np.log(10), (20_000, 50))  # too high
    state = np.zeros((len(calibration.FIELDS), 50))
    given = np.array([Calibration().score_then_learn(state, scores) for scores in claimed])[8000:]
    for bound in (1.5, 2.0, 2.5):
        assert (claimed >= bound).mean() > 1.8 * 10**-bound
        assert (given >= bound).mean() == pytest.approx(10**-bound, rel=0.5)


def test_the_calibration_keeps_the_order_of_scores():
    state = np.array([[1000.0] * 3, [-0.99, 0.0, 20.0], [20.0, 0.0, -0.99]])
    given = [
        Calibration().score_then_learn(state.copy(), np.full(3, s)) for s in np.linspace(0, 9, 99)
    ]
    assert (np.diff(given, axis=0) > 0).all()


def test_missing_panes_are_counted_at_every_interval():
    for step in (1_000.0, 300_000.0):
        state = np.zeros((len(cadence.FIELDS), 1))
        gaps = [
            float(cadence.missing(state, np.array([seen]), np.array([end * step]))[0])
            for seen, end in enumerate((1, 2, 3, 4, 6, 7, 17, 18))
        ]
        assert gaps == [0, 0, 0, 0, 1, 0, 9, 0]


def test_the_interval_recovers_quickly_from_an_initial_gap():
    state = np.zeros((len(cadence.FIELDS), 1))
    for seen, end in enumerate((0, 3600, *range(3601, 3700))):
        cadence.missing(state, np.array([float(seen)]), np.array([1000.0 * end]))
    assert state[1, 0] == pytest.approx(1000, rel=0.2)
