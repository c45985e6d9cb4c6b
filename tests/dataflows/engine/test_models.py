"""Rows of `ml_models` in the engine: prediction slopes, the deep detector and its bounds."""

import json

import numpy as np
import pytest

from ml.online.partition import PartitionDetector
from rules.columns import Rules
from rules.models import DetectorModel, TrendModel
from rules.tables import decode_rules, make_rules
from tests.dataflows.streams import Partition, closed, each_second

MODELS = "ml_models"
DEEP = {"kind": "deep", "warn_per_day": 2.0, "critical_per_day": 0.5}
TREND = {
    "kind": "ridge_trend", "slope_per_minute": 2.0, "intercept": 20.0, "residual_scale": 0.1,
    "r2": 0.9, "points": 500, "trained_from": "1970-01-01T00:00:00Z",
    "trained_to": "1970-01-01T01:10:00+01:00",
}  # fmt: skip


def row(model_type, metadata, number=1, sensor=1, **more):
    return {
        "id": number, "sensor_id": sensor, "model_type": model_type,
        "metadata": json.dumps(metadata), **more,
    }  # fmt: skip


def make(*rows):
    rules, refused = make_rules({MODELS: rows})
    assert refused == []
    return Rules(rules)


def test_rows_become_models_except_baselines():
    rules, refused = make_rules(
        {
            MODELS: [
                row("baseline", {}),
                row("detector", DEEP, 2),
                row("sklearn", TREND, 3),
                row("detector", {"kind": "light"}, 4, sensor=2, is_active=0),
                {**row("detector", {}, 5, sensor=3), "metadata": {"kind": "light"}},
            ]
        }
    )
    assert refused == []
    assert rules.models == (
        DetectorModel(
            table=MODELS, id=2, sensor_id=1, deep=True, warn_per_day=2.0, critical_per_day=0.5
        ),
        TrendModel(table=MODELS, id=3, sensor_id=1, slope_per_minute=2.0, until=1_200_000),
        DetectorModel(
            table=MODELS, id=5, sensor_id=3, deep=False, warn_per_day=1.0, critical_per_day=0.1
        ),
    )
    assert decode_rules(rules.encode()) == rules
    assert Rules(rules).deep.tolist() == [1]
    bounds = Rules(rules).unusual.of(np.array([1, 2, 3]), np.zeros(3, np.int64))
    assert bounds.tolist() == [[2, 1, 1], [0.5, 0.1, 0.1]]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (row("forest", {}), "unknown model_type forest"),
        (row("sklearn", {"kind": "forest"}), "Invalid enum value 'forest' - at `$.kind`"),
        (row("sklearn", {"kind": "ridge_trend"}), "missing required field `slope_per_minute`"),
        (row("sklearn", TREND | {"trained_to": "today"}), "Invalid RFC3339 encoded datetime"),
        (
            row("sklearn", TREND | {"trained_to": "1970-01-01T00:10:00"}),
            "trained_from and trained_to need a time zone",
        ),
        ({**row("sklearn", {}), "metadata": "{not JSON"}, "JSON is malformed"),
        ({**row("sklearn", {}), "metadata": None}, "Input data was truncated"),
        (row("sklearn", TREND, trained_at="yesterday"), "trained_at: Invalid isoformat string"),
        (row("detector", DEEP | {"warn_per_day": 0}), "Expected `float` > 0.0"),
        (row("detector", DEEP | {"critical_per_day": 3}), "critical_per_day is above warn_per_day"),
    ],
)
def test_an_invalid_model_is_refused_and_its_last_valid_version_stays_in_force(bad, error):
    good, _ = make_rules({MODELS: [row("sklearn", TREND)]})
    rules, (refused,) = make_rules({MODELS: [bad]}, good)
    assert (refused.table, refused.id, refused.kept) == (MODELS, 1, True)
    assert error in refused.error
    assert rules == good
    rules, (refused,) = make_rules({MODELS: [bad]})
    assert not refused.kept
    assert rules.models == ()


def predicted(rules, *values):
    partition = Partition(rules=rules).run(closed(each_second(*values)))
    return partition.predictions


def test_a_trend_extrapolates_predictions_from_the_middle_of_their_minute():
    ((model, sensor, _, at, target, value, _, _, trend, *_),) = predicted(
        make(row("sklearn", TREND, 7)), *[20.0] * 70
    )
    assert (model, sensor, at, target) == (7, 1, 60_000, 660_000)
    assert (value, trend) == (20.0 + 2.0 * 10.5, 1)
    ((model, _, _, _, _, value, _, _, trend, *_),) = predicted(make(), *[20.0] * 70)
    assert (model, value, trend) == (0, 20.0, 0)


def test_a_trend_applies_for_the_length_of_its_training_span():
    brief = TREND | {"trained_to": "1970-01-01T00:01:00Z"}
    made = [
        (prediction[0], prediction[5])
        for prediction in predicted(make(row("sklearn", brief, 7)), *[20.0] * 200)
    ]
    assert made == [(7, 20.0 + 2.0 * 1.5), (7, 20.0 + 2.0 * 0.5), (0, 20.0)]


def test_an_extrapolated_prediction_is_clipped_to_the_storable_range():
    steep = TREND | {"slope_per_minute": -1e300}
    ((_, _, _, _, _, value, _, _, trend, *_),) = predicted(
        make(row("sklearn", steep)), *[20.0] * 70
    )
    assert (value, trend) == (-9_999_999_999.0, -1)


