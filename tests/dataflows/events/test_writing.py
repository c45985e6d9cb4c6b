import json
import re

import numpy as np
import pytest

from contract.event import Alert, event_key
from contract.level import Level
from dataflows.engine.engine import Times
from rules.columns import Rules
from rules.detector import VIEWS
from rules.words import Named, Names
from tests.dataflows.engine.test_engine import RULES
from tests.dataflows.events.test_levels import Above100, delta, make, threshold
from tests.dataflows.streams import (
    HELD_MS,
    NO_RULES,
    Partition,
    closed,
    each_second,
    heartbeat,
    long_stream,
)

ABOVE = make(
    threshold("greater_than", 80.0, id=5, name="hot"),
    threshold("greater_than", 90.0, id=6, name="too hot", severity="critical"),
)
BOILER = Named("boiler", "temperature", "°C", "rig")


def names(language="en", named=BOILER):
    return Names(language, {1: named}, {3: named.device})


def second(*values, start=1_000):
    return each_second(*values, device=3, start=start)


def events(records, rules=NO_RULES, language="en", named=BOILER, **how):
    partition = Partition(rules=rules, names=names(language, named), **how)
    return partition.run(closed(records)).events


def payload(event):
    return json.loads(event.payload)


STORY = second(70, 85, 95, *[70] * 6)


def test_a_warning_becomes_critical_and_recovers():
    raised, worse, over = events(STORY, ABOVE)
    assert [e.event_type for e in (raised, worse, over)] == ["warning", "critical", "notice"]
    assert [e.event_code for e in (raised, worse, over)] == [
        "ML_BEHAVIOR_STATE", "ML_BEHAVIOR_STATE", "RECOVERED_ANOMALY"
    ]  # fmt: skip
    assert [e.at for e in (raised, worse, over)] == [3_000, 4_000, 9_000]
    assert [e.value for e in (raised, worse, over)] == [85.0, 95.0, 70.0]
    assert [e.resolves for e in (raised, worse, over)] == [
        None, raised.event_key, worse.event_key
    ]  # fmt: skip
    assert [e.status for e in (raised, worse, over)] == ["active", "active", "resolved"]
    assert raised.event_key == event_key(1, 3_000, "ML_BEHAVIOR_STATE")
    assert (raised.device_id, raised.sensor_id, raised.silent) == (3, 1, False)


def test_a_fall_to_warning_resolves_the_critical_event_and_is_active():
    _, worse, better, over = events(second(85, 95, *[82] * 5, *[70] * 5), ABOVE)
    assert (better.event_type, better.status, better.resolves) == (
        "warning", "active", worse.event_key
    )  # fmt: skip
    assert over.resolves == better.event_key
    assert (
        payload(over)["duration_seconds"] == 11.0
    )  # since it left normal, not of the warning alone


def test_an_event_has_the_device_that_sent_the_last_reading_of_the_pane():
    record = (1_000, 3, "a", [(1, 1_900, 99.0)])
    moved = (1_001, 4, "b", [(1, 1_100, 99.0)])
    assert events([record, moved], ABOVE)[0].device_id == 3
    assert events([moved, record], ABOVE)[0].device_id == 3


BACK_END_READS = {
    "severity": str, "behavior_pattern": str, "recommended_action": str, "sensor_type": str,
    "baseline_mean": float, "last_value": float, "z_score_last": float,
    "is_curve_anomalous": bool, "has_microvariation": bool, "microvariation_delta": float,
}  # fmt: skip


def test_payloads_carry_the_keys_that_the_back_end_reads():
    all_details = [payload(event) for event in events(STORY, ABOVE)]
    for details in all_details:
        assert {name: type(details[name]) for name in BACK_END_READS} == BACK_END_READS
        assert details["sensor_type"] == "temperature"
        assert details["rules_version"] == ABOVE.version
    raised, worse, over = all_details
    assert [details["severity"] for details in all_details] == ["WARN", "CRITICAL", "NORMAL"]
    assert [details["recommended_action"] for details in all_details] == [
        "check_soon", "immediate_intervention", "none"
    ]  # fmt: skip
    assert (raised["threshold_id"], worse["threshold_id"]) == (5, 6)
    # 70 and 85: mean 77.5, deviation 7.5
    assert (raised["baseline_mean"], raised["last_value"], raised["z_score_last"]) == (
        77.5, 85.0, 1.0
    )  # fmt: skip
    assert (raised["is_curve_anomalous"], raised["has_microvariation"]) == (True, False)
    assert raised["microvariation_delta"] == 7.5
    assert (raised["mean"], raised["min"], raised["max"], raised["count"]) == (85, 85, 85, 1)
    assert (raised["from"], raised["to"]) == ("NORMAL", "WARN")
    assert over["duration_seconds"] == 6.0


