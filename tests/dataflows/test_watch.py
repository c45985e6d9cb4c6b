import json
import pickle

import pytest

from contract.columns import PacketColumns
from contract.event import event_key
from dataflows.rules import make_rules
from dataflows.watch import PartitionLogic, Watch

from .test_panes import piece

ROWS = [
    (5, 7, "hot", "greater_than", 80.0, None, "warning", "boiler", "temperature", "°C", "rig"),
    (6, 7, "too hot", "greater_than", 90.0, None, "critical", "boiler", "temperature", "°C", "rig"),
]


def watch(language="en"):
    return Watch(make_rules(ROWS), grace_ms=1000, idle_ms=3000, language=language)


def second(n, value):
    return (n * 1000, 3, str(n), [(7, n * 1000, value)])


STORY = [second(n, v) for n, v in enumerate([70, 85, 95, *[70] * 8], start=1)]


def events(pieces, language="en"):
    logic, found = PartitionLogic(watch(language), None), []
    for one in pieces:
        found += logic.on_batch([one])[0]
    return found


def test_a_story_of_a_warning_that_becomes_critical_and_ends():
    raised, worse, over = events([piece(*STORY)])
    assert [e.event_type for e in (raised, worse, over)] == ["warning", "critical", "notice"]
    assert [e.event_code for e in (worse, over)] == ["ML_BEHAVIOR_STATE", "RECOVERED_ANOMALY"]
    assert [e.at for e in (raised, worse, over)] == [3000, 4000, 9000]
    assert (raised.resolves, worse.resolves, over.resolves) == (
        None,
        raised.event_key,
        worse.event_key,
    )
    assert [e.status for e in (raised, worse, over)] == ["active", "active", "resolved"]
    assert raised.event_key == event_key(7, 3000, "ML_BEHAVIOR_STATE")
    assert (raised.device_id, raised.sensor_id) == (3, 7)


def test_payloads_carry_the_keys_that_the_back_end_reads_and_how_long_it_lasted():
    raised, _, over = (json.loads(e.payload) for e in events([piece(*STORY)]))
    assert raised["recommended_action"] == "check_soon"
    assert (raised["severity"], raised["threshold_id"], raised["baseline_mean"]) == (
        "WARN",
        5,
        85.0,
    )
    assert over["recommended_action"] == "none"
    assert over["duration_seconds"] == 6.0


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ["boiler of rig is at 85 °C, above 80 °C (hot). Check it soon.", "after 6 s"]),
        ("es", ["boiler de rig está en 85 °C, por encima de 80 °C (hot).", "tras 6 s"]),
    ],
)
def test_messages_tell_a_person_what_was_seen_against_what(language, words):
    raised, _, over = events([piece(*STORY)], language)
    assert words[0] in raised.message
    assert words[1] in over.message


@pytest.mark.parametrize("cut", range(1, len(STORY)))
def test_events_do_not_depend_on_cuts_and_resumes(cut):
    before, logic = events([piece(*STORY)]), PartitionLogic(watch(), None)
    found = list(logic.on_batch([piece(*STORY[:cut])])[0])
    logic = PartitionLogic(watch(), pickle.loads(pickle.dumps(logic.snapshot())))  # noqa: S301
    found += logic.on_batch([piece(one) for one in STORY[cut:]])[0]
    assert found == before


def test_a_snapshot_does_not_change_with_the_state_it_was_taken_of():
    logic = PartitionLogic(watch(), None)
    logic.on_batch([piece(*STORY[:3])])
    snapshot = logic.snapshot()
    before = pickle.dumps(snapshot)
    logic.on_batch([piece(*STORY[3:])])
    assert pickle.dumps(snapshot) == before


def test_long_names_are_cut_to_what_the_columns_hold():
    rows = [
        (5, 7, "r" * 255, "greater_than", 1.0, None, "warning", "s" * 255, "t", "u" * 50, "d" * 255)
    ]
    logic = PartitionLogic(Watch(make_rules(rows), 1000, 3000, "es"), None)
    (event,) = logic.on_batch([piece(*STORY[:4])])[0]
    assert len(event.title) == 255
    assert event.title.endswith("…")
    assert len(event.message) <= 1000


def test_a_sensor_whose_rules_were_taken_away_recovers_by_its_id():
    logic = PartitionLogic(watch(), None)
    logic.on_batch([piece(*STORY[:5])])
    logic = PartitionLogic(Watch(make_rules([]), 1000, 3000, "en"), logic.snapshot())
    (event,) = logic.on_batch([piece(*STORY[5:])])[0]
    assert event.event_code == "RECOVERED_ANOMALY"
    assert "sensor 7" in event.message


def test_a_heartbeat_alone_is_a_piece():
    columns = piece((5_000, None, "", []))
    assert isinstance(columns, PacketColumns)
    assert list(PartitionLogic(watch(), None).on_batch([columns])[0]) == []
