"""The manifests as far as they can be judged without a cluster; `make check` has their schemas."""

import subprocess
from pathlib import Path

import pytest
import yaml

from contract.partitions import parse_partitions
from ops.run import split

PLACE = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((PLACE / "kustomization.yaml").read_text())
OBJECTS = [
    one
    for name in KUSTOMIZATION["resources"]
    for one in yaml.safe_load_all((PLACE / name).read_text())
]
PODS = {
    one["metadata"]["name"]: one["spec"]["template"]
    for one in OBJECTS
    if "template" in one.get("spec", {})
}
(FLOW,) = (one for one in OBJECTS if one["kind"] == "StatefulSet")
(CONTAINER,) = PODS["iot-flow"]["spec"]["containers"]


def start(folder, ordinal, replicas, partitions=12):
    """What `iot` is started with in that pod, by the very command of the manifest."""
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
def test_the_ranges_of_all_pods_have_each_partition_once(tmp_path, replicas, partitions):
    taken = []
    for ordinal in range(replicas):
        range_, *command = start(tmp_path, ordinal, replicas, partitions).stdout.split()
        assert command == ["run", "--recovery", "/var/lib/iot/recovery"]
        taken.append(parse_partitions(range_))
    assert sorted(one for range_ in taken for one in range_) == list(range(partitions))
    assert taken == split(frozenset(range(partitions)), replicas)


def test_a_pod_that_gets_no_partition_says_so_and_ends(tmp_path):
    for ordinal, replicas, partitions in ((2, 2, 12), (12, 13, 12)):
        done = start(tmp_path, ordinal, replicas, partitions)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"REPLICAS is {replicas}" in done.stderr


def test_the_flow_is_told_how_many_pods_there_are():
    values = {one["name"]: one.get("value") for one in CONTAINER["env"]}
    assert values["REPLICAS"] == str(FLOW["spec"]["replicas"])
    assert values["METRICS_HOST"] == "0.0.0.0"  # noqa: S104 - inside its network
    assert FLOW["spec"]["podManagementPolicy"] == "Parallel"
    assert FLOW["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "recovery"


@pytest.mark.parametrize("name", PODS)
def test_a_pod_may_do_little_and_has_its_share(name):
    spec = PODS[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert context["capabilities"]["drop"] == ["ALL"]
        assert set(container["resources"]) == {"requests", "limits"}
        assert container["image"] == KUSTOMIZATION["images"][0]["name"]
        assert {one["mountPath"] for one in container["volumeMounts"]} >= {"/tmp"}  # noqa: S108
        ports = {one["name"] for one in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                assert container[probe]["httpGet"]["port"] in ports


def test_what_is_selected_and_referred_to_is_there():
    labels = [pod["metadata"]["labels"].items() for pod in PODS.values()]
    for one in OBJECTS:
        selector = one.get("spec", {}).get("selector", {})
        wanted = selector.get("matchLabels", selector)
        assert not wanted or any(wanted.items() <= has for has in labels), one["metadata"]
    secret = yaml.safe_load((PLACE / "secret.example.yaml").read_text())
    known = {one["metadata"]["name"] for one in OBJECTS} | {secret["metadata"]["name"]}
    for pod in PODS.values():
        for container in pod["spec"]["containers"]:
            for source in container["envFrom"]:
                (reference,) = source.values()
                assert reference["name"] in known


def test_no_secret_and_no_namespace_is_applied():
    assert {one["kind"] for one in OBJECTS} & {"Secret", "Namespace"} == set()
    assert all("namespace" not in one["metadata"] for one in OBJECTS)


def test_each_file_is_applied_or_is_an_example():
    files = {file.name for file in PLACE.glob("*.yaml")} - {"kustomization.yaml"}
    assert files == {*KUSTOMIZATION["resources"], "secret.example.yaml"}
