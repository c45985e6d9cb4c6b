import pickle
from dataclasses import asdict

import numpy as np
import pytest
from prometheus_client import REGISTRY

from contract.columns import NEVER
from contract.errors import SetupError
from dataflows.engine.engine import Engine, Times
from dataflows.engine.partition_step import PartitionLogic, Watch
from rules.columns import Rules
from rules.history import OneEdition
from sql.statements import RuleVersion
from tests.dataflows.engine.test_engine import RULES
from tests.dataflows.events.test_levels import make, threshold
from tests.dataflows.streams import (
    NAMES,
    NO_RULES,
    TIMES,
    Partition,
    closed,
    each_second,
    heartbeat,
    laid_open,
    long_stream,
    piece,
)

LENIENT = make(threshold("greater_than", 80.0, id=2, severity="critical"))
STRICT = make(threshold("greater_than", 30.0, id=2, severity="critical"))
"""The same rule with another bound: only rules that are added look back."""


class FixedHistory:
    """A history with fixed editions."""

    names = NAMES

    def __init__(self, *editions):
        self._editions = [RuleVersion(at, rules.version) for at, rules in editions]
        self._rules = {rules.version: rules for _, rules in editions}

    def rules(self, version):
        return self._rules[version]

    def editions(self, arrival):
        return self._editions


def outcomes(book, records, cuts=(), *, restarts=False):
    logic, found = PartitionLogic(Watch(book, TIMES), None), []
    for part in np.split(np.arange(len(records)), sorted(set(cuts) & set(range(len(records))))):
        if not len(part):
            continue
        if restarts:
            snapshot = pickle.loads(pickle.dumps(logic.snapshot()))  # noqa: S301
            logic = PartitionLogic(Watch(book, TIMES), snapshot)
        some, stays = logic.on_batch([piece(*(records[index] for index in part))])
        found += some
        assert stays is False
    return found, logic


def events(*how, **more):
    return [event for outcome in outcomes(*how, **more)[0] for event in outcome.events]


def all_events(found):
    """The events of all outcomes, in an order that does not depend on the pieces."""
    events = [event for outcome in found for event in outcome.events]
    return sorted(events, key=lambda event: (event.at, event.event_key))


def panes(found):
    """The closed panes of all outcomes, sorted."""
    return sorted(
        (sensor, *row)
        for outcome in found
        for sensor, *row in zip(
            outcome.sensor_id[outcome.panes.row].tolist(),
            *(column.tolist() for column in list(asdict(outcome.panes).values())[2:]),
            strict=True,
        )
    )


RECORDS = closed(each_second(*[50] * 10))
"""The panes that end at 2, 3, .. s close with the records at 3, 4, .. s."""
CHANGE = FixedHistory((0, LENIENT), (6_000, STRICT))


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("cuts", [(), *((cut,) for cut in range(1, 11)), range(11)])
def test_a_piece_that_spans_a_rule_change_uses_the_old_rules_before_it_and_the_new_after_it(
    cuts, restarts
):
    (event,) = events(CHANGE, RECORDS, cuts, restarts=restarts)
    assert (event.at, event.event_type) == (5_000, "critical")  # closed by the record at 6 s
    reported = events(FixedHistory((0, STRICT), (6_000, LENIENT)), RECORDS, cuts, restarts=restarts)
    assert [(event.at, event.event_type) for event in reported] == [
        (2_000, "critical"), (9_000, "notice")
    ]  # fmt: skip


@pytest.mark.parametrize("cuts", [(), (2,), (4, 5, 6), range(11)])
def test_rules_apply_by_the_partitions_arrival_time_not_by_event_time_or_the_records_arrival(cuts):
    old = [(at + 5_000, *rest) for at, *rest in each_second(*[50] * 10)]
    (event,) = events(CHANGE, closed(old), cuts)
    assert event.at == 2_000
    # after that time, the new rules also judge a record with an earlier arrival
    back = [heartbeat(6_000), *RECORDS]
    (event,) = events(CHANGE, back, cuts)
    assert event.at == 2_000


