"""`iot replay --dry-run` against two runs of the flow: is the diff correct, and how fast is it?

A topic is filled with 24 hours of readings, which leave their range from time to time. The flow
processes it twice: with the live rules into the live database, and with other rules into another
database; only events are stored. Then the replay with the other rules must report exactly the
difference between the two databases, including every changed field. Rates are readings per second:
of the flow in steady state, of the replay from its first batch to its end, with its recovery store.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from subprocess import run as run_process
from tempfile import TemporaryDirectory
from time import perf_counter, time
from typing import Any
from uuid import uuid4

from bench.kafka import access, kafka
from bench.packets import SENSORS_A_DEVICE, Shape, delete_topics
from contract.errors import SetupError
from contract.packet import MAX_TIME_MS
from contract.settings import Settings, child_environment, kafka_environment, load_settings
from runtime.ending import end_of
from sinks.times import text_of
from sql import statements
from sql.database import Database
from sql.schema import apply_schema, open_database

SENSORS = 1_000
DAY_MS = 86_400_000
_AGO_MS = 600_000
"""Age of the last reading: longer than any no-data timeout."""
_RULES = {"live": (23.0, 26.0), "other": (22.0, 27.0)}
"""Upper bounds of WARN and CRITICAL."""
_CHILD_S = 1_800.0


@dataclass(frozen=True, slots=True)
class Result:
    """The measured rates, and the counts of events."""

    readings: int
    flow_readings_per_s: int
    replay_readings_per_s: int
    ratio_to_flow: float
    replay_seconds: float
    """Duration of the whole command."""
    right: bool
    """Whether the replay reported exactly the difference between the two runs of the flow."""
    new: int
    gone: int
    changed: int
    unchanged: int


def run(readings: int, progress: Callable[[str], None]) -> Result:
    """Fill a topic, run the flow twice and the replay once.

    Raises:
        SetupError: there is no broker, or a process failed.
    """
    shape = Shape(SENSORS, DAY_MS * SENSORS // readings, readings // SENSORS * SENSORS)
    topic = f"bench.{uuid4().hex[:8]}.replay"
    start = int(time() * 1000) - shape.span_ms - _AGO_MS
    with kafka() as brokers, TemporaryDirectory(prefix="bench-replay-") as name:
        folder = Path(name)
        reached = load_settings(kafka_bootstrap_servers=brokers)
        values = kafka_environment(reached) | {
            "KAFKA_TOPIC": topic,
            "DB_ENGINE": "sqlite",
            "IOT_LANG": "en",
        }
        for which, bounds in _RULES.items():
            _make_database(folder / f"{which}.db", *bounds)
        try:
            numbers = map(str, (shape.sensors, shape.period_ms, shape.readings, start))
            _child(values, "bench.replay_child", "fill", *numbers)
            progress(f"topic {topic}: {shape.readings:,} readings of {SENSORS:,} sensors, 24 hours")
            rates = {}
            for which in _RULES:
                here = values | {"IOT_SQLITE_PATH": str(folder / f"{which}.db")}
                output = _child(here, "bench.replay_child", "flow", str(shape.readings))
                rates[which] = float(output.split()[-1])
                progress(f"flow with the {which} rules: {rates[which]:,.0f} readings/s")
            report, seconds = _replayed(values, folder)
        finally:
            delete_topics(access(brokers), [topic], progress)
        then, now = (_events(folder / f"{which}.db") for which in _RULES)
    return _result(report, then, now, rates["live"], seconds)


def _result(
    report: dict[str, Any],
    then: Mapping[str, Any],
    now: Mapping[str, Any],
    flow: float,
    seconds: float,
) -> Result:
    """Compare the report with the events of both databases."""
    both = then.keys() & now.keys()
    expected = {
        "new": {key: now[key] for key in now.keys() - then.keys()},
        "gone": {key: then[key] for key in then.keys() - now.keys()},
        "changed": {key: now[key] for key in both if now[key] != then[key]},
    }
    reported: dict[str, dict[str, Any]] = {kind: {} for kind in expected}
    for event in report["events"]:
        content = [event[name] for name in ("event_type", "title", "message", "payload", "end")]
        reported[event["change"]][event["event_key"]] = content
    unchanged = len(both) - len(expected["changed"])
    return Result(
        readings=report["readings"],
        flow_readings_per_s=round(flow),
        replay_readings_per_s=report["readings_per_s"],
        ratio_to_flow=round(report["readings_per_s"] / flow, 3),
        replay_seconds=round(seconds, 1),
        right=reported == expected and report["unchanged"] == unchanged,
        new=len(expected["new"]),
        gone=len(expected["gone"]),
        changed=len(expected["changed"]),
        unchanged=unchanged,
    )


def _replayed(values: dict[str, str], folder: Path) -> tuple[dict[str, Any], float]:
    """The report of `iot replay`, and the duration of the command in seconds."""
    rules = folder / "rules.json"
    other = values | {"IOT_SQLITE_PATH": str(folder / "other.db")}
    rules.write_text(_child(other, "ops.cli", "rules"), encoding="utf-8")
    live = values | {"IOT_SQLITE_PATH": str(folder / "live.db")}
    runs = str(folder / "replay")
    arguments = ("replay", "--dry-run", "--json", "--rules", str(rules), "--dir", runs)
    began = perf_counter()
    output = _child(live, "ops.cli", *arguments)
    return json.loads(output.splitlines()[-1]), perf_counter() - began


def _events(file: Path) -> dict[str, Any]:
    """The content of each event in a database, without the version of the rules, by event key."""
    with open_database(_settings(file)) as database:
        rows = database.query(statements.EVENTS_BETWEEN, text_of(0), text_of(MAX_TIME_MS))
    events = {}
    for row in rows:
        content = json.loads(row.payload or "{}")
        del content["rules_version"]
        events[row.event_key] = [row.event_type, row.title, row.message, content, row.resolved_at]
    return events


def _make_database(file: Path, warning: float, critical: float) -> None:
    """Create a database with all sensors and two thresholds per sensor."""
    settings = _settings(file)
    apply_schema(settings)
    devices = range(SENSORS // SENSORS_A_DEVICE)
    installation = {
        "devices": [
            {"id": device, "device_uuid": f"d{device}", "name": f"device {device}",
             "device_type": "rig", "status": "online"}
            for device in devices
        ],
        "sensors": [
            {"id": sensor, "device_id": sensor // SENSORS_A_DEVICE, "sensor_uuid": f"s{sensor}",
             "sensor_type": "temperature", "name": f"sensor {sensor}", "unit": "°C", "is_active": 1}
            for sensor in range(SENSORS)
        ],
        "alert_thresholds": [
            {"sensor_id": sensor, "name": severity, "condition_type": "greater_than",
             "severity": severity, "threshold_value_min": bound}
            for sensor in range(SENSORS)
            for severity, bound in (("warning", warning), ("critical", critical))
        ],
    }  # fmt: skip
    with Database(settings) as database:
        database.execute("copy_installation", json.dumps(installation))


def _settings(file: Path) -> Settings:
    return load_settings(db_engine="sqlite", iot_sqlite_path=file)


def _child(values: Mapping[str, str], module: str, *arguments: str) -> str:
    """Run one of our modules in a child process, and return its output.

    Raises:
        SetupError: it failed or timed out.
    """
    what = f"{module} {arguments[0]}"
    try:
        done = run_process(
            [sys.executable, "-m", module, *arguments],
            env=child_environment(values),
            capture_output=True,
            text=True,
            timeout=_CHILD_S,
            check=False,
        )
    except TimeoutExpired as error:
        raise SetupError(f"{what} did not end within {_CHILD_S:.0f} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise SetupError(f"{what} {end_of(done.returncode)}: {lines[-1]}")
    return done.stdout
