from pickle import dumps, loads

import numpy as np
import pytest

from contract.level import Level
from contract.table import restore, snapshot_of
from ml.online.level_noise import LevelNoise
from ml.online.partition import PartitionDetector
from ml.online.self_similarity import SelfSimilarity
from rules.detector import Bounds
from tests.ml.streams import QUARTER, SECOND, daily, noise, scores

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


def test_a_bound_is_the_number_of_panes_per_day_that_reach_it():
    points, sensors = 7000, 30
    value = noise(points, sensors)
    sensor_id = np.repeat(np.arange(sensors), points)
    for step in (1_000, 60_000):
        warn = 1e-2 * 86_400_000 / step
        detector = PartitionDetector(bounds=Bounds(warn=warn, critical=warn / 10))
        end = np.tile(np.arange(1, points + 1) * step, sensors)
        given = detector.step(sensor_id, end, value.T.ravel()).level.reshape(sensors, points)[
            :, 1500:
        ]
        assert 1e-2 / 2 < (given >= Level.WARN).mean() < 1e-2 * 2
        assert 1e-3 / 8 < (given == Level.CRITICAL).mean() < 1e-3 * 2


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


def test_levels_follow_from_the_scores_of_the_light_detector():
    value = noise(400)
    value[300] += 30
    score = scores(LevelNoise(), value)[:, 0]
    end = np.arange(1, 401) * SECOND
    given = (
        PartitionDetector(bounds=Bounds(86.4, 8.64)).step(np.full(400, 9), end, value[:, 0]).level
    )
    assert np.array_equal(given, np.where(score >= 4, 2, np.where(score >= 3, 1, 0)))
