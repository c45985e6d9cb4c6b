"""From an earlier version to this one beneath load: its database and its recovery directory are
taken over, while its programs still run.
"""

import sqlite3
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from shutil import which
from threading import Event
from time import sleep, time

import httpx
import pytest

from contract.settings import child_environment

from .conftest import wait_until
from .test_pipeline import records

ROOT = Path(__file__).parents[2]
EARLIER = "0421ee6343f2"
"""The last version that wrote records as JSON, and dated readings in milliseconds."""
REFRESH_S = 2
READINGS = 80
"""Stored between two steps of the upgrade, at least."""


@pytest.fixture
def earlier(tmp_path):
    """The folder of the earlier version."""
    folder, packed = tmp_path / "earlier", tmp_path / "earlier.tar"
    git = which("git")
    command = [git or "git", "-C", str(ROOT), "archive", "-o", str(packed), EARLIER]
    if git is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip(f"the repository's history does not have {EARLIER}")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return folder


class Device:
    """Posts packets with two readings each, every other one dated, until it is stopped."""

    def __init__(self, url, uuid, sensors):
        self._url, self._uuid, self._sensors = url, uuid, sensors
        self._stop = Event()
        self.values = []
        """Of all readings that were accepted."""

    def run(self):
        for number in count():
            if self._stop.is_set():
                return
            dated = {"ts": round(time(), 3)} if number % 2 else {}
            readings = [
                {"sensor_uuid": sensor, "value": 2 * number + place} | dated
                for place, sensor in enumerate(self._sensors)
            ]
            body = {"device_uuid": self._uuid, "packet_id": f"p{number}", "readings": readings}
            while not self._accepted(body):
                sleep(0.1)
            self.values += [reading["value"] for reading in readings]
            sleep(0.02)

    def stop(self):
        self._stop.set()

    def _accepted(self, body):
        try:
            return httpx.post(f"{self._url}/ingest/packets", json=body, timeout=60).is_success
        except httpx.HTTPError:
            return False


class Versions:
    """Programs of both versions around one database, one topic and one recovery directory."""

    def __init__(self, pipeline, earlier):
        pipeline.values["IOT_SQLITE_PATH"] = str(pipeline.folder / "taken over.db")
        pipeline.values["RULES_REFRESH_SECONDS"] = str(REFRESH_S)
        self._pipeline = pipeline
        self._folders = {"earlier": earlier, "this": ROOT}
        self._running = []

    def run(self, version, *command):
        process, log = self._start(version, *command)
        assert process.wait(60) == 0, log.read_text()

    def start_edge(self, version):
        edge, _ = self._start(version, "ingest_edge", "--port", str(self._pipeline.port))
        self._running.append(edge)
        wait_until(self._pipeline._answers)
        return edge

    def start_flow(self, version):
        recovery = ("-r", str(self._pipeline.recovery), "-s", "1", "-b", "0")
        flow, _ = self._start(version, "bytewax.run", "dataflows.readings:flow()", *recovery)
        self._running.append(flow)
        return flow

    def stop(self, *processes):
        """Ask programs to end, and see that they do so in order; all, where none is named."""
        for process in processes or list(self._running):
            self._running.remove(process)
            process.terminate()
            assert process.wait(60) == 0

    def kill(self):
        for process in self._running:
            process.kill()
            process.wait()

    def wait_stored(self, count):
        def stored():
            assert [process.poll() for process in self._running] == [None] * len(self._running)
            return self.rows("SELECT count(*) FROM sensor_readings")[0][0] >= count

        wait_until(stored)

    def rows(self, statement):
        with closing(sqlite3.connect(self._pipeline.values["IOT_SQLITE_PATH"])) as database:
            return database.execute(statement).fetchall()

    def _start(self, version, *command):
        """By its folder: Bytewax imports what lies there, whatever else is installed."""
        log = self._pipeline.folder / f"{version}.{command[0]}.log"
        with log.open("a") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self._folders[version], env=child_environment(self._pipeline.values),
                stdout=file, stderr=file,
            )  # fmt: skip
        return process, log


@pytest.fixture
def versions(pipeline, earlier):
    made = Versions(pipeline, earlier)
    yield made
    made.kill()


def test_a_version_takes_over_from_a_running_earlier_version(pipeline, brokers, versions):
    versions.run("earlier", "sql")
    sensors = ("--sensor", "a:power:W", "--sensor", "b:power:W")
    versions.run("earlier", "ops.cli", "devices", "add", "rig", *sensors)
    pipeline.recovery.mkdir(mode=0o700)
    versions.run("earlier", "bytewax.recovery", str(pipeline.recovery), "1")
    ((uuid,),) = versions.rows("SELECT device_uuid FROM devices")
    ids = [row for (row,) in versions.rows("SELECT sensor_uuid FROM sensors ORDER BY id")]
    device = Device(pipeline.url, uuid, ids)

    def wait_for_more():
        there = len(device.values) + READINGS
        wait_until(lambda: len(device.values) >= there)
        versions.wait_stored(there)

    edge, flow = versions.start_edge("earlier"), versions.start_flow("earlier")
    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(device.run)
        try:
            wait_for_more()
            versions.run("this", "sql")
            sleep(2 * REFRESH_S)  # the flow looks for other rules, and so at the schema
            wait_for_more()
            assert versions.rows("SELECT count(*) FROM flow_progress") == [(0,)]  # it is that one
            versions.stop(flow)
            flow = versions.start_flow("this")
            wait_for_more()
            versions.stop(edge)
            versions.start_edge("this")
            wait_for_more()
        finally:
            device.stop()
        posting.result()
    versions.wait_stored(len(device.values))
    versions.stop()
    values = [value for (value,) in versions.rows("SELECT value FROM sensor_readings")]
    assert sorted(values) == sorted(device.values)
    versions.run("this", "sql", "check")
    assert {record.value()[:1] == b"{" for record in records(brokers, pipeline.topic)} == {
        True,
        False,
    }
