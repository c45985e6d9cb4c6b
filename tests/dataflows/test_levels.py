import pickle

import numpy as np
import pytest

from contract.level import Level
from dataflows.levels import LevelState
from dataflows.panes import Panes
from dataflows.rules import make_rules

NORMAL, WARN, CRITICAL = Level.NORMAL, Level.WARN, Level.CRITICAL
NAMES = ("temperature", "temperature", "°C", "rig")


def threshold(number, condition, low, high=None, severity="warning", sensor=7):
    return (number, sensor, f"rule {number}", condition, low, high, severity, *NAMES)


def panes(*means, row=0, first=0):
    count = len(means)
    mean = np.array(means, float)
    rows, ends = np.full(count, row), (np.arange(count) + 1 + first) * 1000
    return Panes(rows, ends, np.ones(count, np.int64), mean, mean, mean, mean)


def levels(rules, *means, cut=None):
    """The level after each pane, by the transitions that the panes lead to."""
    state, found, level = LevelState(), {}, NORMAL
    for first, last in ((0, cut), (cut, None)) if cut else ((0, None),):
        part = panes(*means[first:last], first=first)
        for change in state.step(part, np.array([7]), rules):
            assert change.before is level
            level = found[int(part.end[change.pane])] = change.after
        state = LevelState.restore(pickle.loads(pickle.dumps(state.snapshot())))  # noqa: S301
    level, sequence = NORMAL, []
    for end in range(1000, 1000 * len(means) + 1, 1000):
        level = found.get(end, level)
        sequence.append(level)
    return sequence


ABOVE_80_AND_90 = make_rules(
    [threshold(1, "greater_than", 80.0), threshold(2, "greater_than", 90.0, severity="critical")]
)


def test_a_level_is_raised_by_the_first_pane_beyond_and_lowered_after_five_inside():
    assert levels(ABOVE_80_AND_90, 70, 81, 70, 70, 70, 70, 70, 70) == [
        NORMAL,
        *[WARN] * 5,
        NORMAL,
        NORMAL,
    ]


def test_a_value_between_reset_and_threshold_keeps_the_level():
    assert levels(ABOVE_80_AND_90, 81, *[77] * 9) == [WARN] * 10
    assert levels(ABOVE_80_AND_90, 81, *[75.9] * 5)[-1] is NORMAL


def test_quiet_panes_have_to_be_in_a_row():
    assert levels(ABOVE_80_AND_90, 81, 70, 70, 70, 70, 81, 70, 70, 70, 70) == [WARN] * 10


def test_critical_may_fall_to_warn():
    assert levels(ABOVE_80_AND_90, 95, *[82] * 5, *[70] * 5) == [
        *[CRITICAL] * 5,
        *[WARN] * 5,
        NORMAL,
    ]


def test_a_threshold_itself_is_still_normal():
    assert levels(ABOVE_80_AND_90, 80.0, 80.00001) == [NORMAL, WARN]


@pytest.mark.parametrize("cut", range(1, 12))
def test_levels_do_not_depend_on_the_cut(cut):
    means = (95, 82, 82, 70, 82, 70, 70, 70, 70, 70, 81, 95)
    assert levels(ABOVE_80_AND_90, *means, cut=cut) == levels(ABOVE_80_AND_90, *means)


@pytest.mark.parametrize(
    ("row", "normal", "beyond"),
    [
        (threshold(1, "less_than", 10.0), [10.0, 11], [9.9]),
        (threshold(1, "greater_than", 10.0), [10.0, 9], [10.1]),
        (threshold(1, "equal_to", 10.0), [9.9, 10.1], [10.0]),
        (threshold(1, "out_of_range", 10.0, 20.0), [10.0, 15, 20], [9.9, 20.1]),
    ],
)
def test_conditions_mean_what_the_old_system_meant(row, normal, beyond):
    rules = make_rules([row])
    assert [levels(rules, value)[0] for value in normal] == [NORMAL] * len(normal)
    assert [levels(rules, value)[0] for value in beyond] == [WARN] * len(beyond)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (threshold(9, "out_of_range", 20.0, 10.0), "above"),
        (threshold(9, "out_of_range", 20.0), "lacks a bound"),
        (threshold(9, "greater_than", None), "lacks a bound"),
        (threshold(9, "near", 1.0), "unknown condition_type"),
        (threshold(9, "greater_than", 1.0, severity="bad"), "unknown severity"),
    ],
)
def test_a_rule_that_makes_no_sense_is_left_out_by_name_and_the_others_hold(row, reason, capsys):
    rules = make_rules([row, threshold(1, "greater_than", 80.0)])
    assert [rule.id for rule in rules.rule] == [1]
    said = capsys.readouterr().out
    assert "threshold_id=9" in said
    assert reason in said


def test_info_thresholds_ask_for_no_level():
    assert make_rules([threshold(1, "greater_than", 1.0, severity="info")]).rule == ()


def test_sensors_do_not_touch_each_other():
    rules = make_rules([threshold(n, "greater_than", 80.0, sensor=n) for n in (1, 2, 3)])
    mixed = Panes(
        row=np.array([0, 0, 1, 1, 3]),
        end=np.array([1000, 2000, 1000, 2000, 1000]),
        count=np.ones(5, np.int64),
        mean=np.array([70.0, 90.0, 90.0, 95.0, 99.0]),
        minimum=np.zeros(5),
        maximum=np.zeros(5),
        last=np.zeros(5),
    )
    changes = LevelState().step(mixed, np.array([3, 1, 2, 99]), rules)
    assert [(change.pane, change.after) for change in changes] == [(1, WARN), (2, WARN)]
    assert [rules.rule[change.rule].id for change in changes] == [3, 1]
