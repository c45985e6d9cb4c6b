from pickle import dumps, loads

import numpy as np
import pytest

from contract.level import Level
from contract.table import restore, snapshot_of
from ml.online.budget import FIELDS, Budget
from ml.online.level_noise import LevelNoise
from ml.online.partition import PartitionDetector
from ml.online.self_similarity import SelfSimilarity
from rules.detector import Bounds
from tests.ml.streams import QUARTER, SECOND, daily, noise

IDS = np.array([70, 3, 41, 8, 100])
POINTS = 420


def panes():
    """(sensor_id, end, mean) of five sensors by time; one in ten is missing, some are unusual."""
    value = noise(POINTS, len(IDS))
    for index in range(len(IDS)):
        value[250 + 20 * index : 260 + 20 * index, index] += 40
    rng = np.random.default_rng(5)
    point, sensor = np.nonzero(rng.random(value.shape) > 0.1)
    return IDS[sensor], (point + 1) * SECOND, value[point, sensor]


def small():
    return PartitionDetector(
        LevelNoise(grace_period=50),
        SelfSimilarity(memory=64, grace_period=60),
        Bounds(warn=8640.0, critical=864.0),
    )


def levels(detector, stream, cuts):
    """The levels of a stream split at `cuts`; each piece is sorted by sensor and end."""
    sensor_id, end, mean = stream
    given = np.empty(len(end), np.int8)
    for points in np.split(np.arange(len(end)), cuts):
        piece = points[np.lexsort((end[points], sensor_id[points]))]
        given[piece] = detector.step(sensor_id[piece], end[piece], mean[piece]).level
    return given


def test_levels_do_not_depend_on_how_the_stream_is_split():
    stream = panes()
    whole = levels(with_deep(small(), 41, 8), stream, [])
    assert set(whole.tolist()) == {Level.NORMAL, Level.WARN, Level.CRITICAL}
    for cuts in ([700], np.arange(5, len(whole), 5), np.arange(1, len(whole), 37)):
        assert np.array_equal(levels(with_deep(small(), 41, 8), stream, cuts), whole)


def test_a_restored_detector_gives_the_same_levels():
    stream = panes()
    whole = levels(with_deep(small(), 3), stream, [])
    first, rest = (tuple(np.split(column, [900])[half] for column in stream) for half in (0, 1))
    detector, other = with_deep(small(), 3), small()
    before = levels(detector, first, [400])
    restore(other.tables, loads(dumps(snapshot_of(detector.tables))))  # noqa: S301 - our own
    with_deep(other, 3)
    after = levels(other, rest, [])
    assert np.array_equal(np.concatenate((before, after)), whole)


def test_an_empty_step_gives_no_levels():
    none = np.empty(0, np.int64)
    assert not len(small().step(none, none, np.empty(0)).level)


def test_the_deep_detectors_of_other_sensors_do_not_affect_a_sensor():
    stream = panes()
    of_3 = stream[0] == 3
    alone = levels(with_deep(small(), 3), tuple(column[of_3] for column in stream), [])
    for others in ([], [70], [100, 8, 41, 70]):
        together = levels(with_deep(small(), 3, *others), stream, [500])
        assert np.array_equal(together[of_3], alone)


def test_the_deep_detector_detects_what_the_light_one_misses():
    value = daily(14)[:, 0]
    nine, five = 12 * 96 + 36, 12 * 96 + 68
    value[nine:five] = 10 + noise(five - nine, seed=1)[:, 0]
    end = np.arange(1, len(value) + 1) * QUARTER
    stream, bounds = (np.full(len(value), 3), end, value), Bounds(warn=1.0, critical=0.1)
    highest = []
    for given in ([], [3]):
        detector = PartitionDetector(bounds=bounds)
        levels(detector, tuple(column[:10] for column in stream), [])
        detector.use(given, bounds)
        rest = levels(detector, tuple(column[10:] for column in stream), [])
        highest.append(rest[nine - 10 : five + 10].max())
    assert highest == [Level.NORMAL, Level.CRITICAL]


def test_a_sensor_keeps_its_deep_detector_while_others_get_or_lose_one():
    stream = panes()
    of_41 = stream[0] == 41
    first, rest = (tuple(np.split(column, [900])[half] for column in stream) for half in (0, 1))
    whole = levels(with_deep(small(), 41), stream, [])
    for before, after in (([100, 41, 70], [41, 8]), ([100, 41], [41]), ([41], [41, 70, 8])):
        detector = with_deep(small(), *before)
        given = [levels(detector, first, [])]
        detector.use(after, detector.bounds)
        given.append(levels(detector, rest, []))
        assert np.array_equal(np.concatenate(given)[of_41], whole[of_41])


@pytest.mark.parametrize("step", [1_000, 60_000, 3_600_000])
@pytest.mark.parametrize("kind", ["normal", "Student's t", "bursts", "two values", "growing"])
def test_reports_stay_within_the_budget_for_every_signal(kind, step):
    """However its panes are distributed, and although nothing about the signal was known."""
    rng = np.random.default_rng(6)
    points, sensors = 7000, 12
    value = rng.normal(size=(points, sensors))
    if kind == "Student's t":
        value[:] = rng.standard_t(1, size=value.shape)
    elif kind == "bursts":
        value *= np.where(np.arange(points) % 400 < 30, 40.0, 1.0)[:, None]
    elif kind == "two values":
        value[:] = np.arange(points)[:, None] % rng.integers(300, 900, sensors) < 20
    elif kind == "growing":
        value *= np.exp(np.arange(points) / 700)[:, None]
    days = points * step / 86_400_000
    for warn in (1.0, 5 / days):
        told = reports(value, step, Bounds(warn=warn, critical=warn / 10))
        assert (told >= Level.WARN).sum(axis=0).max() <= 3 + 0.6 * warn * days
        assert (told == Level.CRITICAL).sum(axis=0).max() <= 0.1 * warn * days


