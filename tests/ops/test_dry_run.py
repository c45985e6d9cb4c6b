import json
import subprocess
import sys

import pytest

from contract.settings import child_environment

RULES = {
    "alert_thresholds": [
        {"id": 3, "sensor_id": 1, "name": "hot", "condition_type": "greater_than",
         "threshold_value_min": 40, "severity": "critical"},
        {"id": 4, "sensor_id": 1, "condition_type": "sometimes", "threshold_value_min": 40},
    ],
    "sensors": [{"id": 1, "name": "boiler", "unit": "°C", "device_id": 1}],
    "devices": [{"id": 1, "name": "rig"}],
}  # fmt: skip
START = 1_732_400_000_000


def record(second, values, **more):
    at = START + 1000 * second
    value = {
        "v": 1, "packet_id": str(second), "device_id": 1, "device_uuid": "d", "received_at": at,
        "sensor_id": list(values), "ts": [at - 100] * len(values), "device_ts": None,
        "value": list(values.values()), "seq": [0] * len(values),
    }  # fmt: skip
    return {"partition": 0, "offset": second, "arrival": at, "value": value} | more


LOG = [
    *(record(n, {1: 50.0 if 20 <= n < 23 else 20.0, 2: 5.5}) for n in range(90)),
    record(90, {1: 20.0}, value={"v": 2}),
    record(91, {2: 7.0}, value=record(30, {2: 7.0})["value"] | {"packet_id": "late"}),
    {"partition": 0, "arrival": START + 100_000},
]


@pytest.fixture
def run(tmp_path):
    """`iot dry-run` over lines and rules: (exit code, lines of output, standard error)."""

    def run(*arguments, log=LOG, rules=RULES):
        lines = [line if isinstance(line, str) else json.dumps(line) for line in log]
        (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
        (tmp_path / "rules.json").write_text(json.dumps(rules))
        process = subprocess.run(
            [sys.executable, "-m", "ops.cli", "dry-run", "--input", "log.jsonl",
             "--rules", "rules.json", *arguments],
            env=child_environment({"IOT_LANG": "en", "PYTHONPATH": ":".join(sys.path)}),
            cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        return process.returncode, process.stdout.splitlines(), process.stderr

    return run


def test_lines_have_the_documented_keys_and_are_in_time_order(run):
    code, lines, _ = run("--windows")
    assert code == 0
    rows = [json.loads(line) for line in lines]
    kinds = {line["kind"]: set(line) for line in rows}
    assert kinds["window"] == {
        "kind", "sensor_id", "window", "end", "count", "mean", "min", "max", "std", "first", "last",
        "trend",
    }  # fmt: skip
    assert kinds["event"] >= {
        "kind", "sensor_id", "at", "event_code", "event_type", "from", "to", "event_key", "title",
        "message", "payload",
    }  # fmt: skip
    assert set(kinds) == {
        "window", "event", "late", "rollup", "prediction", "dead_letter", "summary"
    }  # fmt: skip
    times = {"window": "end", "event": "at", "late": "ts", "prediction": "predicted_at",
             "dead_letter": "at"}  # fmt: skip
    at = [line[times[line["kind"]]] for line in rows if line["kind"] in times]
    assert at == sorted(at)
    assert {line["window"] for line in rows if line["kind"] == "window"} == {"w1", "w5", "w10"}
    raised, recovered = (line for line in rows if line["kind"] == "event")
    assert (raised["from"], raised["to"], raised["at"]) == ("NORMAL", "CRITICAL", START + 20_000)
    assert raised["message"] == "boiler of rig is at 50 °C, above 40 °C (hot). Act at once."
    assert recovered["event_code"] == "RECOVERED_ANOMALY"


def test_the_summary_counts_everything(run):
    _, lines, err = run()
    summary = json.loads(lines[-1])
    windows = [line for line in lines if '"kind":"window"' in line]
    assert windows == []
    assert (summary["kind"], summary["records"], summary["heartbeats"]) == ("summary", 92, 1)
    assert (summary["readings"], summary["late"]) == (181, 1)
    assert (summary["dead_letters"], summary["rules"], summary["rules_refused"]) == (1, 1, 1)
    assert (summary["events"], summary["panes"]) == (2, 180)
    refused = json.loads(err.splitlines()[0])
    assert (refused["table"], refused["id"]) == ("alert_thresholds", 4)
    assert "sometimes" in refused["error"]


@pytest.mark.parametrize("batch", ["1", "7", "4096"])
def test_the_batch_size_does_not_change_the_output(run, batch):
    assert run("--windows", "--batch", batch)[1] == run("--windows")[1]


@pytest.mark.parametrize(
    ("log", "rules", "words"),
    [
        ([LOG[0], '{"arrival": "x"}'], {}, "log.jsonl line 2: Expected `int`, got `str`"),
        ([LOG[0], "", "{"], {}, "log.jsonl line 3: "),
        ([{"arrival": -1}], {}, "log.jsonl line 1: arrival -1 is not in epoch milliseconds"),
        ([], [1], "rules.json is not an object with a list of rows for each table"),
        ([], {"alert_threshold": []}, "rules.json: alert_threshold is not a table of rules"),
    ],
)
def test_unreadable_input_is_reported_in_one_line(run, log, rules, words):
    code, lines, err = run(log=log, rules=rules)
    assert (code, lines) == (1, [])
    assert err.startswith(f"iot: {words}")
    assert err.count("\n") == 1


def test_missing_files_are_reported(run):
    for option in ("--input", "--rules"):
        code, _, err = run(option, "nowhere")
        assert code == 1
        assert err.endswith("iot: nowhere cannot be read: No such file or directory\n")


def test_a_closed_pipe_ends_it_quietly(run, tmp_path):
    run()
    command = f"{sys.executable} -m ops.cli dry-run --windows --input log.jsonl | head -1"
    process = subprocess.run(
        ["/bin/sh", "-c", command],
        env=child_environment({"PYTHONPATH": ":".join(sys.path)}),
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert process.stdout.count("\n") == 1
    assert process.stderr == ""
