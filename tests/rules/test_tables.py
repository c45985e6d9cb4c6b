"""Kinds of rules, and editions that programs of different versions write and read."""

import ast
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.settings import Settings
from ops.devices import SensorSpec, register
from rules.history import LiveRules
from rules.rate import RATE
from rules.tables import KINDS, SCHEMA, RuleSet, decode_rules, make_rules
from rules.threshold import THRESHOLD
from sql.schema import apply_schema, open_database

ROOT = Path(__file__).parents[2]
RATES: dict[str, list[dict[str, Any]]] = {
    "rate_thresholds": [{"id": 1, "sensor_id": 7, "rise_per_minute": 5.0}]
}
OLD: dict[str, list[dict[str, Any]]] = {
    "alert_thresholds": [
        {"id": 1, "sensor_id": 7, "condition_type": "out_of_range", "threshold_value_min": 1.0,
         "threshold_value_max": 9.0, "severity": "critical"},
        {"id": 2, "sensor_id": 8, "condition_type": "greater_than", "threshold_value_min": 5.5},
    ],
    "sensor_threshold_profiles": [
        {"id": 1, "sensor_id": 7, "warning_min": 2.0, "warning_max": 8.0, "alert_min": 1.0,
         "alert_max": 9.0},
    ],
    "delta_thresholds": [{"id": 1, "sensor_id": 7, "abs_delta": 3.0}],
    "ml_models": [
        {"id": 1, "sensor_id": 7, "model_type": "detector", "metadata": '{"kind":"deep"}'}
    ],
}  # fmt: skip


STATED: dict[str, list[dict[str, Any]]] = {
    "alert_thresholds": [
        OLD["alert_thresholds"][0] | {"reset_value_min": 2.0, "reset_value_max": 8.5},
        OLD["alert_thresholds"][1] | {"reset_value_min": 5.0},
        {"id": 3, "sensor_id": 8, "condition_type": "equal_to", "threshold_value_min": 0.0},
    ],
    "delta_thresholds": OLD["delta_thresholds"],
    "ml_models": OLD["ml_models"],
}
"""Rules without a reset bound that has to be derived."""


def test_rules_of_schema_1_have_the_same_version_as_in_earlier_programs():
    rules, refused = make_rules(STATED)
    assert not refused
    assert (rules.schema, rules.version()) == (1, "ebdc66027d07")


def test_an_edition_has_the_lowest_schema_that_can_hold_its_rules():
    assert make_rules(RATES)[0].schema == 2
    assert b'"schema"' not in make_rules(STATED)[0].encode()
    assert decode_rules(make_rules(OLD | RATES)[0].encode()) == make_rules(OLD | RATES)[0]


def test_a_model_with_its_time_of_training_needs_schema_3_and_one_without_stays_as_it_was():
    """Programs of schema 2 leave the rules to newer ones then, and do not write their own again."""
    (model,) = STATED["ml_models"]
    rules, _ = make_rules(STATED | {"ml_models": [model | {"trained_at": "2026-11-01"}]})
    assert (rules.schema, rules.models[0].trained_at) == (3, 1793491200000)
    assert decode_rules(rules.encode()) == rules
    before = make_rules(STATED)[0].encode()
    assert b"trained_at" not in before
    assert decode_rules(before).encode() == before


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("alert_thresholds", OLD["alert_thresholds"][0]),
        ("alert_thresholds", OLD["alert_thresholds"][0] | {"reset_value_min": 2.0}),
        ("alert_thresholds", OLD["alert_thresholds"][0] | {"reset_value_max": 8.5}),
        ("alert_thresholds", OLD["alert_thresholds"][1]),
        ("sensor_threshold_profiles", {"id": 1, "sensor_id": 7, "alert_min": 1.0}),
    ],
)
def test_an_edition_with_a_derived_reset_bound_has_schema_3(table, row):
    rules = make_rules(STATED | {table: [row]})[0]
    assert rules.schema == 3
    assert msgspec.json.decode(rules.encode())["schema"] == 3
    assert decode_rules(rules.encode()) == rules


