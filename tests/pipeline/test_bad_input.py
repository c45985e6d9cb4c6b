"""A wrong setting or an unreachable server is reported in one line, quickly."""

import signal
import socket
import subprocess
import sys
from time import sleep

import pytest

from contract.settings import child_environment
from tests.servers import missing, odbc_loads

from .conftest import wait_until

EDGE = ("ingest_edge", "--port", "{port}")
UVICORN = ("uvicorn", "ingest_edge.api:app", "--port", "{port}")
FLOW = ("bytewax.run", "dataflows.readings:flow()")
SCHEMA = ("sql",)


def run(pipeline, program, **values):
    """Run the program. It must end without a signal."""
    given = {k: v for k, v in (pipeline.values | values).items() if v is not None}
    arguments = [part.format(port=pipeline.port) for part in program]
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env=child_environment(given),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def said(finished):
    """The error output, without info logs and the server's own messages."""
    lines = (finished.stdout + finished.stderr).splitlines()
    greetings = ("Started server", "Waiting for application", "startup failed", '"level": "info"')
    return [line for line in lines if line.strip() and not any(word in line for word in greetings)]


@pytest.mark.parametrize("program", [EDGE, UVICORN, FLOW], ids=["edge", "uvicorn", "flow"])
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"KAFKA_BOOTSTRAP_SERVERS": None}, "KAFKA_BOOTSTRAP_SERVERS is not set"),
        ({"GRACE_MS": "soon"}, "GRACE_MS: Input should be a valid integer"),
        ({"IOT_LANG": "de"}, "IOT_LANG: Input should be 'es' or 'en'"),
        ({"DB_ENGINE": "mssql"}, "DB_HOST is not set"),
        ({"IOT_ENV_FILE": "/nowhere/.env"}, "IOT_ENV_FILE: the file /nowhere/.env cannot be read"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "no Kafka broker answers at 127.0.0.1:1"),
        (
            {"IOT_SQLITE_PATH": "/nowhere/iot.db"},
            "IOT_SQLITE_PATH: the folder /nowhere does not exist",
        ),
        ({"IOT_SQLITE_PATH": "/"}, "IOT_SQLITE_PATH"),
        ({"KAFKA_TOPIC": "a topic"}, "KAFKA_TOPIC"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_a_wrong_setting_ends_the_start_with_one_line_that_names_it(
    pipeline, program, values, words
):
    finished = run(pipeline, program, **values)
    assert finished.returncode != 0
    (line,) = said(finished)
    assert words in line


def test_the_password_is_not_repeated_if_the_server_does_not_answer(pipeline):
    if not odbc_loads():
        pytest.skip(missing("unixODBC"))
    values = {"DB_HOST": "127.0.0.1", "DB_PORT": "1", "DB_PASSWORD": "s3cret", "DB_ENGINE": "mssql"}
    finished = run(pipeline, SCHEMA, **values)
    assert finished.returncode == 1
    assert "DB_HOST" in finished.stderr
    assert "does not answer" in finished.stderr
    assert "s3cret" not in finished.stderr + finished.stdout


@pytest.mark.parametrize("program", [EDGE, UVICORN], ids=["edge", "uvicorn"])
def test_a_port_in_use_is_reported_in_one_line(pipeline, program):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", pipeline.port))
        taken.listen()
        finished = run(pipeline, program)
    assert finished.returncode != 0
    assert "address already in use" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    "program", ["sql.__main__", "ingest_edge.api", "dataflows.readings", "ops.cli"]
)
def test_pyodbc_is_not_imported_for_sqlite(pipeline, program):
    code = (
        f"import sys, {program} as program\n"
        "from contract.settings import load_settings\n"
        "from sql.schema import open_database\n"
        "open_database(load_settings()).close()\n"
        "sys.exit('pyodbc' in sys.modules)"
    )
    env = child_environment(pipeline.values)
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["feed", "/nowhere.csv", "--device", "rig"], "/nowhere.csv cannot be read"),
        (["feed", "{file}", "--device", "rig"], "line 3, column b: 'x' is not a number"),
        (["devices", "add", "rig", "--sensor", "a:b:c:d"], "--sensor a:b:c:d"),
        (
            ["devices", "add", "rig", "--sensor", "a", "--critical", "a:9:1"],
            "MIN must be below MAX",
        ),
        (
            ["devices", "add", "rig", "--sensor", "a", "--critical", "z:1:9"],
            "there is no --sensor z",
        ),
        (["devices", "list"], "IOT_SQLITE_PATH: there is no file"),
    ],
)
def test_the_command_reports_an_error_in_one_line(pipeline, tmp_path, arguments, words):
    file = tmp_path / "bad.csv"
    file.write_text("time,a,b\n2024-01-01 00:00:00,1,2\n2024-01-01 00:00:01,1,x\n")
    values = {"IOT_SQLITE_PATH": str(tmp_path / "none.db")} if arguments[1] == "list" else {}
    finished = pipeline.iot(*(argument.format(file=file) for argument in arguments), **values)
    assert finished.returncode == 1
    assert finished.stderr.startswith("iot: ")
    assert words in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_ctrl_c_stops_edge_and_flow_gracefully_with_a_snapshot(pipeline):
    edge, flow = pipeline.start_edge(), pipeline.start_flow()
    wait_until_log(pipeline, "flow", "flow starts")
    sleep(1)
    for child in (edge, flow):
        child.process.send_signal(signal.SIGINT)
    assert flow.process.wait(120) == 0
    assert edge.process.wait(120) in (0, -signal.SIGINT)
    for name in ("edge", "flow"):
        assert "Traceback" not in (pipeline.folder / f"{name}.log").read_text()


def wait_until_log(pipeline, name, event):
    wait_until(lambda: any(line.get("event") == event for line in pipeline.log(name)))