@pytest.mark.parametrize("cuts", [(), range(11)])
def test_several_rule_changes_within_a_piece_apply_in_order(cuts):
    book = FixedHistory(
        (0, LENIENT), (4_000, NO_RULES), (4_000, STRICT), (4_500, LENIENT), (99_000, STRICT)
    )
    reported = events(book, RECORDS, cuts)
    assert [(event.at, event.event_type) for event in reported] == [
        (3_000, "critical"), (8_000, "notice")
    ]  # fmt: skip


def test_the_first_edition_applies_from_the_beginning_regardless_of_its_time():
    (event,) = events(FixedHistory((7_000, STRICT), (8_000, NO_RULES)), RECORDS[:4])
    assert event.at == 2_000


def test_a_rule_change_splits_a_piece_and_adds_a_heartbeat():
    assert len(outcomes(CHANGE, RECORDS)[0]) == 3
    assert len(outcomes(OneEdition(STRICT, NAMES), RECORDS)[0]) == 1
    assert len(outcomes(FixedHistory((0, STRICT), (1_000, STRICT)), RECORDS)[0]) == 1
    assert len(outcomes(FixedHistory((0, STRICT), (13_001, STRICT)), RECORDS)[0]) == 1


def test_the_pieces_of_one_activation_are_joined():
    logic = PartitionLogic(Watch(CHANGE, TIMES), None)
    some, _ = logic.on_batch([piece(record) for record in RECORDS])
    results = list(some)
    assert len(results) == 3
    assert [event for outcome in results for event in outcome.events] == events(CHANGE, RECORDS)


