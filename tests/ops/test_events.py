"""`iot incidents` and `iot events`, on events that the sink and the engine have written."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest

from contract.event import Event, event_key
from contract.settings import Settings, child_environment
from ops.devices import SensorSpec, register
from sinks.corrections import Correction, write_corrections
from sinks.events import events_sink
from sql.database import Database
from tests.databases import environment_of
from tests.ops.test_explain import Story, closed, each_second, hot

AT = 1732442400000
"""2024-11-24 10:00 UTC."""
BOILER, PUMP, OTHER_BOILER = 1, 2, 3
HOUR = 3_600_000
_SHELL = """
import json, os, sys, tempfile, traceback
from ops.cli import main
for line in sys.stdin:
    environment, arguments = json.loads(line)
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    child = os.fork()
    if not child:
        code = 70
        try:
            os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)
            os.environ.update(environment)
            sys.argv = ["iot", *arguments]
            main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = [file.seek(0) or file.read().decode() for file in (out, err)]
    print(json.dumps([code, *texts]), flush=True)
"""
"""Runs `iot` in a process of its own for each line, without importing everything each time."""


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class Shell:
    """Runs commands."""

    def __init__(self, process):
        self._process = process

    def run(self, settings, *arguments):
        told = [environment_of(settings), [str(argument) for argument in arguments]]
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return Done(*json.loads(self._process.stdout.readline()))


@pytest.fixture(scope="module")
def shell():
    with subprocess.Popen(
        [sys.executable, "-c", _SHELL], env=child_environment({"COLUMNS": "250"}),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield Shell(process)
        process.stdin.close()


@dataclass
class Night:
    """A database with two devices and three sensors, and an operator."""

    settings: Settings
    database: Database
    shell: Shell

    def __post_init__(self):
        boiler, pump = SensorSpec("boiler", "temperature", "°C"), SensorSpec("pump", "power", "W")
        register(self.database, "rig", [boiler, pump])
        register(self.database, "attic", [boiler])

    def store(self, *events):
        sink = events_sink(self.settings).build_part("step", "0", None)
        sink.write_batch(list(events))
        sink.close()

    def execute(self, statement, *values):
        self.database._connection.execute(statement, values)

    def rows(self, statement):
        return [tuple(row) for row in self.database._connection.execute(statement).fetchall()]

    def id_of(self, event):
        found = self.rows(f"SELECT id FROM ml_events WHERE event_key = '{event.event_key}'")
        return found[0][0]

    def status(self, event):
        key = event.event_key
        return self.rows(f"SELECT status FROM ml_events WHERE event_key = '{key}'")[0][0]

    def unread(self):
        """Keys of the events whose notifications are unread."""
        statement = "SELECT event_key FROM alert_notifications WHERE is_read = 0 ORDER BY id"
        return [key for (key,) in self.rows(statement)]

    def run(self, *arguments):
        return self.shell.run(self.settings, *arguments)

    def iot(self, *arguments):
        """The printed lines, without runs of blanks."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return [" ".join(line.split()) for line in done.stdout.splitlines()]

    def json(self, *arguments):
        return [json.loads(line) for line in self.iot(*arguments, "--json")]

    def ids(self, *arguments):
        return [event["id"] for event in self.json("events", "list", *arguments)]

    def refused(self, *arguments):
        """The error, which is one line."""
        done = self.run(*arguments)
        assert done.returncode == 1, done.stdout
        (line,) = done.stderr.splitlines()
        return line


@pytest.fixture
def night(settings, database, shell):
    return Night(settings, database, shell)


def event(at=0, sensor_id=BOILER, **changes):
    """An event `at` seconds after AT; with `first`, of the incident that this event began."""
    ms, first = AT + at * 1000, changes.pop("first", None)
    code = changes.get("event_code", "ML_BEHAVIOR_STATE")
    made = Event(
        event_key=event_key(sensor_id or 0, ms, code), sensor_id=sensor_id, at=ms, event_code=code,
        device_id=2 if sensor_id == OTHER_BOILER else 1, event_type="warning", title="rig · boiler",
        message=f"boiler of rig is at {at + 80} °C.", value=at + 80.0, payload="{}",
        resolves=None, status="active", incident_key=first and first.event_key, silent=bool(first),
    )  # fmt: skip
    return replace(made, **changes)