def test_the_predictions_of_a_trend_are_compared_at_their_target_time():
    """A model with the wrong slope is off by the error of its slope."""
    values = [20.0 + 2.0 * second / 60 for second in range(900)]
    rising, flat = (run(make(*rows), values) for rows in ((row("sklearn", TREND),), ()))
    right, wrong = (p.engine.tables["predictions"].largest[0] for p in (rising, flat))
    assert right < 0.2
    assert wrong > 15.0


def run(rules, values, cuts=(), *, restarts=False):
    partition = Partition(rules=rules, detector=PartitionDetector)
    return partition.run(closed(each_second(*values)), cuts, restarts=restarts)


def noise(count, seed=1):
    return (20 + np.random.default_rng(seed).normal(0, 0.5, count)).round(3).tolist()


JUMP = [*noise(400), *[35.0] * 10, *noise(100, seed=2)]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_jump_is_one_transient_anomaly_for_every_cut_of_the_stream(restarts):
    whole = run(make(row("detector", DEEP)), JUMP)
    codes = [(event.event_code, event.event_type, event.status) for event in whole.events]
    assert codes[0] == ("TRANSIENT_ANOMALY", "warning", "active")
    assert codes[-1] == ("RECOVERED_ANOMALY", "notice", "resolved")
    assert whole.events[0].at == 404_000, "raised at the third pane"
    assert len(codes) == 2
    payload = json.loads(whole.events[0].payload)
    assert 19.5 < payload["usual_value"] < 20.5
    assert "normal" in whole.events[-1].message
    assert "No rule" not in whole.events[-1].message
    assert "Its level is unusual" in whole.events[0].message
    for cuts in ([100, 401, 402], range(0, 500, 7)):
        assert run(make(row("detector", DEEP)), JUMP, cuts, restarts=restarts).found() == (
            whole.found()
        )


def test_each_sensor_has_its_own_bounds():
    tolerant = {"kind": "light", "warn_per_day": 1e-9, "critical_per_day": 1e-9}
    assert run(make(row("detector", tolerant)), JUMP).events == []
    assert run(make(row("detector", tolerant, sensor=2)), JUMP).events != []


def test_a_sensor_that_gets_the_deep_detector_later_is_watched_from_then_on():
    partition = Partition(detector=PartitionDetector)
    records = closed(each_second(*JUMP))
    partition.run(records[:200])
    light = partition.engine.tables["self_similarity"].rows
    partition.rules = make(row("detector", DEEP))
    partition.run(records[200:])
    assert (light, partition.engine.tables["self_similarity"].rows) == (0, 1)


def at(seconds):
    """A time as `ml_models` has it."""
    return f"1970-01-01 00:{seconds // 60:02}:{seconds % 60:02}.000"


def test_the_time_of_training_is_read_with_and_without_a_zone():
    for text, ms in (
        (at(60), 60_000), ("1970-01-01T01:01:00+01:00", 60_000), ("1970-01-02", 86_400_000)
    ):  # fmt: skip
        rules, _ = make_rules({MODELS: [row("sklearn", TREND, trained_at=text)]})
        assert [model.trained_at for model in rules.models] == [ms]


def test_a_trend_does_not_predict_before_it_was_trained():
    records = closed(each_second(*[20.0] * 200))
    rules = make(row("sklearn", TREND, 7, trained_at=at(120)))
    whole = Partition(rules=rules).run(records)
    assert [(p[0], p[3], p[9]) for p in whole.predictions] == [
        (0, 60_000, "moving_average"), (7, 120_000, "model_slope"), (7, 180_000, "model_slope")
    ]  # fmt: skip
    for cuts in ([59, 61, 62, 119, 121, 122], range(0, 200, 7)):
        again = Partition(rules=rules).run(records, cuts, restarts=True)
        assert again.predictions == whole.predictions
    (always,) = {p[0] for p in predicted(make(row("sklearn", TREND, 7)), *[20.0] * 200)}
    assert always == 7


@pytest.mark.parametrize("kind", ["light", "deep"])
def test_a_detector_model_does_not_apply_before_it_was_trained(kind):
    tolerant = {"kind": kind, "warn_per_day": 1e-9, "critical_per_day": 1e-9}

    def of(trained, *how, **more):
        return run(make(row("detector", tolerant, trained_at=at(trained))), JUMP, *how, **more)

    assert of(0).events == []
    told = [(event.at, event.event_code, event.message) for event in of(600).events]
    assert told == [(e.at, e.event_code, e.message) for e in run(make(), JUMP).events] != []
    for cuts in ([100, 401, 402, 403], range(0, 500, 7)):
        assert of(403, cuts, restarts=True).found() == of(403).found()


def test_the_deep_detector_sees_nothing_from_before_its_model():
    def seen(trained):
        rules = make(row("detector", DEEP, trained_at=at(trained)))
        partition = Partition(rules=rules, detector=PartitionDetector)
        partition.run(closed(each_second(*JUMP)), range(0, 500, 7), restarts=True)
        return partition.engine.tables["self_similarity"].numbers[0].tolist()

    assert (seen(0), seen(300)) == ([len(JUMP)], [len(JUMP) - 298])  # panes that end at 2 to 299 s
