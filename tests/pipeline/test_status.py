import json
from time import monotonic

import pytest

from contract.settings import child_environment
from tests.pipeline.conftest import wait_until
from tests.ports import free_ports

READINGS = 30


def start_run(pipeline, port):
    options = ("--recovery", str(pipeline.recovery), "--metrics-port", str(port))
    env = child_environment(pipeline.values)
    return pipeline.children.start(
        "run", "ops.cli", "run", *options, "--snapshot-seconds", "1", env=env
    )


@pytest.fixture
def ports():
    first = free_ports(2)
    return [first, first + 1]


def test_status_shows_edge_and_flow_and_which_url_does_not_answer(pipeline, ports):
    rig = pipeline.register()
    pipeline.start_edge()
    for number in range(READINGS):
        readings = [
            {"sensor_uuid": rig.sensors["pump"], "value": number, "ts": 1732442400 + number}
        ]
        assert pipeline.post({"device_uuid": rig.uuid, "readings": readings}).status_code == 202
    began = monotonic()
    start_run(pipeline, ports[0])
    pipeline.wait_stored(READINGS)
    url = f"http://127.0.0.1:{ports[0]}"
    nobody = f"http://127.0.0.1:{ports[1]}"

    def status():
        answer = pipeline.iot("status", pipeline.url, url, nobody, "--json")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    wait_until(lambda: status()["flows"][0]["snapshot_age_seconds"] is not None)
    told = status()
    (edge,), (flow,) = told["edges"], told["flows"]
    assert told["silent"] == [nobody]
    assert (edge["accepted"], edge["requests"]["202"], edge["broker_up"]) == (
        READINGS,
        READINGS,
        True,
    )
    assert edge["acknowledged"]["count"] == READINGS
    assert (flow["readings"], flow["broker_up"], flow["dead_letters"]) == (READINGS, True, 0)
    assert flow["panes"] >= READINGS - 2
    assert 0 <= flow["snapshot_age_seconds"] < monotonic() - began
    assert flow["sensors"]["NORMAL"] == 1
    assert sum(partition["records"] for partition in flow["partitions"]) == READINGS
    assert {partition["lag_records"] for partition in flow["partitions"]} == {0}
    (sink,) = (sink for sink in flow["sinks"] if sink["name"] == "write_readings")
    assert sink["write"]["count"] >= 1
    assert 0 < sink["write"]["p50"] <= sink["write"]["p99"]

    shown = pipeline.iot("status", pipeline.url, url, nobody).stdout
    for line in (
        f"edge {pipeline.url}", f"readings accepted {READINGS}", f"flow {url}",
        "broker answers", "last snapshot", "records behind", f"{nobody} does not answer",
    ):  # fmt: skip
        assert line in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown


def test_without_an_answer_one_line_says_what_to_do(pipeline, ports):
    answer = pipeline.iot("status", f"127.0.0.1:{ports[0]}")
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1
    assert f"127.0.0.1:{ports[0]}" in answer.stderr
    assert "iot run" in answer.stderr