def recovery(at, ended, **changes):
    return event(
        at, event_code="RECOVERED_ANOMALY", event_type="notice", status="resolved", first=ended,
        resolves=ended.event_key, message="boiler of rig is back to normal.", **changes,
    )  # fmt: skip


def test_events_are_listed_newest_first(night):
    warned = event(1)
    critical = event(2, OTHER_BOILER, event_type="critical", message="boiler of attic: 99 °C.")
    night.store(warned, critical, recovery(3, warned))
    listed = night.iot("events", "list")
    assert listed[0] == "id time (UTC) level status device / sensor code message"
    assert [line.split(" ", 1)[1] for line in listed[1:]] == [
        "2024-11-24 10:00:03 notice resolved rig / boiler RECOVERED_ANOMALY"
        " boiler of rig is back to normal.",
        "2024-11-24 10:00:02 critical active attic / boiler ML_BEHAVIOR_STATE"
        " boiler of attic: 99 °C.",
        "2024-11-24 10:00:01 warning resolved rig / boiler ML_BEHAVIOR_STATE"
        " boiler of rig is at 81 °C.",
    ]
    newest, _, oldest = night.json("events", "list")
    assert (newest["event_code"], newest["incident_key"]) == (
        "RECOVERED_ANOMALY",
        warned.event_key,
    )
    assert oldest | {"id": None, "notification_id": None, "device_id": None} == {
        "id": None, "event_key": warned.event_key, "incident_key": warned.event_key,
        "event_type": "warning", "event_code": "ML_BEHAVIOR_STATE", "title": "rig · boiler",
        "message": "boiler of rig is at 81 °C.", "status": "resolved", "operator_note": None,
        "device_id": None, "device": "rig", "sensor_id": BOILER, "sensor": "boiler", "unit": "°C",
        "acknowledged_by": None, "acknowledged_by_name": None, "resolved_by": None,
        "resolved_by_name": None, "notification_id": None, "is_read": False, "value": 81.0,
        "at": AT + 1000, "acknowledged_at": None, "resolved_at": AT + 3000, "read_at": None,
    }  # fmt: skip


def test_a_filter_leaves_out_what_does_not_match(night):
    first, pump = event(1), event(2, PUMP, event_type="critical")
    attic = event(3, OTHER_BOILER, event_type="notice", event_code="PATTERN_CHANGE")
    silent = event(4, None, event_code="NO_DATA")
    gone = event(5)
    night.store(first, pump, attic, silent, gone, recovery(6, first))
    write_corrections(night.settings, [Correction(gone, "superseded", None, ends=False)])
    ids = {name: night.id_of(made) for name, made in (
        ("first", first), ("pump", pump), ("attic", attic), ("silent", silent), ("gone", gone),
        ("recovery", recovery(6, first)),
    )}  # fmt: skip
    for options, wanted in (
        ("", "recovery silent attic pump first"),
        ("--limit 2", "recovery silent"),
        ("--device rig", "recovery silent pump first"),
        ("--sensor boiler", "recovery attic first"),
        ("--sensor boiler --device attic", "attic"),
        (f"--sensor {PUMP}", "pump"),
        ("--since 2024-11-24T10:00:02 --until 2024-11-24T10:00:04Z", "attic pump"),
        (f"--since {AT // 1000 + 6}", "recovery"),
        ("--since 1h", ""),
        ("--until 1h --status open", "silent attic pump"),
        ("--status resolved", "recovery first"),
        ("--status active", "silent attic pump"),
        ("--status superseded", "gone"),
        ("--level warning", "silent pump first"),
        ("--level critical", "pump"),
        ("--level notice", "recovery silent attic pump first"),
        ("--code pattern_change", "attic"),
        ("--device rig --level warning --status open --limit 1", "silent"),
    ):
        assert night.ids(*options.split()) == [ids[name] for name in wanted.split()], options


