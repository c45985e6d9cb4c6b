"""Stories through the engine and the sinks into a database, and what `iot explain` shows."""

import json
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from contract.event import Event
from contract.packet import Packet, pack
from contract.settings import Settings, child_environment
from dataflows.engine.engine import Engine, Times
from dataflows.log.decode import record_columns
from ml.online.partition import PartitionDetector
from ops.devices import SensorSpec, register
from rules.columns import Rules
from rules.history import LiveRules
from sinks.events import events_sink
from sinks.predictions import predictions_sink
from sinks.readings import readings_sink
from sql.database import Database
from tests.databases import environment_of

START = 1732442400000
"""2024-11-24 10:00 UTC."""
DEVICE, BOILER, PUMP = 1, 1, 2


@dataclass
class Story:
    """A device with two sensors, the rules of its database, and the engine over what it sends."""

    settings: Settings
    database: Database

    def __post_init__(self):
        register(
            self.database,
            "rig",
            [SensorSpec("boiler", "temperature", "°C"), SensorSpec("pump", "power", "W")],
        )
        self.events: list[Event] = []
        self.panes: dict[int, tuple] = {}
        """end -> (count, mean, min, max, trend of w10) of the boiler's, as the engine had them."""
        self.at = START

    def rule(self, **columns):
        self._insert("alert_thresholds", sensor_id=BOILER, name="too hot", **columns)

    def delta(self, **columns):
        self._insert("delta_thresholds", sensor_id=BOILER, **columns)

    def rate(self, **columns):
        self._insert("rate_thresholds", sensor_id=BOILER, **columns)

    def _insert(self, table, **columns):
        marks = ", ".join("?" * len(columns))
        self.database._connection.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", tuple(columns.values())
        )

    def tell(self, records, times=None, detector=None):
        """Records (arrival, [(sensor, ts, value)]), or (arrival, None) for a heartbeat, from START
        on in seconds, through engine and sinks."""
        book = LiveRules(self.settings)
        rules = Rules(book.load())
        engine = Engine(times or Times(), detector)
        columns = record_columns(*self._packets(records))
        outcome = engine.step(columns, rules, book.names)
        self.events += outcome.events
        panes, w10 = outcome.panes, outcome.windows.w10
        for index in np.flatnonzero(outcome.sensor_id[panes.row] == BOILER).tolist():
            cells = (panes.count, panes.mean, panes.minimum, panes.maximum, w10.trend)
            self.panes[int(panes.end[index])] = tuple(float(cell[index]) for cell in cells)
        _write(readings_sink(self.settings), columns)
        _write(predictions_sink(self.settings), outcome.predictions)
        _write(events_sink(self.settings), *outcome.events)
        return self

    @staticmethod
    def _packets(records):
        arrivals, packets = [], []
        for number, (at, readings) in enumerate(records):
            arrivals.append(START + round(at * 1000))
            ts = [1000 * (START + round(ts * 1000)) for _, ts, _ in readings or ()]
            packets.append(
                None
                if readings is None
                else pack(
                    Packet(
                        packet_id=str(number),
                        device_id=DEVICE,
                        device_uuid="",
                        received_at=arrivals[-1] * 1000,
                        sensor_id=[sensor for sensor, _, _ in readings],
                        ts=ts,
                        device_ts=list(ts),
                        value=[float(value) for _, _, value in readings],
                        seq=[0] * len(readings),
                    )
                )
            )
        return arrivals, packets

    def event(self, code, status=None):
        """The last event of that code."""
        return [
            event
            for event in self.events
            if event.event_code == code and status in (None, event.status)
        ][-1]

    def iot(self, *arguments):
        given = environment_of(self.settings) | {"COLUMNS": "200"}
        return subprocess.run(
            [sys.executable, "-m", "ops.cli", "explain", *arguments],
            env=child_environment(given),
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip

    def explain(self, event):
        """What a person reads, as lines without runs of blanks, and the object of `--json`."""
        done = self.iot(event.event_key)
        assert done.returncode == 0, done.stderr
        as_json = self.iot(event.event_key, "--json")
        assert as_json.returncode == 0, as_json.stderr
        return Read(done.stdout), json.loads(as_json.stdout)


class Read:
    """Printed text."""

    def __init__(self, text):
        self.lines = [" ".join(line.split()) for line in text.splitlines()]

    def __contains__(self, words):
        return any(words in line for line in self.lines)

    def starting(self, words):
        return [line for line in self.lines if line.startswith(words)]


@pytest.fixture
def story(settings, database):
    return Story(settings, database)


def _write(sink, *values):
    partition = sink.build_part("step", sink.list_parts()[0], None)
    partition.write_batch(list(values))
    partition.snapshot()
    partition.close()


def each_second(*values, first=0.0, sensor=BOILER):
    return [
        (first + second, [(sensor, first + second, value)]) for second, value in enumerate(values)
    ]


def closed(records):
    return [*records, (records[-1][0] + 3, None)]


def clock(at):
    return f"10:{(at - START) // 60_000:02}:{(at - START) // 1000 % 60:02}"


def timers(told):
    return {timer["name"]: timer["said"] for timer in told["timers"]}


def marked(told):
    return [(rule["asked"], rule["kind"], rule["level"]) for rule in told["rules"] if rule["asked"]]


def assert_panes_of_the_engine(story, told):
    """What is shown is what was judged."""
    assert told["panes"]
    for pane in told["panes"]:
        mine = [pane[name] for name in ("count", "mean", "min", "max", "trend")]
        assert mine == pytest.approx(story.panes[pane["end"]], rel=1e-9, abs=1e-9)


def hot(story, **more):
    story.rule(
        condition_type="out_of_range", threshold_value_min=0, threshold_value_max=80,
        severity="warning", **more,
    )  # fmt: skip


def critical(story, **more):
    story.rule(
        condition_type="greater_than", threshold_value_min=95, severity="critical",
        forecast_after=0, **more,
    )  # fmt: skip


def test_a_raise_is_explained_by_its_rule_and_the_panes_up_to_it(story):
    critical(story)
    hot(story, consecutive_readings=3, clear_after=4)
    story.tell(closed(each_second(*[20.5] * 20, 77.5, 81, 82, 83, 84)))
    event = story.event("ML_BEHAVIOR_STATE")
    read, told = story.explain(event)
    assert event.at == START + 24_000

    assert f"key {event.event_key}" in read
    assert "when 2024-11-24 10:00:24 UTC" in read
    assert "who rig / boiler" in read
    assert f"message {event.message}" in read
    assert "status active" in read
    assert (
        "asked threshold too hot WARN a reading is below 0 °C or above 80 °C"
        " all readings are at least 4 °C and at most 76 °C 3 4"
    ) in read
    assert (
        "threshold too hot CRITICAL a reading is above 95 °C"
        " all readings are at most 95 °C, by 5 % of the distance to the usual value 1 5"
    ) in read.lines
    assert marked(told) == [("asked", "threshold", "WARN")]

    assert_panes_of_the_engine(story, told)
    ends = [pane["end"] for pane in told["panes"]]
    assert ends == [event.at - 1000 * back for back in reversed(range(15))]
    said = [pane["said"] for pane in told["panes"]]
    assert said == ["inside"] * 11 + ["held"] + ["beyond"] * 3
    assert read.starting("event 10:00:24 1 83 83 83") == [
        f"event 10:00:24 1 83 83 83 {story.panes[event.at][4]:+.3g} beyond"
    ]
    assert f"10:00:21 1 77.5 77.5 77.5 {story.panes[event.at - 3000][4]:+.3g} held" in read.lines

    assert timers(told) == {
        "beyond": (
            "3 panes in a row up to the event, since the pane that ended at 2024-11-24 10:00:22"
        ),
        "raise after": "3 panes in a row",
        "clear after": "4 quiet panes in a row",
    }
    assert "raise after 3 panes in a row" in read.lines
    assert told["notes"] == []


def test_the_first_pane_shown_has_its_whole_window(story):
    hot(story)
    fast = [(s, [(BOILER, s + part / 50, s * s % 71 + part) for part in range(50)])
            for s in range(60)]  # fmt: skip
    story.tell(closed(fast))
    event = [event for event in story.events if event.event_type == "warning"][-1]
    assert event.at > START + 30_000
    _, told = story.explain(event)
    assert len(told["panes"]) == 15
    assert_panes_of_the_engine(story, told)


def test_of_two_rules_with_the_same_id_the_one_that_raised_the_level_is_marked(story):
    story._insert("sensor_threshold_profiles", sensor_id=BOILER, warning_max=80.0, alert_max=90.0)
    hot(story)
    story.tell(closed(each_second(20, 20, 95)))
    _, told = story.explain(story.event("ML_BEHAVIOR_STATE"))
    (mine,) = [rule for rule in told["rules"] if rule["asked"]]
    assert (mine["name"], mine["level"]) == ("profile 1", "CRITICAL")
    assert mine["condition"] == "a reading is above 90 °C"


def test_the_rules_are_those_in_force_at_the_time(story, database):
    hot(story)
    story.tell(closed(each_second(20, 20, 85)))
    database._connection.execute("UPDATE alert_thresholds SET threshold_value_max = 200")
    LiveRules(story.settings).load()
    read, told = story.explain(story.event("ML_BEHAVIOR_STATE"))
    assert "asked threshold too hot WARN a reading is below 0 °C or above 80 °C" in read
    database._connection.execute("DELETE FROM rule_versions")
    read, told = story.explain(story.event("ML_BEHAVIOR_STATE"))
    assert told["rules"] == []
    assert "are no longer in rule_versions" in read


def test_a_recovery_is_explained_from_before_the_event_that_it_ended(story):
    hot(story, clear_after=3)
    values = [20] * 30 + [85, 85, 78, 85, 79] + [50] * 3
    story.tell(closed(each_second(*values)))
    raised, recovered = story.event("ML_BEHAVIOR_STATE"), story.event("RECOVERED_ANOMALY")
    read, told = story.explain(recovered)
    assert (told["event"]["at"], told["ended"]["key"]) == (START + 38_000, raised.event_key)
    assert f"it ended ML_BEHAVIOR_STATE of 2024-11-24 10:00:31, {raised.event_key}" in read
    assert marked(told) == [("had asked", "threshold", "WARN")]
    assert "had asked threshold too hot WARN" in read
    assert_panes_of_the_engine(story, told)
    assert told["panes"][0]["end"] <= raised.at - 5_000
    assert told["panes"][-1]["end"] == recovered.at
    after = [pane["said"] for pane in told["panes"] if pane["end"] >= raised.at]
    assert after == ["beyond", "beyond", "held", "beyond", "held", *["inside"] * 3]
    said = timers(told)
    assert said["quiet"].startswith("3 panes in a row up to the event")
    assert said["clear after"] == "3 quiet panes in a row"
    assert said["left NORMAL"] == "2024-11-24 10:00:31"
    assert said["lasted"] == "7 s"
    assert told["left_out"] is None

    read, told = story.explain(raised)
    assert told["ended_by"]["key"] == recovered.event_key
    when = "RECOVERED_ANOMALY of 2024-11-24 10:00:38"
    assert f"status resolved, ended by {when}, {recovered.event_key}" in read
    assert timers(told)["active for"] == "7 s"


@pytest.mark.parametrize("lasted", [80, 400])
def test_the_middle_of_a_long_level_is_left_out(story, lasted):
    hot(story)
    busy = [(s, [(BOILER, s + part / 100, 85 if s >= 30 else 20) for part in range(0, 99, 10)])
            for s in range(30 + lasted)]  # fmt: skip
    calm = each_second(*[50] * 6, first=30 + lasted)
    story.tell(closed([*busy, *calm]))
    raised, recovered = story.event("ML_BEHAVIOR_STATE"), story.event("RECOVERED_ANOMALY")
    read, told = story.explain(recovered)
    assert_panes_of_the_engine(story, told)
    assert len(told["panes"]) == 60
    ends = [pane["end"] for pane in told["panes"]]
    before, gap = told["left_out"]
    assert ends[before - 1] == raised.at
    assert ends[0] < raised.at - 5_000
    assert ends[-1] == recovered.at
    assert ends[before] - ends[before - 1] == gap > 1_000
    seconds = gap // 1000
    words = f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"
    assert f"... {words} left out" in read.lines
    assert timers(told)["quiet"].startswith("5 panes in a row")


def test_a_fall_to_a_lower_level_names_the_rule_of_each(story):
    critical(story, clear_after=2)
    hot(story)
    story.tell(closed(each_second(20, 20, 99, 85, 85, 85)))
    event = story.event("ML_BEHAVIOR_STATE")
    _, told = story.explain(event)
    assert (event.event_type, event.at) == ("warning", START + 5_000)
    assert marked(told) == [("had asked", "threshold", "CRITICAL"), ("asked", "threshold", "WARN")]
    assert [pane["said"] for pane in told["panes"]][-3:] == ["beyond", "inside", "inside"]
    assert timers(told)["quiet"].startswith("2 panes in a row")
    assert timers(told)["clear after"] == "2 quiet panes in a row"
    assert timers(told)["CRITICAL lasted"] == "2 s"


def test_a_spike_is_explained_by_the_change_from_pane_to_pane(story):
    story.delta(abs_delta=5.0, rel_delta=0.5, min_readings=2)
    hot(story)
    story.tell(closed(each_second(20, 21, 20, 27.5)))
    event = story.event("DELTA_SPIKE")
    read, told = story.explain(event)
    assert marked(told) == [("asked", "delta", "WARN")]
    condition = "mean changes by 5 °C or 50 %, or more, after the first 2 readings"
    assert f"asked delta delta_thresholds 1 WARN {condition} it changes by less 1 5" in read
    assert_panes_of_the_engine(story, told)
    assert [(pane["said"], pane["detail"]) for pane in told["panes"]] == [
        ("inside", ""),
        ("inside", "changed by 1 °C"),
        ("inside", "changed by 1 °C"),
        ("beyond", "changed by 7.5 °C"),
    ]
    assert "beyond (changed by 7.5 °C)" in read.starting("event 10:00:04 1 27.5")[0]
    assert timers(told)["raise after"] == "1 pane"


def test_a_forecast_is_explained_by_the_trend_and_the_bound_ahead(story):
    story.rule(
        condition_type="greater_than", threshold_value_min=95, severity="critical",
        forecast_after=4, clear_after=7,
    )  # fmt: skip
    hot(story)
    story.tell(closed(each_second(*[20] * 12, *[20 + step for step in range(1, 41)])))
    event = story.event("PRED_THRESHOLD_BREACH")
    read, told = story.explain(event)
    assert marked(told) == [("asked", "forecast", "WARN")]
    condition = "a clear trend leads to 95 °C within 60 s the trend no longer leads there"
    assert f"asked forecast too hot WARN {condition} 4 7" in read.lines
    assert_panes_of_the_engine(story, told)
    said = [pane["said"] for pane in told["panes"]]
    assert said[-5:] == ["inside", *["beyond"] * 4]
    payload = json.loads(event.payload)
    assert told["panes"][-1]["detail"] == f"95 °C in {int(payload['seconds_to_reach'])} s"
    since = clock(event.at - 3_000)
    assert timers(told)["beyond"].endswith(f"4 panes in a row up to the event, since the pane "
                                           f"that ended at 2024-11-24 {since}")  # fmt: skip
    assert timers(told)["raise after"] == "4 panes in a row"


def test_flapping_is_explained_by_the_panes_that_changed_the_level(story):
    hot(story)
    calm = [20] * 5
    story.tell(closed(each_second(*[20] * 20, *[85, 20] * 10, *calm * 5)))
    event = story.event("PATTERN_CHANGE", "resolved")
    begun = story.events[[event.event_code for event in story.events].index("PATTERN_CHANGE")]
    read, told = story.explain(begun)
    assert told["ended_by"]["key"] == event.event_key
    assert marked(told) == [("asked", "threshold", "WARN")]
    assert_panes_of_the_engine(story, told)
    swinging = [pane for pane in told["panes"] if pane["end"] > START + 20_000]
    assert {pane["detail"] for pane in swinging} == {"changed"}
    assert [pane["said"] for pane in swinging[:3]] == ["WARN", "NORMAL", "WARN"]
    count = len(swinging)
    assert timers(told)["changes of level"] == f"{count} within the last 20 panes"
    assert "WARN (changed)" in read
    read, told = story.explain(event)
    assert told["ended"]["key"] == begun.event_key
    assert timers(told)["lasted"] == f"{(event.at - begun.at) // 1000} s"


def test_the_silence_of_a_device_is_explained_by_its_last_arrivals(story):
    records = [(at, [(BOILER, at, 20), (PUMP, at, 5)]) for at in (0, 16, 20, 35, 45, 55)]
    story.tell([*records, (200, None), (300, [(BOILER, 300, 20)])])
    silent, back = story.event("NO_DATA"), story.event("DATA_RESUMED")
    assert silent.sensor_id is None
    assert silent.at == START + 55_000 + 75_000
    read, told = story.explain(silent)
    assert "who rig" in read.lines
    assert told["panes"] == told["rules"] == []
    assert [(arrival["at"] - START, arrival["readings"]) for arrival in told["arrivals"]] == [
        (at * 1000, 2) for at, _ in records
    ]
    assert "2024-11-24 10:00:35 2 15 s" in read.lines
    assert timers(told) == {
        "device last seen": "2024-11-24 10:00:55",
        "limit": "1 min 15 s: 5 times 15 s, the longest of the last 4 gaps, and at least 30 s",
        "silent at": "2024-11-24 10:02:10, 1 min 15 s later",
        "active for": "2 min 50 s",
    }
    assert f"ended by DATA_RESUMED of 2024-11-24 10:05:00, {back.event_key}" in read
    read, told = story.explain(back)
    assert told["ended"]["key"] == silent.event_key
    assert "2024-11-24 10:05:00 1 245 s" in read.lines
    said = timers(told)
    assert said["silent at"] == "2024-11-24 10:02:10, 1 min 15 s later"
    assert said["resumed at"] == "2024-11-24 10:05:00"
    assert said["silent for"] == "4 min 5 s"
    assert said["limit"].startswith("1 min 15 s: 5 times 15 s")
    assert told["notes"] == []


def test_the_silence_of_a_sensor_is_explained_with_its_device(story):
    both = [(at, [(BOILER, at, 20), (PUMP, at, 5)]) for at in range(7)]
    story.tell([*both, *each_second(*[5] * 40, first=7, sensor=PUMP)])
    event = story.event("NO_DATA")
    assert event.sensor_id == BOILER
    read, told = story.explain(event)
    assert "who rig / boiler" in read
    assert "last arrivals of the sensor" in read.lines
    assert [arrival["at"] - START for arrival in told["arrivals"]] == [at * 1000 for at in range(7)]
    assert timers(told) == {
        "sensor last seen": "2024-11-24 10:00:06",
        "limit": "30 s: 5 times 1 s, the longest of the last 4 gaps, and at least 30 s",
        "silent at": "2024-11-24 10:00:36, 30 s later",
        "device last seen": "2024-11-24 10:00:36",
    }
    assert told["notes"] == []


def test_a_deviation_is_explained_with_the_prediction(story):
    minute = [(at, [(BOILER, at, 20.25)]) for at in range(0, 61, 5)]
    later = [(at, [(BOILER, at, 29.5)]) for at in range(640, 671)]
    story.tell(closed([*minute, *later]))
    event = story.event("PREDICTION_DEVIATION")
    assert event.at == START + 660_000
    read, told = story.explain(event)
    (prediction,) = told["predictions"]
    assert prediction == {
        "model": "baseline_moving_average", "predicted_at": START + 60_000,
        "target": START + 660_000, "value": 20.25, "confidence": 0.2, "readings": 12,
    }  # fmt: skip
    assert (
        "baseline_moving_average 2024-11-24 10:01:00 2024-11-24 10:11:00 20.25 °C 0.2 12"
        in read.lines
    )
    assert_panes_of_the_engine(story, told)
    assert told["panes"][-1]["end"] == event.at
    assert timers(told)["predicted"] == "20.25 °C, predicted at 2024-11-24 10:01:00"
    assert timers(told)["mean of 10 s"] == "29.5 °C"
    assert timers(told)["off by"] == "9.25 °C, 45.679 % of the prediction"
    assert {pane["said"] for pane in told["panes"]} == {""}


def test_late_readings_are_noted(story):
    hot(story)
    late = (30, [(BOILER, 2.5, 20)])
    story.tell(closed([*each_second(20, 20, 85, 85, 85), late]))
    event = story.event("ML_BEHAVIOR_STATE")
    read, told = story.explain(event)
    assert told["panes"][-1]["count"] == 2
    assert json.loads(event.payload)["count"] == 1
    assert (
        "note: The event's pane has 2 readings here and had 1 when judged: 1 came late, and were"
        " judged in the backlog lane."
    ) in read


def test_readings_of_the_far_future_are_in_no_pane(story):
    hot(story)
    story.tell(closed([(0, [(BOILER, 600.5, 50)]), *each_second(*[20] * 3, 85, first=598)]))
    event = story.event("ML_BEHAVIOR_STATE")
    _, told = story.explain(event)
    assert_panes_of_the_engine(story, told)
    assert told["notes"] == []


def test_deleted_readings_are_noted(story, database):
    hot(story)
    story.tell(closed(each_second(20, 20, 85)))
    database._connection.execute("DELETE FROM sensor_readings")
    event = story.event("ML_BEHAVIOR_STATE")
    read, told = story.explain(event)
    had = [(pane["end"], pane["count"], pane["mean"], pane["min"]) for pane in told["panes"]]
    assert had == [(event.at - 2000, 1, 20, None), (event.at - 1000, 1, 20, None),
                   (event.at, 1, 85, None)]  # fmt: skip
    assert "the panes are those that the flow wrote into the event" in read
    assert marked(told) == [("asked", "threshold", "WARN")]
    assert timers(told)["beyond"].startswith("1 pane up to the event")

    database._connection.execute("UPDATE ml_events SET payload = json_remove(payload, '$.panes')")
    read, told = story.explain(event)
    assert told["panes"] == []
    assert "readings of the event's own pane are no longer in sensor_readings" in read


def test_what_the_engine_knew_takes_precedence_over_current_readings(story, database):
    hot(story, consecutive_readings=3)
    story.tell(closed(each_second(20, 20, 85, 86, 87)))
    event = story.event("ML_BEHAVIOR_STATE")
    database._connection.execute("UPDATE sensor_readings SET value = 85 WHERE value = 20")
    _, told = story.explain(event)
    assert timers(told)["beyond"].startswith("3 panes in a row up to the event")


def test_an_event_of_the_detector_says_what_was_unusual_and_by_how_much(story):
    noisy = np.random.default_rng(1).normal(20, 0.5, 400).tolist()
    story.tell(closed(each_second(*noisy, *[60.0] * 20)), detector=PartitionDetector())
    event = story.event("TRANSIENT_ANOMALY")
    _, told = story.explain(event)
    payload = json.loads(event.payload)
    assert payload["unusual"] == "level"
    assert payload["score"] >= payload["score_bound"] > 1
    said = timers(told)
    assert said["unusual"].startswith("its value; the usual value is about 20")
    assert said["score"].startswith(f"{payload['score']:g}: one normal pane in ")
    assert said["beyond"].startswith("3 panes in a row up to the event")
    assert (said["raise after"], said["clear after"]) == (
        "3 panes in a row", "5 quiet panes in a row"
    )  # fmt: skip
    assert payload["panes"][-1] == [event.at, 1, 60.0]
    assert len(payload["panes"]) == 10


def test_the_error_for_an_unknown_key_says_how_to_find_one(story):
    for key, words in (
        ("0123456789abcdef", "no event has a key that begins with 0123456789abcdef"),
        ("boiler", "boiler is not an event key: give 8 to 32 hexadecimal digits"),
        ("0123456", "0123456 is not an event key"),
    ):
        done = story.iot(key)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert words in line
        assert "column event_key of ml_events" in line
        assert done.stdout == ""


def test_a_unique_key_prefix_is_enough(story):
    hot(story)
    story.tell(closed(each_second(20, 20, 85)))
    event = story.event("ML_BEHAVIOR_STATE")
    twin = event.event_key[:8] + ("0" if event.event_key[8] != "0" else "1") * 24
    assert json.loads(story.iot(event.event_key[:8], "--json").stdout)["event"]["at"] == event.at
    columns = {name: getattr(event, name) for name in Event.__slots__}
    _write(events_sink(story.settings), Event(**(columns | {"event_key": twin})))
    done = story.iot(event.event_key[:8])
    assert done.returncode == 1
    assert f"several events have keys that begin with {event.event_key[:8]}" in done.stderr
    assert twin in done.stderr
    assert event.event_key in done.stderr
    done = story.iot(event.event_key[:9].upper(), "--json")
    assert json.loads(done.stdout)["event"]["key"] == event.event_key


def test_a_rate_is_explained_by_how_fast_each_pane_moved(story):
    story.rate(name="heats up", span_seconds=10, rise_per_minute=50.0)
    story.tell(closed(each_second(*[20.0 + second for second in range(13)])))
    event = story.event("RATE_OF_CHANGE")
    read, told = story.explain(event)
    assert marked(told) == [("asked", "rate", "WARN")]
    condition = "mean rises by more than 50 °C a minute, over 10 s"
    assert f"asked rate heats up WARN {condition} it changes more slowly 1 5" in read
    assert (told["panes"][-1]["said"], told["panes"][-1]["detail"]) == (
        "beyond", "60 °C a minute"
    )  # fmt: skip
    assert timers(told)["raise after"] == "1 pane"