def test_payloads_of_thresholds_have_their_bounds_as_in_their_table():
    (event,) = events(second(85), ABOVE)
    details = payload(event)
    assert (details["threshold_value_min"], details["threshold_value_max"]) == (80.0, None)
    assert (details["reset_value_min"], details["reset_value_max"]) == (76.0, None)
    assert (details["condition_type"], details["raise_after"], details["clear_after"]) == (
        "greater_than", 1, 5
    )  # fmt: skip
    (event,) = events(second(5), make(threshold("out_of_range", 10.0, 30.0, clear_after=2)))
    details = payload(event)
    assert (details["threshold_value_min"], details["threshold_value_max"]) == (10.0, 30.0)
    assert (details["reset_value_min"], details["reset_value_max"]) == (11.0, 29.0)
    assert details["clear_after"] == 2


def test_payloads_of_deltas_have_the_change_and_the_bounds_that_were_reached():
    rules = delta(id=7, abs_delta=5.0, rel_slope=0.5, abs_slope=9.0, min_readings=0)
    (event,) = events(second(10, None, 18), rules)
    details = payload(event)
    assert event.event_code == "DELTA_SPIKE"
    assert {name: details[name] for name in (
        "delta_abs", "delta_rel", "slope_abs", "slope_rel", "dt_seconds", "last_value",
        "triggered_thresholds", "threshold_id",
    )} == {
        "delta_abs": 8.0, "delta_rel": 0.8, "slope_abs": 4.0, "slope_rel": 0.4,
        "dt_seconds": 2.0, "last_value": 18.0, "triggered_thresholds": ["delta_abs"],
        "threshold_id": 7,
    }  # fmt: skip
    (event,) = events(second(10, 19), rules)
    assert payload(event)["triggered_thresholds"] == ["delta_abs", "slope_abs", "slope_rel"]


def predicted(*then, minutes=1500):
    """A reading of 20 or 20.3 every minute, so that the band is known, and then `then`."""
    values = [20.3 if minute % 3 == 2 else 20.0 for minute in range(minutes)]
    return [
        (60_000 * minute, 3, f"minute {minute}", [(1, 60_000 * minute, value)])
        for minute, value in enumerate([*values, *then])
    ]


def test_payloads_of_deviations_have_the_prediction_its_time_and_the_error():
    reported = events(predicted(25.0))
    (event, *_) = (event for event in reported if event.event_code == "PREDICTION_DEVIATION")
    told = payload(event)
    assert (event.at, event.event_type, event.value) == (90_001_000, "warning", 25.0)
    assert {name: told[name] for name in (
        "predicted_value", "error_abs", "error_rel", "predicted_at", "severity",
        "recommended_action",
    )} == {
        "predicted_value": 20.0, "error_abs": 5.0, "error_rel": 0.25, "predicted_at": 89_400_000,
        "severity": "WARN", "recommended_action": "check_soon",
    }  # fmt: skip
    assert told.keys() >= BACK_END_READS.keys()


@pytest.mark.parametrize(
    ("values", "pattern"),
    [
        ([20.0] * 10, "STABLE"),
        ([20.0, 20.3] * 5, "OSCILLATING"),
        ([20 + 0.02 * n for n in range(10)], "OSCILLATING"),
        ([20 + 0.06 * n for n in range(5)], "DRIFTING"),
        ([20.0] * 5 + [21, 23, 27, 35, 51], "DRIFTING"),
    ],
)
def test_the_pattern_is_the_first_of_the_old_ones_that_fits(values, pattern):
    rules = make(threshold("greater_than", -1e6, consecutive_readings=len(values)))
    (event,) = events(second(*values), rules)
    assert payload(event)["behavior_pattern"] == pattern


