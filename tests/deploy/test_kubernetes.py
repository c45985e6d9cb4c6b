"""The manifests, as far as they can be checked without a cluster. `make check` has schemas."""

import subprocess
from pathlib import Path

import pytest
import yaml

from contract.partitions import parse_partitions
from ops.run import split

PLACE = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((PLACE / "kustomization.yaml").read_text())
OBJECTS = [
    manifest
    for name in KUSTOMIZATION["resources"]
    for manifest in yaml.safe_load_all((PLACE / name).read_text())
]
PODS = {
    manifest["metadata"]["name"]: manifest["spec"]["template"]
    for manifest in OBJECTS
    if "template" in manifest.get("spec", {})
}
(FLOW,) = (manifest for manifest in OBJECTS if manifest["kind"] == "StatefulSet")
(CONTAINER,) = PODS["iot-flow"]["spec"]["containers"]


def start(folder, ordinal, replicas, partitions=12):
    """The arguments of `iot` in a pod, from the command of the manifest."""
    stub = folder / "iot"
    stub.write_text('#!/bin/sh\necho "$KAFKA_PARTITIONS $*"\n')
    stub.chmod(0o755)
    environment = {
        "PATH": f"{folder}:/usr/bin:/bin",
        "POD_NAME": f"iot-flow-{ordinal}",
        "REPLICAS": str(replicas),
        "PARTITIONS": str(partitions),
    }
    return subprocess.run(
        CONTAINER["command"], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("partitions", [12, 31])
@pytest.mark.parametrize("replicas", range(1, 13))
def test_the_ranges_of_all_pods_cover_each_partition_once(tmp_path, replicas, partitions):
    taken = []
    for ordinal in range(replicas):
        range_, *command = start(tmp_path, ordinal, replicas, partitions).stdout.split()
        assert command == ["run", "--recovery", "/var/lib/iot/recovery"]
        taken.append(parse_partitions(range_))
    assert sorted(number for range_ in taken for number in range_) == list(range(partitions))
    assert taken == split(frozenset(range(partitions)), replicas)


def test_a_pod_without_a_partition_reports_it_and_ends(tmp_path):
    for ordinal, replicas, partitions in ((2, 2, 12), (12, 13, 12)):
        done = start(tmp_path, ordinal, replicas, partitions)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"REPLICAS is {replicas}" in done.stderr


def test_the_flow_knows_the_number_of_pods():
    values = {variable["name"]: variable.get("value") for variable in CONTAINER["env"]}
    assert values["REPLICAS"] == str(FLOW["spec"]["replicas"])
    assert values["METRICS_HOST"] == "0.0.0.0"  # noqa: S104 - inside its network
    assert FLOW["spec"]["podManagementPolicy"] == "Parallel"
    assert FLOW["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "recovery"


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_few_privileges_and_resource_limits(name):
    spec = PODS[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert context["capabilities"]["drop"] == ["ALL"]
        assert set(container["resources"]) == {"requests", "limits"}
        assert container["image"] == KUSTOMIZATION["images"][0]["name"]
        assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/tmp"}  # noqa: S108
        ports = {port["name"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                assert container[probe]["httpGet"]["port"] in ports


def test_selected_and_referenced_objects_exist():
    labels = [pod["metadata"]["labels"].items() for pod in PODS.values()]
    for manifest in OBJECTS:
        selector = manifest.get("spec", {}).get("selector", {})
        wanted = selector.get("matchLabels", selector)
        assert not wanted or any(wanted.items() <= has for has in labels), manifest["metadata"]
    secret = yaml.safe_load((PLACE / "secret.example.yaml").read_text())
    known = {manifest["metadata"]["name"] for manifest in OBJECTS} | {secret["metadata"]["name"]}
    for pod in PODS.values():
        for container in pod["spec"]["containers"]:
            for source in container["envFrom"]:
                (reference,) = source.values()
                assert reference["name"] in known


def test_no_secret_and_no_namespace_is_applied():
    assert {manifest["kind"] for manifest in OBJECTS} & {"Secret", "Namespace"} == set()
    assert all("namespace" not in manifest["metadata"] for manifest in OBJECTS)


def test_each_file_is_applied_or_is_an_example():
    files = {file.name for file in PLACE.glob("*.yaml")} - {"kustomization.yaml"}
    assert files == {*KUSTOMIZATION["resources"], "secret.example.yaml"}