def reports(value, step, bounds, **how):
    """(N, S) the level with which a report begins."""
    points, sensors = value.shape
    sensor_id = np.repeat(np.arange(sensors), points)
    end = np.tile(np.arange(1, points + 1) * step, sensors)
    found = PartitionDetector(bounds=bounds, **how).step(sensor_id, end, value.T.ravel())
    told = found.told.reshape(sensors, points).T.astype(int)
    return np.where(np.diff(told, axis=0, prepend=0) > 0, told, 0)


@pytest.mark.parametrize("shift", [4.0, -30.0, 1e5])
@pytest.mark.parametrize("length", [30, 100, 127, 140, 300, 900])
@pytest.mark.parametrize("step", [1_000, 10_000])
def test_a_shift_is_one_report_and_so_is_none_of_its_ends(shift, length, step):
    value = 0.5 * noise(4000, 8)
    value[2000 : 2000 + length] += shift
    told = reports(value, step, Bounds())
    assert not told[:2000].any()
    assert (told[2000:2010] == Level.WARN).sum(axis=0).tolist() == [1] * 8
    assert not told[2010:].any()


@pytest.mark.parametrize("length", [140, 300])
def test_what_is_accepted_as_normal_is_told_from_then_on(length):
    value = 20 + 0.1 * noise(3000)
    value[1000 : 1000 + length] += 13
    end = np.arange(1, 3001) * SECOND
    found = PartitionDetector().step(np.full(3000, 5), end, value[:, 0])
    accepted = int(np.flatnonzero(~np.isnan(found.accepted))[0])
    assert found.told[accepted - 1] == Level.WARN
    assert not found.told[accepted:].any()
    assert 1100 < accepted < 1140
    assert found.accepted[accepted:] == pytest.approx(33, abs=0.2)


def test_a_short_shift_is_not_accepted():
    value = 20 + 0.1 * noise(3000)
    value[1000:1100] += 13
    end = np.arange(1, 3001) * SECOND
    found = PartitionDetector().step(np.full(3000, 5), end, value[:, 0])
    assert found.told[1010:1100].all()
    assert np.isnan(found.accepted).all()
    assert np.flatnonzero(found.told).max() < 1115


def test_breached_panes_are_neither_learned_from_nor_reported():
    value = 20 + 0.1 * noise(3000, 2)
    value[1000:1600, 0] += 50
    breached = np.zeros(value.shape, np.bool_)
    breached[1000:1600, 0] = True
    sensor_id, end = np.repeat([1, 2], 3000), np.tile(np.arange(1, 3001) * SECOND, 2)
    found = PartitionDetector().step(sensor_id, end, value.T.ravel(), breached.T.ravel())
    assert not found.told.any()
    assert not found.score[1000:1600].any()
    assert found.usual[100:3000] == pytest.approx(20, abs=0.2)


def test_a_sensor_that_cannot_be_judged_is_recognised():
    sensor_id, end = np.repeat([4, 6], 500), np.tile(np.arange(1, 501) * SECOND, 2)
    detector = PartitionDetector()
    detector.step(sensor_id, end, noise(1000)[:, 0])
    budget = detector.tables["alarm_budget"]
    assert isinstance(budget, Budget)
    budget.numbers[list(FIELDS).index("height"), 0] = 9.0
    ids = np.array([3, 4, 6, 7])
    assert detector.unjudged(ids, np.full(4, 501_000)).tolist() == [False, True, False, False]
    later = np.full(4, 501_000 + 100 * 86_400_000)
    assert not detector.unjudged(ids, later).any()
    assert detector.rows == 2


def test_sensors_can_have_their_own_bounds():
    stream = panes()
    own = Bounds(1e-6, 1e-6, np.array([8, 41]), np.array([[2000.0, 1e-6], [200.0, 1e-6]]))
    detector = PartitionDetector(LevelNoise(grace_period=50), bounds=own)
    given = levels(detector, stream, [])
    usual = levels(
        PartitionDetector(LevelNoise(grace_period=50), bounds=Bounds(2000.0, 200.0)),
        stream,
        [],
    )
    of_8 = stream[0] == 8
    assert np.array_equal(given[of_8], usual[of_8])
    assert given[of_8].any()
    assert given[~of_8].sum() < usual[~of_8].sum()


@pytest.mark.parametrize(
    "wrong",
    [
        {"warn": 1.0, "critical": 2.0},
        {"critical": 0.0},
        {"sensor_id": np.array([2, 1]), "own": np.ones((2, 2))},
        {"sensor_id": np.array([1, 2]), "own": np.ones((2, 1))},
    ],
)
def test_invalid_bounds_are_refused(wrong):
    with pytest.raises(ValueError, match=r"Bounds|alarms"):
        Bounds(**wrong)


def test_levels_are_normal_in_the_grace_period():
    sensor_id, end, mean = panes()
    mean[::3] += 1000
    assert not levels(small(), (sensor_id, end, mean), [])[: 40 * len(IDS)].any()


def with_deep(detector, *sensor_id):
    detector.use(sensor_id, detector.bounds)
    return detector


def test_levels_follow_from_the_scores_and_their_bounds():
    value = noise(1500)
    value[1400] += 60
    found = PartitionDetector(bounds=Bounds(8640.0, 864.0)).step(
        np.full(1500, 9), np.arange(1, 1501) * SECOND, value[:, 0]
    )
    reached = found.score >= found.bound[0]
    assert found.level[1400] == Level.WARN
    assert not found.level[:1400][~reached[:1400]].any() or found.told.any()
    assert found.level[1500 - 1] == Level.NORMAL
