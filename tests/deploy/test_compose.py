"""docker-compose.yml as far as it can be judged without an engine."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
DOORS = {"edge": "8001:8001"}
"""The port that is open to the network."""


@pytest.mark.parametrize("name", SERVICES)
def test_whom_a_service_waits_for_is_there_without_a_profile_of_its_own(name):
    profiles = set(SERVICES[name].get("profiles", []))
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert set(SERVICES[other].get("profiles", [])) <= profiles
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_host_alone_but_for_the_doors(name):
    ports = SERVICES[name].get("ports", [])
    if name in DOORS:
        assert ports == [DOORS[name]]
    else:
        assert all(port.startswith("127.0.0.1:") for port in ports)


def test_nothing_starts_without_a_key_and_whatever_is_posted_to_asks_for_it():
    for name in ("edge", "predict"):
        assert SERVICES[name]["environment"]["INGEST_API_KEY"].startswith("${INGEST_API_KEY:?")


def test_each_variable_has_a_default_or_is_required_and_is_in_the_example():
    example = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    used = re.findall(r"(?<!\$)\$\{(\w+)(:[-?])?", TEXT)
    assert {name for name, _ in used} == example
    assert all(kind for _, kind in used)


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there(name):
    for mount in SERVICES[name].get("volumes", []):
        source = mount.split(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_ours_or_pinned(name):
    image = SERVICES[name]["image"]
    assert image == "iot-pipeline" or re.search(r":v?\d+(\.\d+\.\d+|\d+-latest)$", image)


def test_profiles_are_what_the_readme_says():
    profiles = {name: one["profiles"] for name, one in SERVICES.items() if "profiles" in one}
    assert profiles == {"simulator": ["demo"], "prometheus": ["obs"], "grafana": ["obs"]}


def test_the_flow_is_kept_running_with_its_recovery_on_a_volume_and_metrics_for_prometheus():
    flow = SERVICES["flow"]
    assert flow["command"].split() == ["iot", "run", "--recovery", "/var/lib/iot/recovery"]
    assert "recovery:/var/lib/iot/recovery" in flow["volumes"]
    assert flow["environment"]["METRICS_HOST"] == "0.0.0.0"  # noqa: S104 - inside its network
    assert ":9101/" in flow["healthcheck"]["test"][-1]


def test_grafana_lets_nobody_in_without_a_password():
    grafana = SERVICES["grafana"]
    assert grafana["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_PASSWORD:-}"  # noqa: S105
    assert "exit 1" in grafana["entrypoint"][-1]