@pytest.mark.parametrize(("sign", "pattern"), [(1, "EXPONENTIAL_RISE"), (-1, "EXPONENTIAL_FALL")])
def test_an_accelerating_value_is_an_exponential_pattern(sign, pattern):
    records = [
        (1_000 * n, 3, str(n), [(1, 1_000 * n + ms, sign * 1.5 ** (n + ms / 1e3)) for ms in (0, 9)])
        for n in range(1, 11)
    ]
    rules = make(threshold("greater_than", -1e6, consecutive_readings=10))
    (event,) = events(records, rules)
    assert payload(event)["behavior_pattern"] == pattern


def test_a_small_but_unusual_jump_is_a_microvariation():
    rules = make(threshold("greater_than", 20.1))
    readings = [(1, 1_000 + n, 20.0) for n in range(99)]
    records = [(1_000, 3, "a", readings), (9_000, 3, "b", [(1, 9_000, 20.2)])]
    (event,) = events(records, rules)
    details = payload(event)
    assert details["has_microvariation"]
    assert not details["is_curve_anomalous"]
    assert details["microvariation_delta"] == pytest.approx(0.198)
    assert details["z_score_last"] == pytest.approx(99**0.5)


SILENCE = [*second(*[20] * 6), heartbeat(40_000), *second(20, start=70_000)]
OTHERS = [
    (at, 3, f"others {at}", [(2, at, 1.0)] + [(1, at, 20.0)] * (at < 7_000 or at > 49_000))
    for at in range(1_000, 51_000, 1_000)
]
KINDS = {
    "above": (
        ABOVE, second(85), -1,
        "boiler of rig is at 85 °C, above 80 °C (hot). Check it soon.",
        "boiler de rig está en 85 °C, por encima de 80 °C (hot). Revíselo pronto.",
        "rig · boiler: warning", "rig · boiler: advertencia",
    ),
    "below": (
        make(threshold("out_of_range", 10.5, 30, "critical", name="cold")), second(9.25), -1,
        "boiler of rig is at 9.25 °C, below 10.5 °C (cold). Act at once.",
        "boiler de rig está en 9.25 °C, por debajo de 10.5 °C (cold). Intervenga de inmediato.",
        "rig · boiler: critical", "rig · boiler: crítico",
    ),
    "equal": (
        make(threshold("equal_to", 0.0, name="stuck")), second(0), -1,
        "boiler of rig is at 0 °C, the value that stuck watches for. Check it soon.",
        "boiler de rig está en 0 °C, el valor que vigila stuck. Revíselo pronto.",
        "rig · boiler: warning", "rig · boiler: advertencia",
    ),
    "delta": (
        delta(abs_delta=5.0, min_readings=0), second(10, *[None] * 64, 18), -1,
        "boiler of rig changed by 8 °C in 1 min 5 s, to 18 °C. Check it soon.",
        "boiler de rig cambió en 8 °C en 1 min 5 s, hasta 18 °C. Revíselo pronto.",
        "rig · boiler: warning", "rig · boiler: advertencia",
    ),
    "forecast": (
        make(threshold("greater_than", 100, severity="critical", name="boils", forecast_after=1)),
        second(16, 24, 32, 40, 48), -1,
        "boiler of rig is at 48 °C and will reach 100 °C in about 6 s if the trend continues "
        "(boils). Check it soon.",
        "boiler de rig está en 48 °C y alcanzará 100 °C en unos 6 s si sigue así (boils). "
        "Revíselo pronto.",
        "rig · boiler: warning", "rig · boiler: advertencia",
    ),
    "recovered": (
        ABOVE, STORY, -1,
        "boiler of rig is back to normal at 70 °C, after 6 s.",
        "boiler de rig volvió a la normalidad con 70 °C, tras 6 s.",
        "rig · boiler: normal", "rig · boiler: normal",
    ),
    "flapping": (
        make(threshold("greater_than", 80.0, clear_after=999)), second(*[90, 50] * 5), -1,
        "boiler of rig changes its level almost every second and is now at 50 °C. Its changes "
        "send no notifications until it settles. Check the sensor or the threshold.",
        "boiler de rig cambia de nivel casi cada segundo, ahora con 50 °C. Sus cambios no se "
        "notificarán hasta que se estabilice. Revise el sensor o el umbral.",
        "rig · boiler: flapping", "rig · boiler: oscilación",
    ),
    "settled": (
        make(threshold("greater_than", 80.0, clear_after=999)), second(*[90, 50] * 5, *[50] * 15),
        -1,
        "boiler of rig stopped flapping after 15 s and is at 50 °C: warning.",
        "boiler de rig dejó de oscilar tras 15 s y está en 50 °C: advertencia.",
        "rig · boiler: stopped flapping", "rig · boiler: fin de la oscilación",
    ),
    "device silent": (
        NO_RULES, SILENCE, 0,
        "rig has sent no data for 30 s. Check its power and network.",
        "rig no envía datos desde hace 30 s. Revise su alimentación y su red.",
        "rig: no data", "rig: sin datos",
    ),
    "device back": (
        NO_RULES, SILENCE, 1,
        "rig sends data again, after 1 min 4 s.",
        "rig vuelve a enviar datos, tras 1 min 4 s.",
        "rig: data resumed", "rig: datos de nuevo",
    ),
    "sensor silent": (
        NO_RULES, OTHERS, 0,
        "boiler of rig has sent no data for 30 s, but the device has. Check the sensor.",
        "boiler de rig no envía datos desde hace 30 s; el dispositivo sí. Revise el sensor.",
        "rig · boiler: no data", "rig · boiler: sin datos",
    ),
    "sensor back": (
        NO_RULES, OTHERS, 1,
        "boiler of rig sends data again, after 44 s.",
        "boiler de rig vuelve a enviar datos, tras 44 s.",
        "rig · boiler: data resumed", "rig · boiler: datos de nuevo",
    ),
    "deviation": (
        NO_RULES, predicted(10.0), 0,
        "boiler of rig is at 10 °C; ten minutes ago the prediction was 20 °C, and its error is "
        "usually at most 0.877 °C. Check it soon.",
        "boiler de rig está en 10 °C; diez minutos antes se había previsto 20 °C, y el error no "
        "suele pasar de 0.877 °C. Revíselo pronto.",
        "rig · boiler: deviation from prediction", "rig · boiler: desviación de lo previsto",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_messages_and_titles_compare_the_value_with_its_reference(kind):
    rules, records, which, english, spanish, title, title_es = KINDS[kind]
    assert (events(records, rules)[which].message, events(records, rules)[which].title) == (
        english, title
    )  # fmt: skip
    reported = events(records, rules, "es")[which]
    assert (reported.message, reported.title) == (spanish, title_es)


FOUND = {
    "level": (
        (21.0, 20.0, 0.25),
        "boiler of rig is at 150 °C. Its level is unusual: its recent mean is 21 °C; it is usually "
        "20 °C, with deviations of about 0.25 °C. Check it soon.",
        "boiler de rig está en 150 °C. Su nivel es inusual: su media reciente es 21 °C; suele ser "
        "20 °C, con desviaciones de unos 0.25 °C. Revíselo pronto.",
    ),
    "noise": (
        (3.25, 0.5, 0.1),
        "boiler of rig is at 150 °C. It moves more than usual: by 3.25 °C from one value to the "
        "next; usually by 0.5 °C. Check it soon.",
        "boiler de rig está en 150 °C. Se mueve más de lo habitual: 3.25 °C de un valor al "
        "siguiente; suele ser 0.5 °C. Revíselo pronto.",
    ),
    "quiet": (
        (1e-9, 0.5, 0.1),
        "boiler of rig is at 150 °C and hardly moves, which is unusual: by 0 °C from one value to "
        "the next; usually by 0.5 °C. It may be stuck. Check it soon.",
        "boiler de rig está en 150 °C y casi no se mueve, algo inusual: 0 °C de un valor al "
        "siguiente; suele ser 0.5 °C. Puede estar atascado. Revíselo pronto.",
    ),
    "shape": (
        (1.0, 1.0, 0.1),
        "boiler of rig is at 150 °C. How it moves is unusual: of its earlier values, only one in "
        "1000000 is less like its past. It is usually at about 50 °C. Check it soon.",
        "boiler de rig está en 150 °C. Se mueve de un modo inusual: de sus valores anteriores, "
        "solo uno de cada 1000000 se parece menos a su pasado. Suele estar alrededor de 50 °C. "
        "Revíselo pronto.",
    ),
}


@pytest.mark.parametrize("view", FOUND)
def test_the_message_of_the_detector_says_what_was_unusual_and_compared_with_what(view):
    figures, english, spanish = FOUND[view]

    class Viewed(Above100):
        def step(self, *panes):
            found = super().step(*panes)
            found.view[:] = list(VIEWS).index(view)
            found.compared[:] = np.array(figures)[:, None]
            return found

    records = second(*[20] * 3, *[150] * 3)
    (event,) = events(records, detector=Viewed)
    assert event.message == english
    (event,) = events(records, language="es", detector=Viewed)
    assert event.message == spanish
    bare = Named("boiler", "temperature", "", "rig")
    (event,) = events(records, named=bare, detector=Viewed)
    assert "°C" not in event.message


def test_a_new_normal_is_not_called_a_return_to_normal():
    class Accepting(Above100):
        def step(self, sensor_id, end, mean, breached):
            found = super().step(sensor_id, end, mean, breached)
            found.accepted[mean < 100] = 33.0
            return found

    records = second(*[20] * 3, *[150] * 4, *[33] * 6)
    _, over = events(records, detector=Accepting)
    assert over.title == "rig · boiler: new normal"
    assert over.message == (
        "boiler of rig is at 33 °C. After 6 s, what it does is accepted as its normal, with a "
        "level of 33 °C."
    )
    assert payload(over)["accepted_value"] == 33.0
    _, over = events(records, language="es", detector=Accepting)
    assert over.title == "rig · boiler: nuevo comportamiento normal"
    assert over.message == (
        "boiler de rig está en 33 °C. Tras 6 s, lo que hace se acepta como normal, con un nivel de "
        "33 °C."
    )


def test_a_return_to_the_prediction_resolves_the_deviation():
    for language, words in (
        ("en", "boiler of rig is at 20 °C, close to its prediction again, after 1 min 0 s."),
        ("es", "boiler de rig está en 20 °C, de nuevo cerca de lo previsto, tras 1 min 0 s."),
    ):
        off, on = (
            event
            for event in events(predicted(25.0, 20.0, 20.3), language=language)
            if event.event_code == "PREDICTION_DEVIATION"
        )
        assert (on.resolves, on.status, on.event_type) == (off.event_key, "resolved", "notice")
        assert on.message == words
        assert payload(on)["duration_seconds"] == 60.0


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("kind", KINDS)
def test_names_of_255_characters_are_truncated_with_an_ellipsis(kind, language):
    rules, records, which, *_ = KINDS[kind]
    long = Named("s" * 255, "t" * 255, "u" * 255, "d" * 255)
    reported = events(records, rules, language, long)[which]
    assert len(reported.title) <= 255
    assert len(reported.message) <= 1000
    assert "d" * 99 + "…" in reported.title
    assert "d" * 99 + "…" in reported.message
    if reported.sensor_id is not None:
        assert "s" * 99 + "…" in reported.title
        assert "s" * 99 + "…" in reported.message


def test_long_rule_names_are_truncated_and_braces_in_names_are_literal():
    rules = make(threshold("greater_than", 80.0, name="r" * 255))
    (event,) = events(second(85), rules, named=Named("{sensor}", "t", "{}", "{0}"))
    assert event.message.startswith("{sensor} of {0} is at 85 {}, above 80 {} (rrr")
    assert len(event.message) < 300


def test_sensors_and_devices_without_names_are_shown_by_their_ids():
    events = Partition(rules=ABOVE).run(closed(second(85, *[70] * 5))).events
    assert events[0].message == "sensor 1 of device 3 is at 85, above 80 (hot). Check it soon."
    assert payload(events[0])["sensor_type"] == "unknown"
    events = Partition().run(SILENCE).events
    assert events[0].title == "device 3: no data"


def test_the_events_of_a_device_have_no_sensor_and_separate_keys():
    events = Partition().run([*each_second(*[1] * 6, sensor=1, device=1), heartbeat(40_000)]).events
    assert [event.sensor_id for event in events] == [None]
    assert events[0].event_key != event_key(1, events[0].at, events[0].event_code)


@pytest.mark.parametrize("seed", range(15))
def test_event_keys_are_unique_and_resolve_earlier_events(seed):
    partition = Partition(Times(predict_ms=5000), Rules(RULES)).run(
        long_stream(seed), range(0, 250, 9)
    )
    told = {}
    for event in partition.events:
        assert re.fullmatch("[0-9a-f]{32}", event.event_key)
        assert event.event_key not in told
        told[event.event_key] = event
        # late readings may show an episode that is over: its one event resolves none
        over = payload(event).get("late") and event.event_type != "notice"
        assert event.status == "active" or event.resolves is not None or over
    assert {event.incident_key for event in partition.events} <= {None, *told}
    for event in partition.events:
        if event.resolves is not None:
            before = told.pop(event.resolves)  # no event is resolved twice
            assert (before.sensor_id, before.status) == (event.sensor_id, "active")
            assert before.at <= event.at  # equal if data resumes just when it becomes silent
        json.loads(event.payload)
        assert np.isfinite(event.value or 0.0)


def test_levels_of_thresholds_raise_and_end_alerts():
    raised, worse, better, over = events(second(85, 95, *[82] * 5, *[70] * 5), ABOVE)
    assert [event.alert for event in (raised, worse, better, over)] == [
        Alert(Level.WARN, 5, "Warning: hot"),
        Alert(Level.CRITICAL, 6, "Critical alert: too hot"),
        Alert(Level.WARN, 5, "Warning: hot"),
        Alert(Level.NORMAL),
    ]


def test_the_title_of_an_alert_is_in_the_language_of_its_event():
    raised, worse, _ = events(STORY, ABOVE, language="es")
    assert [raised.alert.title, worse.alert.title] == [
        "Advertencia: hot",
        "Alerta crítica: too hot",
    ]
    long = make(threshold("greater_than", 80.0, name="n" * 255))
    assert len(events(second(85), long)[0].alert.title) <= 255


def test_the_alert_of_a_profile_has_no_threshold():
    rules = make(profiles=[{"id": 3, "sensor_id": 1, "warning_max": 80.0}])
    assert events(second(85), rules)[0].alert == Alert(Level.WARN, None, "Warning: profile 3")


def test_a_level_of_another_kind_raises_no_alert_and_its_end_ends_one():
    raised, over = events(second(10, 19, *[19] * 5), delta(abs_delta=5.0, min_readings=0))
    assert (raised.alert, over.alert) == (None, Alert(Level.NORMAL))


def test_a_level_of_another_kind_above_that_of_a_threshold_leaves_its_alert():
    rules = make(
        threshold("greater_than", 80.0, id=5, name="hot"),
        deltas=[{"sensor_id": 1, "abs_delta": 20.0, "min_readings": 0, "severity": "critical"}],
    )
    raised, worse, better = events(second(85, 110, *[110] * 5), rules)
    assert (worse.event_code, worse.alert) == ("DELTA_SPIKE", None)
    hot = Alert(Level.WARN, 5, "Warning: hot")
    assert (raised.alert, better.alert) == (hot, hot)


def test_the_alert_of_late_readings_is_late_and_its_end_is_that_of_its_event():
    newest = second(*[70] * 5, start=60_000)
    values = (70.0, 85.0, *[70.0] * 8)
    late = [(1, 10_000 + 1_000 * n, value) for n, value in enumerate(values)]
    records = [*newest, (66_000, 3, "late", late), heartbeat(70_000)]
    found = Partition(rules=ABOVE, names=names()).run(closed(records, HELD_MS)).events
    raised, over = (event for event in found if payload(event).get("late"))
    assert raised.alert == Alert(Level.WARN, 5, "Warning: hot", late=True)
    assert (over.alert, over.resolves) == (None, raised.event_key)
