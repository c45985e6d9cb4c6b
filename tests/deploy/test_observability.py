"""What alerts, dashboard and `iot status` ask for is there; each alert has its place to look."""

import inspect
import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY

import dataflows.metrics
import rules.history
import runtime.log
import sinks.metrics
from ingest_edge.metrics import REGISTRY as EDGE
from ml.predict.metrics import REGISTRY as PREDICT
from ops import status

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "deploy" / "observability"
ALERTS = [
    rule
    for group in yaml.safe_load((PLACE / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((PLACE / "grafana" / "dashboards" / "iot.json").read_text())
OF_PROMETHEUS = {"up", "ALERTS"}
"""What Prometheus knows by itself."""
ENDINGS = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
NAME = re.compile(r"\b(?:iot_|process_)[a-z_]+|\bup\b|\bALERTS\b")


@pytest.fixture(scope="module")
def exposed():
    """Job -> the names of its samples."""
    assert dataflows.metrics
    assert runtime.log
    assert rules.history
    assert sinks.metrics
    registries = {"flow": REGISTRY, "edge": EDGE, "predict": PREDICT}
    return {
        job: {
            family.name + ending
            for family in registry.collect()
            for ending in ENDINGS.get(family.type, [""])
        }
        for job, registry in registries.items()
    }


def asked():
    """(where, expression) of all that is asked of Prometheus."""
    yield from ((rule["alert"], rule["expr"]) for rule in ALERTS)
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def test_alerts_and_dashboard_use_only_exposed_metrics(exposed):
    known = set().union(*exposed.values(), OF_PROMETHEUS)
    missing = {
        (where, name) for where, expr in asked() for name in NAME.findall(expr) if name not in known
    }
    assert missing == set()
    assert len(list(asked())) > 50


def test_a_metric_is_not_queried_from_the_wrong_job(exposed):
    for where, expr in asked():
        for name, labels in re.findall(r"(\b(?:iot_|process_)[a-z_]+)\{job=~?\"([^\"]+)\"", expr):
            for job in labels.split("|"):
                assert name in exposed[job], (where, name, job)


def test_iot_status_uses_only_exposed_metrics(exposed):
    known = set().union(*exposed.values())
    names = re.findall(r'"((?:iot_|process_)[a-z_]+)"', inspect.getsource(status))
    assert len(names) > 25
    assert [name for name in names if name not in known and f"{name}_bucket" not in known] == []


def test_each_flow_metric_is_in_the_dashboard_or_in_an_alert(exposed):
    """A metric that is never shown is not needed."""
    ours = {name for names in exposed.values() for name in names if name.startswith("iot_")}
    bases = {re.sub("_(total|bucket|sum|count)$", "", name) for name in ours}
    told = {
        re.sub("_(total|bucket|sum|count)$", "", name)
        for _, expr in asked()
        for name in NAME.findall(expr)
    }
    assert bases - told == {"iot_edge_packets_in_flight", "iot_edge_producer_replaced"}


def test_each_alert_has_a_section_of_the_runbook_and_each_section_its_alert():
    text = (ROOT / "docs" / "runbook.md").read_text()
    alerts, after = text.split("\n# Alerts\n")[1].split("\n# What to do when\n")
    sections = re.split(r"\n## ", alerts)[1:]
    assert [section.split("\n")[0] for section in sections] == [rule["alert"] for rule in ALERTS]
    for section in sections:
        for part in ("**Means:**", "**Look:**", "**Do:**", "**If nobody does anything:**"):
            assert part in section, section[:20]
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-")
        for head in re.findall(r"^#+ (.*)", text, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= anchors
    assert after.count("\n## ") >= 6


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_each_alert_has_a_summary_and_a_runbook_link(rule):
    assert rule["labels"]["severity"] in {"page", "ticket"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook"}
    assert notes["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
    assert len(notes["summary"]) > 20
    assert notes["description"].endswith(".")


def test_panels_have_descriptions_and_do_not_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_prometheus_scrapes_the_jobs_of_the_alerts_at_the_ports_of_compose():
    config = yaml.safe_load((PLACE / "prometheus.yml").read_text())
    targets = {
        job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]
    }
    assert targets == {
        "edge": ["edge:8001"], "flow": ["flow:9101"], "predict": ["predict:8002"]
    }  # fmt: skip
    named = {job for _, expr in asked() for job in re.findall(r'job="(\w+)"', expr)}
    assert named <= set(targets)
    assert config["rule_files"] == ["alerts.yml"]