@pytest.mark.parametrize("beats", [0, 1, 59])
def test_the_old_rules_judge_what_is_due_before_a_change_with_and_without_heartbeats(beats):
    book = FixedHistory((0, STRICT), (31_000, NO_RULES))
    first, last = (1_000, 1, "a", [(1, 1_000, 50.0)]), (61_000, 1, "b", [(1, 61_000, 50.0)])
    between = [heartbeat(1_000 + 60_000 * n // (beats + 1)) for n in range(1, beats + 1)]
    reported = events(book, [first, *between, last])
    assert [(event.at, event.event_type) for event in reported] == [(2_000, "critical")]


@pytest.mark.parametrize("beats", [[], [heartbeat(50_000)]])
def test_rules_that_return_start_over_with_and_without_heartbeats(beats):
    slow = make(threshold("greater_than", 30.0, severity="critical", consecutive_readings=10))
    book = FixedHistory((0, slow), (10_000, NO_RULES), (100_000, slow))
    before = [(1_000 * n, 1, f"a{n}", [(1, 1_000 * n, 50.0)]) for n in (1, 2)]
    after = [(1_000 * n, 1, f"b{n}", [(1, 1_000 * n, 50.0)]) for n in range(110, 125)]
    reported = events(book, [*before, *beats, *after])
    assert [(event.at, event.event_type) for event in reported] == [(120_000, "critical")]


def told(book, records, **how):
    return [(event.at, event.event_type, event.status) for event in events(book, records, **how)]


def hot(*seconds, value=90.0):
    return [(1_000 * n + 50, 1, f"h{n}", [(1, 1_000 * n, value)]) for n in seconds]


@pytest.mark.parametrize("cuts", [(), range(20)])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_rule_that_is_added_judges_the_last_minute(cuts, restarts):
    rule = make(threshold("greater_than", 80.0))
    book = FixedHistory((0, NO_RULES), (100_000, rule))
    records = [*hot(45), heartbeat(99_000), heartbeat(101_000)]
    assert told(book, records, cuts=cuts, restarts=restarts) == [(46_000, "warning", "active")]
    earlier = [*hot(38), heartbeat(99_000), heartbeat(101_000)]  # more than a minute before
    assert told(book, earlier, cuts=cuts, restarts=restarts) == []


@pytest.mark.parametrize("cuts", [(), range(20)])
def test_a_breach_that_ended_within_the_last_minute_is_told_with_its_end(cuts):
    book = FixedHistory((0, NO_RULES), (20_000, make(threshold("greater_than", 80.0))))
    calm = [(1_000 * n + 50, 1, f"c{n}", [(1, 1_000 * n, 20.0)]) for n in range(13, 18)]
    records = [*hot(10, 11, 12), *calm, heartbeat(19_999), heartbeat(21_000), heartbeat(30_000)]
    assert told(book, records, cuts=cuts) == [
        (11_000, "warning", "active"), (18_000, "notice", "resolved")
    ]  # fmt: skip


@pytest.mark.parametrize("cuts", [(), range(20)])
def test_an_added_rule_with_a_duration_is_raised_by_the_value_that_stands(cuts):
    rule = make(threshold("greater_than", 80.0, consecutive_readings=20))
    book = FixedHistory((0, NO_RULES), (20_000, rule))
    records = [*hot(10), heartbeat(19_999), heartbeat(21_000), heartbeat(60_000)]
    assert told(book, records, cuts=cuts) == [(30_000, "warning", "active")]


def test_only_added_rules_look_back_and_only_at_sensors_that_are_normal():
    first = make(threshold("greater_than", 95.0))
    both = make(threshold("greater_than", 85.0), threshold("greater_than", 95.0, id=2))
    book = FixedHistory((0, first), (20_000, both))
    records = [*hot(10), heartbeat(19_999), heartbeat(21_000)]
    assert told(book, records) == []  # the rule whose bound was changed is not an added one
    raised = [*hot(10, value=99.0), heartbeat(13_500), heartbeat(21_000)]
    assert told(book, raised) == [(11_000, "warning", "active")]


def test_a_streak_of_an_earlier_version_counts_its_panes_only():
    rules = make(threshold("greater_than", 80.0, consecutive_readings=5))
    partition = Partition(rules=rules).run(each_second(85, 85, 85))
    state = partition.engine.snapshot()
    del state["verdicts"]["since"]
    partition.engine = partition.new_engine()
    partition.engine.restore(state)
    partition.run(closed(each_second(85, start=4_000)))
    assert partition.events == []
    partition.run(closed(each_second(85, start=8_000)))
    assert [event.at for event in partition.events] == [9_000]


@pytest.mark.parametrize("seed", range(6))
def test_a_change_to_equal_rules_changes_nothing(seed):
    records = long_stream(seed)
    middle = records[len(records) // 2][0]
    with_change, _ = outcomes(FixedHistory((0, Rules(RULES)), (middle, Rules(RULES))), records)
    without, _ = outcomes(OneEdition(Rules(RULES), NAMES), records)
    assert panes(with_change) == panes(without)
    assert all_events(with_change) == all_events(without)


@pytest.mark.parametrize("seed", range(4))
def test_the_output_of_a_partition_does_not_depend_on_restarts(seed):
    records = long_stream(seed)
    middle = records[len(records) // 2][0]
    book = FixedHistory((0, Rules(RULES)), (middle, STRICT))
    cuts = range(0, len(records), 7)
    whole, _ = outcomes(book, records)
    results, _ = outcomes(book, records, cuts, restarts=True)
    assert panes(results) == panes(whole)
    restarted, other = events(book, records, cuts, restarts=True), events(book, records)
    assert sorted(restarted, key=lambda event: event.event_key) == sorted(
        other, key=lambda event: event.event_key
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_snapshot_does_not_change_when_the_state_changes(seed):
    records = long_stream(seed)
    half = len(records) // 2
    _, logic = outcomes(CHANGE, records[:half])
    snapshot = logic.snapshot()
    before = pickle.dumps(snapshot)
    logic.on_batch([piece(*records[half:])])
    assert pickle.dumps(snapshot) == before
    assert pickle.dumps(logic.snapshot()) != before


@pytest.mark.parametrize("seed", range(4))
def test_a_snapshot_of_a_restored_state_equals_the_original(seed):
    records = long_stream(seed)
    half = len(records) // 2
    _, logic = outcomes(CHANGE, records[:half])
    again = PartitionLogic(Watch(CHANGE, TIMES), pickle.loads(pickle.dumps(logic.snapshot())))  # noqa: S301
    assert laid_open(again.snapshot()) == laid_open(logic.snapshot())


def test_a_snapshot_contains_only_plain_values():
    _, logic = outcomes(CHANGE, RECORDS)

    def check(value):
        if isinstance(value, dict):
            value = [*value.keys(), *value.values()]
        if isinstance(value, tuple | list):
            for item in value:
                check(item)
        else:
            assert value is None or type(value) in {int, float, str, np.ndarray}, type(value)

    check(logic.snapshot())


def test_missing_columns_of_a_restored_state_are_filled():
    _, logic = outcomes(CHANGE, RECORDS)
    state = logic.snapshot()
    del state["levels"]["flapping"], state["no_data_sensors"]
    fields, numbers = state["level_noise"]["numbers"]
    state["level_noise"]["numbers"] = (fields[4:], numbers[4:])
    logic = PartitionLogic(Watch(CHANGE, TIMES), state)
    logic.on_batch([piece(heartbeat(90_000))])
    again = logic.snapshot()
    assert again["levels"]["flapping"].tolist() == [NEVER] * logic.engine.tables["sensors"].rows
    assert again["levels"]["level"].tolist() == state["levels"]["level"].tolist()
    assert again["no_data_sensors"]["heard_at"].tolist() == again["levels"]["flapping"].tolist()
    filled = again["level_noise"]["numbers"][1]
    assert filled[4:].tolist() == numbers[4:].tolist()
    assert not filled[:4].any()


@pytest.mark.parametrize(
    ("table", "column", "value", "said"),
    [
        ("levels", "level", np.zeros(3), r"levels: level is float64 \(3,\), expected int8"),
        ("levels", "mood", np.zeros(3), "levels: this version has no mood"),
        (
            "open_predictions/60000",
            "age",
            np.zeros((5, 3), np.uint16),
            "expected uint16 \\(12, rows",
        ),
        ("partition", "arrival", "1", "partition: arrival is str, expected int"),
        (
            "windows",
            "kept",
            (("end",), np.zeros((1, 4, 3))),
            r"kept is float64 \(1, 4, 3\), expected",
        ),
        ("windows", "kept", (("mood",), np.zeros((1, 9, 3))), "this version has no kept.mood"),
        ("moods", "mood", np.zeros(3), "moods: this version has no such table"),
    ],
)
def test_an_incompatible_state_is_refused_with_one_line(table, column, value, said):
    _, logic = outcomes(CHANGE, RECORDS)
    state = logic.snapshot()
    state.setdefault(table, {})[column] = value
    with pytest.raises(SetupError, match=f"another version .*{said}.*new directory.*not stored"):
        PartitionLogic(Watch(CHANGE, TIMES), state)


def test_an_unsupported_version_is_refused_and_the_error_lists_the_supported_ones():
    for other in ((6, ()), (2, ()), ((1, ()), (1, ()))):
        with pytest.raises(SetupError, match=r"reads versions 3 to 5 .*new directory"):
            PartitionLogic(Watch(CHANGE, TIMES), other)


def test_a_different_prediction_period_discards_only_the_predictions():
    records = [*each_second(*[50] * 70), heartbeat(76_000)]
    engine = Engine(Times(predict_ms=60_000))
    engine.step(piece(*records), STRICT, NAMES)
    other = Engine(Times(predict_ms=5_000))
    other.restore(pickle.loads(pickle.dumps(engine.snapshot())))  # noqa: S301
    outcome = other.step(piece(*closed(each_second(*[50] * 10, start=78_000))), STRICT, NAMES)
    assert outcome.predictions.predicted_at.tolist() == [80_000, 85_000]
    assert outcome.predictions.window.tolist() == [2, 5]
    assert outcome.windows.w10.count[:2].tolist() == [3, 3]  # includes those of 70 and 71 s
    assert outcome.events == []  # already critical


def test_a_heartbeat_alone_is_a_piece():
    results, logic = outcomes(CHANGE, [heartbeat(5_000)])
    assert [outcome.events for outcome in results] == [[]]
    assert logic.engine.arrival == 5_000


def test_rejected_readings_are_counted_once_across_restarts():
    def seen():
        names = ("iot_readings_late", "iot_readings_future")
        return [REGISTRY.get_sample_value(f"{name}_total") for name in names]

    before = seen()
    late = (9_000, 1, "late", [(1, 1_000, 1.0), (1, 900_000, 1.0)])
    records = [(n * 1_000, 1, str(n), [(1, n * 1_000, 20.0)]) for n in range(1, 9)]
    outcomes(OneEdition(STRICT, NAMES), [*records, late, heartbeat(10_000)], [8, 9], restarts=True)
    assert [now - then for now, then in zip(seen(), before, strict=True)] == [1, 1]
