import json
import subprocess
import sys

import pytest

from contract.settings import Settings, child_environment
from ops.dry_run import DryRun, read_records, read_rules
from ops.scenarios import NAMES

SEEDS = (0, 1, 7)
FIELDS = ("sensor_id", "device_id", "at", "event_code", "event_type", "from", "to")
ENDINGS = ("jsonl", "rules.json", "expected.json")

_RUN = """
import json, sys
from typer.testing import CliRunner
from ops.cli import app
results = [CliRunner().invoke(app, ["simulate", *arguments]) for arguments in json.load(sys.stdin)]
print(json.dumps([(result.exit_code, result.stdout, result.stderr) for result in results]))
"""


def simulate(folder, *commands):
    """Exit code, output and errors of each `iot simulate`, all in one other process."""
    process = subprocess.run(
        [sys.executable, "-c", _RUN], input=json.dumps(commands), cwd=folder, timeout=240,
        env=child_environment({}), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(process.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds each scenario of each seed, written twice."""
    folder = tmp_path_factory.mktemp("scenarios")
    commands = [
        ("--scenario", name, "--seed", str(seed), "--out", f"{name}-{seed}{copy}.jsonl")
        for name in NAMES
        for seed in SEEDS
        for copy in ("", "-again")
    ]
    for code, out, err in simulate(folder, *commands):
        assert (code, err) == (0, "")
        assert "iot dry-run --input" in out
    return folder


def files(folder, name, seed, copy=""):
    return [folder / f"{name}-{seed}{copy}.{ending}" for ending in ENDINGS]


def dry_run(file, rules, batch):
    """The events of a dry run, and its summary."""
    run = DryRun(read_rules(rules), Settings())
    with file.open("rb") as lines:
        run.run(read_records(lines, file.name), batch)
    return [line for line in run.lines() if line["kind"] == "event"], run.summary()


def plain(events):
    return [{field: event[field] for field in FIELDS} for event in events]


@pytest.mark.parametrize("batch", [1, 4096])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_leads_to_exactly_what_its_maker_expects(folder, name, seed, batch):
    file, rules, expected = files(folder, name, seed)
    wanted = json.loads(expected.read_text())
    events, summary = dry_run(file, rules, batch)
    assert plain(events) == wanted["events"]
    assert {what: getattr(summary, what) for what in wanted["counts"]} == wanted["counts"]
    assert (summary.rules_refused, summary.dead_letters) == (0, 0)


def test_nothing_but_the_three_files_of_each_scenario_is_written(folder):
    wanted = {
        file.name
        for name in NAMES
        for seed in SEEDS
        for copy in ("", "-again")
        for file in files(folder, name, seed, copy)
    }
    assert {file.name for file in folder.iterdir()} == wanted


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_write_equal_bytes_and_other_seeds_others(folder, name):
    for seed in SEEDS:
        for first, again in zip(
            files(folder, name, seed), files(folder, name, seed, "-again"), strict=True
        ):
            assert first.read_bytes() == again.read_bytes()
    assert len({files(folder, name, seed)[0].read_bytes() for seed in SEEDS}) == len(SEEDS)


def test_the_seed_is_0_where_none_is_given(folder, tmp_path):
    simulate(tmp_path, ("--scenario", "spike", "--out", "spike.jsonl"))
    for file, ending in zip(files(folder, "spike", 0), ENDINGS, strict=True):
        assert (tmp_path / f"spike.{ending}").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_ends_before_a_prediction_is_compared(folder, name):
    for seed in SEEDS:
        records = [
            json.loads(line) for line in files(folder, name, seed)[0].read_bytes().splitlines()
        ]
        assert {record["partition"] for record in records} == {0, 1}
        assert records[-1]["arrival"] - records[0]["arrival"] < 600_000
        assert "value" not in records[-1]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_forecast_of_a_drift_says_when_critical_comes(folder, seed):
    forecast, critical, *_ = dry_run(*files(folder, "drift", seed)[:2], batch=4096)[0]
    seconds = forecast["payload"]["seconds_to_reach"]
    assert forecast["event_code"] == "PRED_THRESHOLD_BREACH"
    assert 0 < critical["at"] - forecast["at"] - seconds * 1000 <= 1000


@pytest.mark.parametrize("seed", SEEDS)
def test_an_incident_rings_once_even_while_a_sensor_flaps(folder, seed):
    events = dry_run(*files(folder, "flap", seed)[:2], batch=4096)[0]
    codes = [event["event_code"] for event in events]
    assert codes.count("PATTERN_CHANGE") == 2
    assert [event["silent"] for event in events] == [False, *[True] * 6]


def test_the_command_dry_run_takes_the_files_as_they_are(folder):
    file, rules, expected = files(folder, "flap", 0)
    process = subprocess.run(
        [sys.executable, "-m", "ops.cli", "dry-run", "--input", file, "--rules", rules],
        env=child_environment({}), capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    events = [line for line in lines if line["kind"] == "event"]
    assert plain(events) == json.loads(expected.read_text())["events"]


def test_options_that_do_not_go_together_are_refused_in_one_line(tmp_path):
    spike = ("--scenario", "spike", "--out", "spike.jsonl")
    alone = "cannot be used with --scenario, which posts nothing"
    refused = {
        spike[:2]: "--scenario needs --out NAME.jsonl",
        (*spike, "--url", "http://127.0.0.1:8001"): f"--url {alone}",
        (*spike, "--seconds", "0"): f"--seconds {alone}",
        (*spike, "--devices", "2"): f"--devices {alone}",
        ("--out", "spike.jsonl"): "--out requires --scenario",
        ("--seed", "0"): "--seed requires --scenario",
        (*spike[:3], "spike.json"): "--out spike.json: the file name must end in .jsonl",
        (*spike[:3], "no/spike.jsonl"): "no/spike.jsonl cannot be written: No such file or direct",
    }
    results = simulate(tmp_path, *refused)
    for (code, out, err), words in zip(results, refused.values(), strict=True):
        assert (code, out) == (1, "")
        assert err.startswith(f"iot: {words}")
        assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [("--scenario", "storm"), ("--scenario", "flap", "--seed=-1")]
)
def test_there_is_no_other_scenario_and_no_seed_below_0(tmp_path, arguments):
    ((code, _, err),) = simulate(tmp_path, (*arguments, "--out", "x.jsonl"))
    assert code == 2
    assert "Invalid value" in err
    assert list(tmp_path.iterdir()) == []
