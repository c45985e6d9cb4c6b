import json

from tests.pipeline.conftest import wait_until
from tests.pipeline.test_status import ports, start_run  # noqa: F401 - a fixture


def test_the_store_and_the_port_of_a_running_flow_are_ok(pipeline, ports):  # noqa: F811
    start_run(pipeline, ports[0])
    wait_until(lambda: pipeline.iot("status", f"127.0.0.1:{ports[0]}").returncode == 0)
    options = ("doctor", "--recovery", str(pipeline.recovery))
    answer = pipeline.iot(*options, "--json", METRICS_PORT=str(ports[0]))
    told = json.loads(answer.stdout)
    assert answer.returncode == bool(told["failed"])
    lines = [f"{finding['state']} {finding['text']}" for finding in told["findings"]]
    assert any("in use by a running flow" in line for line in lines)
    assert f"OK {ports[0]}: a flow of ours is running on it" in lines


def test_the_exit_code_is_1_if_a_check_fails_and_each_finding_is_a_line(pipeline):
    answer = pipeline.iot("doctor", "--recovery", str(pipeline.recovery), GRACE_MS="-1")
    assert answer.returncode == 1
    assert answer.stdout.startswith("FAIL  settings        GRACE_MS: ")
    assert all(line[:4].strip() in {"OK", "WARN", "FAIL"} for line in answer.stdout.splitlines())
    assert "Traceback" not in answer.stderr
