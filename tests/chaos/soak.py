"""The pipeline under load for minutes: every reading is there once, soon, and memory is flat.

Broker, edge and `iot run` run as processes, and SQLite. A load generator posts, and a probe posts a
reading now and then and looks until it sees its row.
"""

import json
import sqlite3
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep, time
from uuid import uuid4

import httpx
import numpy as np

from contract.settings import child_environment, load_settings
from ops.children import Children
from ops.devices import SensorSpec
from sinks.times import text_of
from tests.chaos.kafka import Kafka
from tests.chaos.load import PACKETS_A_SECOND, READINGS_A_SENSOR, number_of
from tests.chaos.rig import DifferenceError
from tests.chaos.tables import check_pairs
from tests.pipeline.conftest import Pipeline, wait_until
from tests.ports import free_ports

DEVICES, SENSORS = 50, 10
RATE = DEVICES * SENSORS * READINGS_A_SENSOR * PACKETS_A_SECOND
"""Readings a second."""
FLAT_MB_A_MINUTE = 1.0
_WARM_UP, _WARM_UP_S = 0.2, 60.0
"""Start of the memory measurement: a share of the time, and at least some seconds."""
_PROBE_S, _POLL_S, _SAMPLE_S = 0.2, 0.005, 1.0
_DRAIN_S = 60.0
_RANGES = {"warning": (0.0, 50.0), "critical": (-10.0, 90.0)}