def test_an_empty_database_is_reported(night):
    for arguments, said in (
        (("incidents",), "no incident is open or since 1d; --all lists older ones"),
        (("incidents", "--all"), "there are no incidents"),
        (("events", "list"), "no events match"),
    ):
        done = night.run(*arguments)
        assert (done.returncode, done.stdout, done.stderr.strip()) == (0, "", said)
        done = night.run(*arguments, "--json")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_wrong_input_is_an_error_in_one_line(night):
    for arguments, said in (
        ("events show 7", "there is no event 7: `iot events list` shows"),
        ("events show 0123456789abcdef", "there is no event 0123456789abcdef"),
        ("events ack last", "last is not an event: give its id"),
        ("events ack 1234567890123456789012345678901234", "is not an event"),
        ("events resolve 7 8", "there is no event 7"),
        ("events list --device ring", "there is no device ring: `iot devices list`"),
        ("events list --sensor oven", "there is no sensor oven: `iot devices list`"),
        ("events list --sensor pump --device attic", "there is no sensor pump of device attic"),
        ("events list --sensor pump --device ring", "there is no device ring"),
        ("events list --since soon", "--since soon: give a time"),
        ("events list --until 1200", "--until 1200: give a time"),
        ("incidents --since 99", "--since 99: give a time"),
        ("events ack 1 --by nobody", "--by nobody: the table users has no username nobody"),
    ):
        line = night.refused(*arguments.split())
        assert line.startswith("iot: ")
        assert said in line


def test_nothing_changes_if_one_of_several_events_is_unknown(night):
    first = event(1)
    night.store(first)
    assert "no event 77" in night.refused("events", "ack", night.id_of(first), 77)
    assert night.status(first) == "active"
    assert "1001 characters" in night.refused(
        "events", "ack", night.id_of(first), "--note", "x" * 1001
    )
    assert night.status(first) == "active"


def test_an_event_is_shown_with_its_incident(night):
    first = event(1)
    later = event(2, event_code="PREDICTION_DEVIATION", first=first)
    night.store(first, later)
    number, other = night.id_of(first), night.id_of(later)
    shown = night.iot("events", "show", number)
    for line in (
        "what warning ML_BEHAVIOR_STATE: rig · boiler",
        "when 2024-11-24 10:00:01 UTC",
        "who rig / boiler",
        "message boiler of rig is at 81 °C.",
        "value 81 °C",
        "status active",
        "notification unread",
        f"incident {first.event_key}",
        f"id {number}",
        f"key {first.event_key}",
        "other events of the incident",
        f"{other} 2024-11-24 10:00:02 warning active boiler of rig is at 82 °C.",
        f"iot explain {first.event_key} shows the readings and rules behind it.",
    ):
        assert line in shown
    assert night.iot("events", "show", first.event_key[:8]) == shown
    assert night.iot("events", "show", first.event_key.upper()) == shown
    (told,) = night.json("events", "show", number)
    assert (told["id"], told["at"], told["other_ids"]) == (number, AT + 1000, [other])


def test_digits_that_are_an_id_and_begin_a_key_are_ambiguous(night):
    first, second = event(1), event(2)
    night.store(first, replace(second, event_key="12345678" + "a" * 24))
    assert night.iot("events", "show", "12345678")[-1].endswith(f"{'12345678' + 'a' * 24} shows"
        " the readings and rules behind it.")  # fmt: skip
    if night.settings.engine == "mssql":  # an identity column cannot be updated
        return
    night.execute("PRAGMA foreign_keys = OFF")
    night.execute("UPDATE ml_events SET id = 12345678 WHERE event_key = ?", first.event_key)
    assert "several events match 12345678" in night.refused("events", "ack", "12345678")