def test_an_edition_of_an_earlier_program_keeps_its_reset_bounds_and_its_version():
    """Earlier programs stored derived reset bounds too."""
    text = (
        '{"thresholds":[{"table":"alert_thresholds","id":2,"sensor_id":8,"name":"threshold 2",'
        '"condition":"greater_than","level":1,"low":null,"high":5.5,"reset_low":null,'
        '"reset_high":5.225,"raise_after":1,"clear_after":5,"forecast_after":3}],"deltas":[],'
        '"models":[]}'
    )
    rules = decode_rules(text)
    (rule,) = rules.of(THRESHOLD)
    assert (rule.reset_low, rule.reset_high, rules.schema) == (None, 5.225, 1)
    assert rules.encode().decode() == text


def test_unknown_fields_of_a_newer_program_are_kept():
    content = msgspec.json.decode(make_rules(OLD)[0].encode())
    text = msgspec.json.encode(content | {"schema": 99, "moons": [{"phase": "full"}]})
    rules = decode_rules(text)
    assert rules.schema == 99
    assert len(rules.of(THRESHOLD)) == 4
    assert msgspec.json.decode(rules.encode()) == msgspec.json.decode(text)


def test_no_edition_is_written_after_one_of_a_newer_program(tmp_path):
    settings = Settings(iot_sqlite_path=tmp_path / "iot.db", rules_refresh_seconds=3)
    apply_schema(settings)
    database = open_database(settings)
    spec = SensorSpec("boiler", "temperature", "°C", {"warning": (0, 80)})
    register(database, "rig", [spec])
    database.close()
    LiveRules(settings).load()
    with closing(sqlite3.connect(settings.iot_sqlite_path)) as connection, connection:
        ((text,),) = connection.execute("SELECT rules FROM rule_versions")
        newer = msgspec.json.encode(msgspec.json.decode(text) | {"schema": SCHEMA + 1}).decode()
        connection.execute(
            "INSERT INTO rule_versions (applies_from, version, rules) VALUES (5, 'newer', ?)",
            (newer,),
        )
        connection.execute("UPDATE alert_thresholds SET threshold_value_max = 70")
    book = LiveRules(settings)
    for _ in range(2):
        rules = book.load()
        assert rules.of(THRESHOLD)[0].high == 80
        assert [edition.version for edition in book.editions(0)][-1] == "newer"
    with closing(sqlite3.connect(settings.iot_sqlite_path)) as connection:
        assert connection.execute("SELECT count(*) FROM rule_versions").fetchone() == (2,)


def test_every_kind_has_both_languages_and_a_unique_code_and_number():
    for language in ("es", "en"):
        names = [name for kind in KINDS for name in kind.texts[language]]
        assert len(set(names)) == len(names) > 0
        assert all(set(kind.texts[language]) == set(kind.texts["en"]) for kind in KINDS)
    for what in ("number", "name", "code"):
        assert len({getattr(kind, what) for kind in KINDS}) == len(KINDS)


def test_an_empty_rule_set_is_empty():
    assert make_rules({}) == (RuleSet(), [])
    assert make_rules(RATES)[0].of_sensor(8) == RuleSet()
    assert make_rules(RATES)[0].of_sensor(7).of(RATE) == make_rules(RATES)[0].of(RATE)


@pytest.mark.parametrize("package", ["dataflows", "ml", "ops", "sinks", "ingest_edge"])
def test_no_other_package_branches_on_the_kind_of_a_rule(package):
    """No `isinstance` of a rule, and no comparison with a kind except the detector, which has no
    rules.
    """
    rule_types = {kind.rule_type.__name__ for kind in KINDS if kind.rule_type is not None}
    kinds = {type(kind).__name__ for kind in KINDS}
    instances = {"THRESHOLD", "DELTA", "FORECAST", "RATE"}
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                asked = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
                assert not asked & (rule_types | kinds), f"{file}:{node.lineno}"
            if isinstance(node, ast.Compare):
                compared = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
                assert not compared & instances, f"{file}:{node.lineno}"
