"""What every manifest of every profile must be: the rules that linters of manifests have, as tests."""

import re
from collections.abc import Iterator

import pytest

from tests.charts.network_policy import selects
from tests.charts.rendering import (
    PROFILES,
    Manifest,
    containers,
    environ,
    everything,
    of_kind,
    pod_templates,
    render,
)

LONG_RUNNING = ("Deployment", "StatefulSet")


@pytest.fixture(params=[*PROFILES, "everything"])
def manifests(request: pytest.FixtureRequest) -> tuple[Manifest, ...]:
    """Each profile's, and those of one with all that is off by default or depends on the cluster."""
    return everything() if request.param == "everything" else render(request.param)


def each_container(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest]]:
    """Every container of every pod, by a name for messages."""
    for name, template in pod_templates(manifests):
        for container in containers(template):
            yield f"{name} {container['name']}", container


def test_pods_are_restricted(manifests: tuple[Manifest, ...]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    for name, template in pod_templates(manifests):
        spec = template["spec"]
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        kinds = {kind for volume in spec.get("volumes", []) for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "emptyDir", "ephemeral", "persistentVolumeClaim", "secret"}, name
    for name, container in each_container(manifests):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        assert security["readOnlyRootFilesystem"] is True, name
        assert not any("hostPort" in port for port in container.get("ports", [])), name


def test_containers_say_what_they_need(manifests: tuple[Manifest, ...]) -> None:
    for name, container in each_container(manifests):
        resources = container["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys(), name
        assert {"cpu", "memory"} <= resources["limits"].keys(), name


def test_images_name_a_version_and_our_registry(manifests: tuple[Manifest, ...]) -> None:
    for name, container in each_container(manifests):
        image = container["image"]
        assert re.search(r":[\w.-]+$|@sha256:[0-9a-f]{64}$", image), name
        assert not image.endswith(":latest"), name
        if "onggi-" in image:
            assert image.startswith("registry.example.com/onggi/onggi-"), name
        assert container["imagePullPolicy"] == "IfNotPresent", name


def test_only_control_has_a_service_account_token(manifests: tuple[Manifest, ...]) -> None:
    jobs = any(name.endswith("-jobs finetune.yaml") for name, _ in pod_templates(manifests))
    for name, template in pod_templates(manifests):
        expected = jobs and name.startswith("Deployment") and name.endswith("-control")
        assert template["spec"]["automountServiceAccountToken"] is expected, name
        assert template["spec"]["enableServiceLinks"] is False, name


def test_what_runs_for_long_has_probes_and_is_selected_by_its_own_labels(
    manifests: tuple[Manifest, ...],
) -> None:
    for manifest in of_kind(manifests, *LONG_RUNNING):
        name, spec = manifest["metadata"]["name"], manifest["spec"]
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"].items() <= labels.items(), name
        assert manifest["metadata"]["labels"].items() <= labels.items(), name
        for container in spec["template"]["spec"]["containers"]:
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), name


def test_selectors_keep_the_pods_of_different_workloads_apart(manifests: tuple[Manifest, ...]) -> None:
    workloads = of_kind(manifests, *LONG_RUNNING)
    for manifest in workloads:
        selected = [
            other["metadata"]["name"]
            for other in workloads
            if selects(manifest["spec"]["selector"], other["spec"]["template"]["metadata"]["labels"])
        ]
        assert selected == [manifest["metadata"]["name"]]


def test_objects_are_labelled_and_unique(manifests: tuple[Manifest, ...]) -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(names) == len(set(names))
    for manifest in manifests:
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "onggi", manifest["metadata"]["name"]
        assert {"app.kubernetes.io/component", "app.kubernetes.io/version", "helm.sh/chart"} <= labels.keys()


def test_services_lead_to_ports_of_pods_that_are_there(manifests: tuple[Manifest, ...]) -> None:
    templates = [manifest["spec"]["template"] for manifest in of_kind(manifests, *LONG_RUNNING)]
    for service in of_kind(manifests, "Service"):
        if not service["spec"].get("selector"):
            continue
        selected = [
            template
            for template in templates
            if selects({"matchLabels": service["spec"]["selector"]}, template["metadata"]["labels"])
        ]
        assert selected, service["metadata"]["name"]
        for template, port in (
            (template, port) for template in selected for port in service["spec"]["ports"]
        ):
            there = {
                port["name"] for container in containers(template) for port in container.get("ports", [])
            }
            assert port["targetPort"] in there, service["metadata"]["name"]


def test_what_is_mounted_is_there_and_what_is_there_is_mounted(manifests: tuple[Manifest, ...]) -> None:
    for name, template in pod_templates(manifests):
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        mounted = {mount["name"] for c in containers(template) for mount in c.get("volumeMounts", [])}
        assert mounted - {"data"} == volumes, name  # "data" is a StatefulSet's claim


def test_config_maps_that_pods_mount_are_rendered(manifests: tuple[Manifest, ...]) -> None:
    rendered = {manifest["metadata"]["name"] for manifest in of_kind(manifests, "ConfigMap")}
    for name, template in pod_templates(manifests):
        mounted = {v["configMap"]["name"] for v in template["spec"].get("volumes", []) if "configMap" in v}
        assert mounted <= rendered | {"company-ca"}, name


def test_secrets_come_by_reference_alone(manifests: tuple[Manifest, ...]) -> None:
    secret = re.compile(r"PASSWORD|SECRET|TOKEN$|API_KEY|DATABASE_URL|BACKEND_STORE")
    existing = {"onggi-secrets", "onggi-store-postgresql", "onggi-store-s3", "onggi-huggingface"}
    for name, container in each_container(manifests):
        for entry in container.get("env", []):
            if secret.search(entry["name"]):
                assert entry["valueFrom"]["secretKeyRef"]["name"] in existing, (name, entry["name"])


def test_nothing_is_a_hook_but_the_tests(manifests: tuple[Manifest, ...]) -> None:
    hooks = {m["metadata"].get("annotations", {}).get("helm.sh/hook") for m in manifests} - {None}
    assert hooks <= {"test"}


def test_pods_start_again_when_a_secret_or_file_that_they_read_changes(
    manifests: tuple[Manifest, ...],
) -> None:
    for manifest in of_kind(manifests, *LONG_RUNNING):
        template = manifest["spec"]["template"]
        reads = any("secretKeyRef" in str(container.get("env")) for container in containers(template))
        if reads and "store-postgresql" not in manifest["metadata"]["name"]:
            annotations = template["metadata"]["annotations"]
            assert any(key.startswith("checksum/") for key in annotations), manifest["metadata"]["name"]


def test_graceful_ends_fit_their_grace_periods(manifests: tuple[Manifest, ...]) -> None:
    for manifest in of_kind(manifests, "Deployment"):
        pod = manifest["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        values = environ(container)
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        work = int(values.get("SHUTDOWN_SECONDS", 65 if container["name"] == "gateway" else 10))
        assert pod["terminationGracePeriodSeconds"] >= sleep + work + 10, manifest["metadata"]["name"]