def test_an_event_is_acknowledged_once(night):
    first, later = event(1), event(2, event_code="PREDICTION_DEVIATION")
    later = replace(later, incident_key=first.event_key)  # it rings too
    night.store(first, later, event(3, PUMP))
    number = night.id_of(first)
    insert = "INSERT INTO users (username, email, password_hash) VALUES ('anna', 'a@b.c', '')"
    night.execute(insert)
    note = "ventilación cerrada; -- 弁を閉めた"
    if night.settings.engine == "sqlite":  # Babelfish leaves escapes in JSON texts
        note += ' "a" \\ b'
    done = night.iot("events", "ack", number, "--by", "anna", "--note", note)
    assert done == [f"event {number} is acknowledged: boiler of rig is at 81 °C."]
    assert night.status(first) == "acknowledged"
    assert night.unread() == [later.event_key, event(3, PUMP).event_key]
    assert night.status(later) == "active"
    shown = night.iot("events", "show", number)
    (status,) = [line for line in shown if line.startswith("status")]
    assert status.startswith("status acknowledged at 20")
    assert status.endswith(" UTC by anna")
    assert f"note {note}" in shown
    assert any(line.startswith("notification read at 20") for line in shown)

    before = night.json("events", "show", number)
    (again,) = night.iot("events", "ack", number)
    assert again == f"event {number} was already {status.removeprefix('status ')}"
    assert night.json("events", "show", number) == before

    # the later one is acknowledged with it, on request; its notification falls silent
    night.iot("events", "ack", number, "--incident")
    assert night.status(later) == "acknowledged"
    assert night.unread() == [event(3, PUMP).event_key]


def test_acknowledging_marks_the_earlier_notifications_of_the_incident_as_read(night):
    first = event(1)
    later = event(2, event_code="PREDICTION_DEVIATION", first=first)
    night.store(first, later)
    assert night.unread() == [first.event_key]
    night.iot("events", "ack", night.id_of(later))
    assert night.unread() == []
    assert (night.status(first), night.status(later)) == ("active", "acknowledged")


def test_an_escalation_meanwhile_keeps_ringing(night):
    first = event(1)
    worse = event(
        2, event_type="critical", incident_key=first.event_key, resolves=first.event_key,
        escalates=True, event_code="ML_BEHAVIOR_STATE",
    )  # fmt: skip
    night.store(first, worse)
    number = night.id_of(first)
    line = night.refused("events", "ack", number, night.id_of(worse) + 0)
    assert line == (
        f"iot: event {number} is resolved since 2024-11-24 10:00:02 UTC, so it cannot be "
        f"acknowledged: `iot events resolve {number}` marks its notifications as read"
    )
    assert night.status(worse) == "acknowledged"
    night.execute("UPDATE ml_events SET status = 'active'")
    night.execute("UPDATE alert_notifications SET is_read = 0")
    night.iot("events", "resolve", number)
    assert night.unread() == [worse.event_key]


def test_the_flow_ends_an_acknowledged_event_and_keeps_who_acknowledged_it(night):
    first = event(1)
    night.store(first)
    number = night.id_of(first)
    insert = "INSERT INTO users (username, email, password_hash) VALUES ('anna', 'a@b.c', '')"
    night.execute(insert)
    night.iot("events", "ack", number, "--by", "anna", "--note", "watching it")
    (acknowledged,) = night.json("events", "show", number)
    night.store(recovery(9, first))
    night.store(recovery(9, first))
    (now,) = night.json("events", "show", number)
    assert (now["status"], now["resolved_at"], now["resolved_by"]) == (
        "resolved", AT + 9000, None
    )  # fmt: skip
    for column in ("acknowledged_at", "acknowledged_by_name", "operator_note"):
        assert now[column] == acknowledged[column] is not None
    shown = night.iot("events", "show", number)
    assert "status resolved at 2024-11-24 10:00:09 UTC" in shown
    (line,) = [line for line in shown if line.startswith("acknowledged at 20")]
    assert line.endswith(" UTC by anna")


