import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep
from uuid import uuid4

import pytest

from contract.settings import child_environment
from tests.pipeline.conftest import wait_until


@pytest.fixture
def demo(tmp_path, mark):
    """Starts demos whose processes have `mark` in their environment."""
    started = []

    def start(*arguments):
        env = child_environment({"DEMO_MARK": mark, "TMPDIR": str(tmp_path)})
        process = subprocess.Popen(
            [sys.executable, "-m", "ops.cli", "demo", *arguments],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def alive(mark):
    """Ids of processes with the mark."""
    pids = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in environ.read_bytes():
                pids.append(int(environ.parent.name))
        except OSError:
            continue  # it ended while we looked
    return pids


@pytest.fixture
def mark():
    if not Path("/proc").is_dir():
        pytest.skip("needs /proc to find processes")
    return uuid4().hex


def test_a_demo_stores_what_it_accepted_and_leaves_nothing_behind(demo, tmp_path, mark):
    process = demo("--seconds", "8", "--json")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    summary = json.loads(out.splitlines()[-1])
    assert summary["accepted"] == summary["stored"] > 0
    assert summary["events"] == summary["notifications"] > 0
    assert summary["dead_letters"] == 0
    assert alive(mark) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_stopped_leaves_no_process_behind(demo, tmp_path, mark, number):
    process = demo("--seconds", "60")
    wait_until(lambda: len(alive(mark)) == 4)  # itself, broker, edge, flow
    sleep(1)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Traceback" not in err
    wait_until(lambda: not alive(mark))
    if number != signal.SIGKILL:
        assert list(tmp_path.iterdir()) == []


def test_a_demo_whose_flow_dies_reports_it_and_ends(demo, tmp_path, mark):
    process = demo("--seconds", "60")

    def flows():
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in alive(mark)}
        return [pid for pid, command in commands.items() if b"bytewax.run" in command]

    wait_until(flows)
    sleep(2)
    os.kill(flows()[0], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "iot: the process flow died of SIGKILL" in err
    assert alive(mark) == []


def test_a_folder_that_is_in_use_or_cannot_be_written_is_refused(demo, tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    for folder, words in ((tmp_path / "used", "is not empty"), ("/proc/nowhere", "cannot be used")):
        process = demo("--dir", str(folder))
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert words in err
        assert "Traceback" not in err
