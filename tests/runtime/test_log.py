"""A log that cannot be written: only lines are lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract.settings import child_environment

PROGRAM = """
import logging, sys
import structlog
from prometheus_client import REGISTRY
from runtime.log import configure_log, say
configure_log()
log = structlog.get_logger("test")
for number in range({lines}):
    log.info("line", number=number, text="x" * 100)
logging.getLogger("library").error("of a library")
say("for people")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
print(REGISTRY.get_sample_value("iot_log_lines_lost_total"), flush=True)
{more}
"""


def run(stderr, lines=3, more=""):
    program = PROGRAM.format(lines=lines, more=more)
    return subprocess.Popen(
        [sys.executable, "-c", program], env=child_environment({}), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
    )  # fmt: skip


def test_log_lines_are_written_to_standard_error(tmp_path):
    with (tmp_path / "log").open("w") as file:
        out, _ = run(file).communicate(timeout=60)
    assert float(out) == 0
    *lines, _ = lines_of(tmp_path / "log")
    events = [json.loads(line) for line in lines if line != "for people"]
    assert [event["event"] for event in events] == ["line"] * 3 + ["of a library", "failed"]
    assert "for people" in lines


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_on_a_full_disk_lines_are_lost_and_counted():
    with Path("/dev/full").open("w") as full:
        process = run(full)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert float(out) == 6


def test_lines_are_lost_if_standard_error_is_closed():
    reader, writer = os.pipe()
    os.close(reader)
    process = run(writer)
    os.close(writer)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert float(out) == 6


def test_a_reader_that_does_not_read_blocks_nothing_and_later_gets_the_number_of_lost_lines():
    reader, writer = os.pipe()
    process = run(writer, lines=2000, more="sys.stdin.readline()\nsay('after')")
    os.close(writer)
    lost = float(process.stdout.readline())
    assert 0 < lost < 2000
    data = os.read(reader, 1 << 20)  # all that the pipe holds: there is room again
    process.communicate("\n", timeout=60)
    while more := os.read(reader, 1 << 20):
        data += more
    os.close(reader)
    *lines, told, after = data.decode().splitlines()
    assert after == "after"
    assert json.loads(told) | {"level": None} == {
        "event": "lines of the log were lost", "lines": lost, "level": None,
    }  # fmt: skip
    assert sum('"number"' in line for line in lines) + lost >= 2000


def lines_of(file):
    return file.read_text().split("\n")