def test_an_event_is_resolved_once_and_the_flow_leaves_its_end(night):
    first = event(1)
    night.store(first, event(2, PUMP))
    number = night.id_of(first)
    done = night.iot("events", "resolve", number, "--note", "sensor replaced")
    assert done == [f"event {number} is resolved: boiler of rig is at 81 °C."]
    assert night.unread() == [event(2, PUMP).event_key]
    (resolved,) = night.json("events", "show", number)
    assert resolved["operator_note"] == "sensor replaced"
    assert resolved["is_read"] is True
    night.store(recovery(9, first))
    (again,) = night.iot("events", "resolve", number)
    assert again.startswith(f"event {number} was already resolved at 20")
    (now,) = night.json("events", "show", number)
    assert now["resolved_at"] == resolved["resolved_at"] > AT + 9000
    assert "cannot be acknowledged" in night.refused("events", "ack", number)


def test_a_superseded_event_can_be_neither_acknowledged_nor_resolved(night):
    gone = event(1)
    night.store(gone)
    write_corrections(night.settings, [Correction(gone, "superseded", None, ends=False)])
    for verb in ("ack", "resolve"):
        line = night.refused("events", verb, night.id_of(gone), "--note", "x")
        assert "is superseded: a replay found that it does not hold" in line
    (now,) = night.json("events", "show", night.id_of(gone))
    assert (now["status"], now["operator_note"]) == ("superseded", None)


def test_incidents_are_listed_by_urgency(night):
    ended = event(1)
    back = recovery(66, ended)
    acknowledged = event(70, PUMP, event_type="critical")
    warned = event(80, OTHER_BOILER)
    worse = event(
        90, OTHER_BOILER, event_type="critical", resolves=warned.event_key, escalates=True,
        incident_key=warned.event_key, message="boiler of attic is at 99 °C.",
    )  # fmt: skip
    silent = event(100, None, event_code="NO_DATA", message="rig has sent no data.")
    gone = event(110, PUMP, event_code="NO_DATA")
    night.store(ended, back, acknowledged, warned, worse, silent, gone)
    write_corrections(night.settings, [Correction(gone, "superseded", None, ends=False)])
    night.iot("events", "ack", night.id_of(acknowledged))

    told = night.json("incidents", "--all")
    assert [incident["first_id"] for incident in told] == [
        night.id_of(made) for made in (warned, silent, acknowledged, ended)
    ]
    of_attic, of_device, of_pump, of_boiler = told
    assert of_attic | {"device_id": None} == {
        "incident_key": warned.event_key, "event_id": night.id_of(worse),
        "first_id": night.id_of(warned), "status": "active", "level": "critical",
        "device_id": None, "device": "attic", "sensor_id": OTHER_BOILER, "sensor": "boiler",
        "began": AT + 80_000, "ended": None, "events": 2, "unread": 1, "title": "rig · boiler",
        "message": "boiler of rig is at 160 °C.",
    }  # fmt: skip
    assert (of_device["device"], of_device["sensor"], of_device["level"]) == (
        "rig",
        None,
        "warning",
    )
    assert (of_pump["status"], of_pump["unread"]) == ("acknowledged", 0)
    assert (of_boiler["status"], of_boiler["ended"], of_boiler["events"]) == (
        "resolved", AT + 66_000, 2
    )  # fmt: skip

    listed = night.iot("incidents", "--all")
    assert listed[0] == (
        "event level device / sensor since (UTC) until (UTC) lasted events unread message"
    )
    assert listed[1].startswith(
        f"{night.id_of(worse)} critical attic / boiler 2024-11-24 10:01:20 active "
    )
    assert listed[1].endswith(" 2 1 boiler of rig is at 160 °C.")
    assert listed[4] == (
        f"{night.id_of(ended)} warning rig / boiler 2024-11-24 10:00:01 2024-11-24 10:01:06"
        " 1 min 5 s 2 1 boiler of rig is at 81 °C."
    )
    assert night.json("incidents") == told[:3]
    assert night.json("incidents", "--since", "2024-11-24T10:01") == told
    done = night.run("incidents", "--limit", "2", "--json")
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == "there are more incidents: use a --limit above 2\n"