@dataclass
class Memory:
    """The resident memory of one process, second by second."""

    pid: int
    at: list[float] = field(default_factory=list)
    """Seconds since the beginning."""
    megabytes: list[float] = field(default_factory=list)

    def sample(self, at: float) -> None:
        """Raises DifferenceError when the process is gone."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except FileNotFoundError as error:
            raise DifferenceError(f"the process {self.pid} has ended") from error
        kilobytes = next(line.split()[1] for line in status.splitlines() if "VmRSS" in line)
        self.at.append(at)
        self.megabytes.append(int(kilobytes) / 1024)

    def figures(self, seconds: float) -> dict[str, float]:
        """After the warm-up: first, last, and slope by least squares in MB a minute."""
        at, megabytes = np.array(self.at), np.array(self.megabytes)
        late = at >= max(_WARM_UP * seconds, _WARM_UP_S)
        slope = np.polyfit(at[late] / 60, megabytes[late], 1)[0]
        return {
            "first_mb": round(float(megabytes[late][0]), 1),
            "last_mb": round(float(megabytes[late][-1]), 1),
            "slope_mb_per_minute": round(float(slope), 2),
        }


def soak(minutes: float, processes: int, folder: Path, say) -> dict:
    """Run it, with all it leaves in `folder`; what was seen.

    Raises:
        DifferenceError: a process ended by itself.
    """
    with ExitStack() as stack:
        given = load_settings().kafka_bootstrap_servers
        kafka = stack.enter_context(Kafka(folder / "kafka"))
        brokers = given or kafka.start()
        children = stack.enter_context(Children(folder))
        pipeline = Pipeline(folder, brokers, children, f"soak.{uuid4().hex[:12]}")
        stack.enter_context(closing(pipeline.database))
        pipeline.rows("PRAGMA synchronous = OFF")  # of our own connection, to register quickly
        names = [f"sensor {number}" for number in range(SENSORS)]
        specs = [SensorSpec(name, "temperature", "°C", _RANGES) for name in names]
        devices = [pipeline.register(f"soak {number}", *specs) for number in range(DEVICES)]
        probe = pipeline.register("probe", SensorSpec("probe", "other", ""))
        edge = pipeline.start_edge()
        run = children.start(
            "run", "ops.cli", "run", "--recovery", str(folder / "recovery"),
            "--processes", str(processes), "--metrics-port", str(free_ports(processes)),
            env=child_environment(pipeline.values),
        )  # fmt: skip
        flows = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children")
        wait_until(lambda: len(flows.read_text().split()) == processes)
        pids = {"edge": edge.process.pid, "iot run": run.process.pid}
        pids |= {f"flow {n}": int(pid) for n, pid in enumerate(flows.read_text().split(), 1)}
        if not given:
            pids["broker"] = kafka.pid
        memory = {name: Memory(pid) for name, pid in pids.items()}

        plan = [
            {"uuid": device.uuid, "sensors": list(device.sensors.values())} for device in devices
        ]
        (folder / "plan.json").write_text(json.dumps(plan))
        seconds = minutes * 60
        load = children.start(
            "load", "tests.chaos.load", str(pipeline.port), str(folder / "plan.json"),
            str(seconds), str(folder / "sent.npz"),
            env=child_environment({}),
        )  # fmt: skip
        say(f"{RATE} readings/s for {minutes:g} min, {processes} flow processes, in {folder}")
        watch = _Watch(pipeline, probe, memory)
        while load.process.poll() is None:
            watch.turn()
        if load.process.returncode:
            raise DifferenceError(f"the load ended: {load.log.read_text().splitlines()[-1:]}")
        children.stop(load)
        children.check()
        sent = np.load(folder / "sent.npz")
        accepted = int((sent["answers"][:, 2] == 202).sum()) * SENSORS * READINGS_A_SENSOR
        drained = watch.drain(accepted)
        children.stop(run)
        result = {
            "minutes": minutes,
            "flow_processes": processes,
            "readings_per_second": round(len(sent["answers"]) * SENSORS * 2 / seconds),
            **audit(folder / "iot.db", plan, sent["answers"], watch.sent),
            "drained_s": round(drained, 1),
            "http_p50_ms": round(float(np.percentile(sent["latency_ms"], 50)), 1),
            "http_p99_ms": round(float(np.percentile(sent["latency_ms"], 99)), 1),
            "visible_p50_ms": round(float(np.percentile(watch.took_ms, 50)), 1),
            "visible_p99_ms": round(float(np.percentile(watch.took_ms, 99)), 1),
            "probes": len(watch.took_ms),
            "memory": {name: process.figures(seconds) for name, process in memory.items()},
        }
        (folder / "memory.json").write_text(
            json.dumps({name: [process.at, process.megabytes] for name, process in memory.items()})
        )
        return result


class _Watch:
    """Posts probes, times their rows, and samples memory."""

    def __init__(self, pipeline, probe, memory) -> None:
        self._pipeline, self._memory = pipeline, memory
        self._probe = probe
        self._http = httpx.Client(base_url=pipeline.url, timeout=20, trust_env=False)
        self._began = self._sampled = monotonic()
        self.sent = 0
        self.took_ms: list[float] = []

    def turn(self) -> None:
        """Send one probe, and wait for the rest of its turn."""
        began, at = monotonic(), int(time() * 1000)
        value = self.sent / 100_000
        reading = {"sensor_uuid": self._probe.sensors["probe"], "value": value, "ts": at / 1000}
        body = {"device_uuid": self._probe.uuid, "readings": [reading]}
        answer = self._http.post("/ingest/packets", json=body)
        if answer.status_code != 202:
            raise DifferenceError(f"a probe was answered with {answer.status_code}")
        self.sent += 1
        while not self._visible(at):
            self._sample()
            if monotonic() > began + _DRAIN_S:
                raise DifferenceError(f"a reading was not stored within {_DRAIN_S:.0f} s")
            sleep(_POLL_S)
        self.took_ms.append((monotonic() - began) * 1000)
        self._sample()
        sleep(max(0.0, began + _PROBE_S - monotonic()))

    def drain(self, accepted: int) -> float:
        """Wait until everything is stored. Returns how long that took, in seconds."""
        began = monotonic()
        count = "SELECT count(*) FROM sensor_readings"
        while self._pipeline.rows(count)[0][0] < accepted + self.sent:
            if monotonic() > began + _DRAIN_S:
                break  # the audit tells what is missing
            sleep(0.5)
        return monotonic() - began

    def _visible(self, at: int) -> bool:
        statement = (
            "SELECT 1 FROM sensor_readings WHERE event_timestamp = '{}' AND sensor_id ="
            " (SELECT id FROM sensors WHERE name = 'probe')"
        )
        return bool(self._pipeline.rows(statement.format(text_of(at))))

    def _sample(self) -> None:
        now = monotonic()
        if now - self._sampled >= _SAMPLE_S:
            self._sampled = now
            for process in self._memory.values():
                process.sample(now - self._began)


def audit(path: Path, plan, answers, probes: int) -> dict:
    """Compare what each sensor has with what its device sent, and with the responses."""
    check_pairs(path)
    by_sensor: dict[str, list[int]] = {}
    with sqlite3.connect(path) as database:
        for sensor, value in database.execute(
            "SELECT s.sensor_uuid, r.value FROM sensor_readings AS r"
            " JOIN sensors AS s ON s.id = r.sensor_id"
        ):
            by_sensor.setdefault(sensor, []).append(number_of(value))
        dead = database.execute("SELECT count(*) FROM sink_dead_letters").fetchone()[0]
        events = database.execute("SELECT count(*) FROM ml_events").fetchone()[0]
    database.close()
    known = {sensor for device in plan for sensor in device["sensors"]}
    (probe,) = by_sensor.keys() - known
    stored, lost, twice, invented = len(by_sensor[probe]), 0, 0, 0
    lost += len(set(range(probes)) - set(by_sensor[probe]))
    twice += len(by_sensor[probe]) - len(set(by_sensor[probe]))
    for place, device in enumerate(plan):
        of_device = answers[answers[:, 0] == place]
        taken = of_device[of_device[:, 2] == 202, 1]
        acknowledged = {2 * int(number) + step for number in taken for step in (0, 1)}
        for sensor in device["sensors"]:
            numbers = by_sensor.get(sensor, [])
            distinct = set(numbers)
            stored += len(numbers)
            lost += len(acknowledged - distinct)
            twice += len(numbers) - len(distinct)
            invented += len(distinct - set(range(2 * len(of_device))))
    return {
        "sent": len(answers) * SENSORS * READINGS_A_SENSOR + probes,
        "acknowledged": int((answers[:, 2] == 202).sum()) * SENSORS * READINGS_A_SENSOR + probes,
        "stored": stored,
        "lost": lost,
        "twice": twice,
        "invented": invented,
        "dead_letters": dead,
        "events": events,
    }
