"""docker-compose.yml, as far as it can be checked without Docker."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
OPEN_PORTS = {"edge": "8001:8001"}
"""The ports that are open to the network."""


@pytest.mark.parametrize("name", SERVICES)
def test_the_dependencies_of_a_service_need_no_other_profile(name):
    profiles = set(SERVICES[name].get("profiles", []))
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert set(SERVICES[other].get("profiles", [])) <= profiles
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]


@pytest.mark.parametrize("name", SERVICES)
def test_only_the_edge_port_is_open_to_the_network(name):
    ports = SERVICES[name].get("ports", [])
    if name in OPEN_PORTS:
        assert ports == [OPEN_PORTS[name]]
    else:
        assert all(port.startswith("127.0.0.1:") for port in ports)


def test_services_that_accept_posts_require_a_key():
    for name in ("edge", "predict"):
        assert SERVICES[name]["environment"]["INGEST_API_KEY"].startswith("${INGEST_API_KEY:?")


def test_each_variable_has_a_default_or_is_required_and_is_in_the_example():
    example = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    used = re.findall(r"(?<!\$)\$\{(\w+)(:[-?])?", TEXT)
    assert {name for name, _ in used} == example
    assert all(kind for _, kind in used)


@pytest.mark.parametrize("name", SERVICES)
def test_mounted_files_exist(name):
    for mount in SERVICES[name].get("volumes", []):
        source = mount.split(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_ours_or_pinned(name):
    image = SERVICES[name]["image"]
    assert image == "iot-pipeline" or re.search(r":v?\d+(\.\d+\.\d+|\d+-latest)$", image)


def test_profiles_match_the_readme():
    profiles = {
        name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service
    }
    assert profiles == {"simulator": ["demo"], "prometheus": ["obs"], "grafana": ["obs"]}


def test_the_flow_has_its_recovery_on_a_volume_and_metrics_for_prometheus():
    flow = SERVICES["flow"]
    assert flow["command"].split() == ["iot", "run", "--recovery", "/var/lib/iot/recovery"]
    assert "recovery:/var/lib/iot/recovery" in flow["volumes"]
    assert flow["environment"]["METRICS_HOST"] == "0.0.0.0"  # noqa: S104 - inside its network
    assert ":9101/" in flow["healthcheck"]["test"][-1]


def test_grafana_requires_a_password():
    grafana = SERVICES["grafana"]
    assert grafana["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_PASSWORD:-}"  # noqa: S105
    assert "exit 1" in grafana["entrypoint"][-1]