def test_rows_without_keys_are_incidents_of_their_own(night):
    night.store(event(1))
    night.execute("UPDATE ml_events SET incident_key = NULL")
    night.execute("UPDATE alert_notifications SET incident_key = NULL")
    for at in ("2024-11-24 11:00:00", "2024-11-24 12:00:00"):
        night.execute(
            "INSERT INTO ml_events (device_id, event_type, event_code, title, created_at)"
            " VALUES (1, 'info', 'DELTA_SPIKE', 'spike', ?)",
            at,
        )
    night.execute(
        "INSERT INTO alert_notifications (source, source_event_id, severity, title, created_at)"
        " SELECT 'ml_event', id, 'info', title, created_at FROM ml_events WHERE event_key IS NULL"
    )
    told = night.json("incidents")
    assert [(one["level"], one["events"], one["unread"], one["incident_key"]) for one in told] == [
        ("warning", 1, 1, None), ("notice", 1, 1, None), ("notice", 1, 1, None),
    ]  # fmt: skip
    newest = told[1]["event_id"]
    night.iot("events", "ack", newest, "--incident")
    assert [one["unread"] for one in night.json("incidents")] == [1, 1, 0]
    assert "iot explain" not in " ".join(night.iot("events", "show", newest))
    night.iot("events", "resolve", newest)
    assert len(night.json("incidents")) == 2


@pytest.mark.parametrize("language", ["es", "en"])
def test_an_incident_of_the_flow_is_handled_in_both_languages(settings, database, shell, language):
    settings = settings.model_copy(update={"iot_lang": language})
    night, story = Night(settings, database, shell), Story(settings, database)
    hot(story)
    story.tell(closed(each_second(20, 20, 85)))
    raised = story.event("ML_BEHAVIOR_STATE")
    assert "temperatura" in raised.message or "boiler" in raised.message
    (incident,) = night.json("incidents")
    assert (incident["message"], incident["unread"]) == (raised.message, 1)
    assert night.iot("events", "ack", incident["event_id"])[0].endswith(raised.message)
    assert raised.message in night.iot("events", "list")[1]
    assert night.unread() == []
    assert ("Check it" in raised.message) == (language == "en")
    hint = night.iot("events", "show", incident["event_id"])[-1]
    _, *words = hint.removesuffix(" shows the readings and rules behind it.").split()
    assert f"message {raised.message}" in night.iot(*words)


def test_names_with_wide_characters_stay_in_line(night):
    if night.settings.engine == "mssql":
        pytest.skip("names are varchar there")
    night.execute("UPDATE devices SET name = '温室 [red]' WHERE name = 'rig'")
    night.execute("UPDATE sensors SET name = '温度計' WHERE id = ?", BOILER)
    night.store(event(1, message="温室 的 温度計: 90 °C [bold]"), event(2, PUMP))
    done = night.run("events", "list")
    head, pump, boiler = done.stdout.splitlines()
    assert "温室 [red] / 温度計" in boiler
    assert "温室 的 温度計: 90 °C [bold]" in boiler

    def cells(text):
        return sum(2 if "⺀" < letter < "￠" else 1 for letter in text)

    column = head.index("code")
    assert cells(boiler[: boiler.index("ML_")]) == cells(pump[: pump.index("ML_")]) == column
    assert night.ids("--device", "温室 [red]", "--sensor", "温度計") == [night.id_of(event(1))]
    assert "温室 [red] / 温度計" in "".join(night.iot("incidents"))
    assert "there is no device 温床" in night.refused("events", "list", "--device", "温床")
