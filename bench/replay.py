"""`iot replay --dry-run` against two runs of the flow: is the difference right, and how fast is it?

A topic gets 24 hours of readings, which leave their range now and then. The flow takes all of it
under one set of rules, into the database that is the live one, and under another set into another
database; nothing but events is stored. Then the replay, with the other rules, must tell the very
difference of these two databases, in `changed` to the last word. Rates are readings a second: the
flow's in steady state, the replay's from its first batch to its end, with its recovery store.
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
"""How long before now the last reading was: longer than any silence takes to be told."""
_RULES = {"live": (23.0, 26.0), "other": (22.0, 27.0)}
"""Above which a sensor is at WARN and at CRITICAL."""
_CHILD_S = 1_800.0


@dataclass(frozen=True, slots=True)
class Result:
    """What was seen."""

    readings: int
    flow_readings_per_s: int
    replay_readings_per_s: int
    ratio_to_flow: float
    replay_seconds: float
    """Of the whole command, from its start to its end."""
    right: bool
    """Whether the replay told what two runs of the flow differ in."""
    new: int
    gone: int
    changed: int
    unchanged: int


def run(readings: int, tell: Callable[[str], None]) -> Result:
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
            tell(f"topic {topic}: {shape.readings:,} readings of {SENSORS:,} sensors, 24 hours")
            rates = {}
            for which in _RULES:
                here = values | {"IOT_SQLITE_PATH": str(folder / f"{which}.db")}
                said = _child(here, "bench.replay_child", "flow", str(shape.readings))
                rates[which] = float(said.split()[-1])
                tell(f"flow under the {which} rules: {rates[which]:,.0f} readings/s")
            report, seconds = _replayed(values, folder)
        finally:
            delete_topics(access(brokers), [topic], tell)
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
    wanted = {
        "new": {key: now[key] for key in now.keys() - then.keys()},
        "gone": {key: then[key] for key in then.keys() - now.keys()},
        "changed": {key: now[key] for key in both if now[key] != then[key]},
    }
    told: dict[str, dict[str, Any]] = {kind: {} for kind in wanted}
    for one in report["events"]:
        content = [one[name] for name in ("event_type", "title", "message", "payload", "end")]
        told[one["change"]][one["event_key"]] = content
    unchanged = len(both) - len(wanted["changed"])
    return Result(
        readings=report["readings"],
        flow_readings_per_s=round(flow),
        replay_readings_per_s=report["readings_per_s"],
        ratio_to_flow=round(report["readings_per_s"] / flow, 3),
        replay_seconds=round(seconds, 1),
        right=told == wanted and report["unchanged"] == unchanged,
        new=len(wanted["new"]),
        gone=len(wanted["gone"]),
        changed=len(wanted["changed"]),
        unchanged=unchanged,
    )


def _replayed(values: dict[str, str], folder: Path) -> tuple[dict[str, Any], float]:
    """The report of `iot replay`, and how long the command took."""
    rules = folder / "rules.json"
    other = values | {"IOT_SQLITE_PATH": str(folder / "other.db")}
    rules.write_text(_child(other, "ops.cli", "rules"), encoding="utf-8")
    live = values | {"IOT_SQLITE_PATH": str(folder / "live.db")}
    runs = str(folder / "replay")
    arguments = ("replay", "--dry-run", "--json", "--rules", str(rules), "--dir", runs)
    began = perf_counter()
    said = _child(live, "ops.cli", *arguments)
    return json.loads(said.splitlines()[-1]), perf_counter() - began


def _events(file: Path) -> dict[str, Any]:
    """What a database holds of each event, without the version of the rules, by its key."""
    with open_database(_settings(file)) as database:
        rows = database.query(statements.EVENTS_BETWEEN, text_of(0), text_of(MAX_TIME_MS))
    found = {}
    for row in rows:
        content = json.loads(row.payload or "{}")
        del content["rules_version"]
        found[row.event_key] = [row.event_type, row.title, row.message, content, row.resolved_at]
    return found


def _make_database(file: Path, warning: float, critical: float) -> None:
    """Every sensor, and two thresholds each."""
    settings = _settings(file)
    apply_schema(settings)
    devices = range(SENSORS // SENSORS_A_DEVICE)
    installation = {
        "devices": [
            {"id": one, "device_uuid": f"d{one}", "name": f"device {one}", "device_type": "rig",
             "status": "online"}
            for one in devices
        ],
        "sensors": [
            {"id": one, "device_id": one // SENSORS_A_DEVICE, "sensor_uuid": f"s{one}",
             "sensor_type": "temperature", "name": f"sensor {one}", "unit": "°C", "is_active": 1}
            for one in range(SENSORS)
        ],
        "alert_thresholds": [
            {"sensor_id": one, "name": severity, "condition_type": "greater_than",
             "severity": severity, "threshold_value_min": bound}
            for one in range(SENSORS)
            for severity, bound in (("warning", warning), ("critical", critical))
        ],
    }  # fmt: skip
    with Database(settings) as database:
        database.execute("copy_installation", json.dumps(installation))


def _settings(file: Path) -> Settings:
    return load_settings(db_engine="sqlite", iot_sqlite_path=file)


def _child(values: Mapping[str, str], module: str, *arguments: str) -> str:
    """What a process of ours says.

    Raises:
        SetupError: it failed, or took too long.
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
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise SetupError(f"{what} {end_of(done.returncode)}: {lines[-1]}")
    return done.stdout
