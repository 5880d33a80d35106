"""What every manifest of every profile must be: the rules that linters of manifests have, as tests."""

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest

from services.control.bases import Base
from tests.charts.network_policy import selects
from tests.charts.rendering import (
    CUSTOM_METRICS,
    HTTP_ROUTES,
    KEDA,
    MONITORS,
    PROFILES,
    Manifest,
    containers,
    named,
    of_kind,
    pod_templates,
    render,
)

# Profiles as they are, and one with all that is off by default or depends on the cluster.
EVERYTHING = (
    "cpu",
    "ingress.enabled=true",
    "ingress.tls.certManager.issuer=letsencrypt",
    "ingress.hosts={chat.example.com}",
    "httpRoute.enabled=true",
    "httpRoute.parentRefs[0].name=public",
    "gateway.autoscaling.enabled=true",
    "vllm.defaults.autoscaling.enabled=true",
    "vllm.servers.second.model=SmolLM2-135M-Instruct",
    "vllm.servers.second.gpu.count=0",
    "vllm.servers.second.replicas=2",
    "vllm.servers.second.autoscaling.enabled=false",
    "vllm.servers.third.model=SmolLM2-135M-Instruct",
    "vllm.servers.third.gpu.count=0",
    "vllm.servers.third.autoscaling.kind=keda",
    "global.caBundle.configMap=company-ca",
    "global.imagePullSecrets={registry}",
    "huggingface.token=hf_something",
)
APIS = (MONITORS, HTTP_ROUTES, CUSTOM_METRICS, KEDA)
VARIANTS = [*PROFILES, "everything"]
LONG_RUNNING = ("Deployment", "StatefulSet")


def manifests_of(variant: str) -> tuple[Manifest, ...]:
    """The manifests of a profile or of everything."""
    return render(*EVERYTHING, apis=APIS) if variant == "everything" else render(variant)


@pytest.fixture(params=VARIANTS)
def manifests(request: pytest.FixtureRequest) -> tuple[Manifest, ...]:
    """Each profile's."""
    return manifests_of(request.param)


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


def test_monitors_scrape_ports_of_services_that_are_there() -> None:
    manifests = manifests_of("everything")
    for monitor in of_kind(manifests, "ServiceMonitor"):
        (service,) = (
            service
            for service in of_kind(manifests, "Service")
            if selects(monitor["spec"]["selector"], service["metadata"]["labels"])
        )
        ports = {port["name"] for port in service["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports
    assert {m["metadata"]["name"] for m in of_kind(manifests, "ServiceMonitor", "PodMonitor")} == {
        "onggi-gateway", "onggi-control", "onggi-ui", "onggi-vllm"
    }  # fmt: skip


def test_what_is_mounted_is_there_and_what_is_there_is_mounted(manifests: tuple[Manifest, ...]) -> None:
    for name, template in pod_templates(manifests):
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        claims = [name for name in ("data",) if name in str(template) and name not in volumes]
        mounted = {mount["name"] for c in containers(template) for mount in c.get("volumeMounts", [])}
        assert mounted - set(claims) == volumes, name


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


@pytest.mark.parametrize("profile", ["rtx5090", "rtx5060ti", "both"])
def test_a_server_on_a_card_asks_for_it_by_its_memory_and_never_surges(profile: str) -> None:
    manifests = render(profile)
    servers = [m for m in of_kind(manifests, "Deployment") if "onggi.dev/server" in m["metadata"]["labels"]]
    assert len(servers) == (2 if profile == "both" else 1)
    for server in servers:
        pod = server["spec"]["template"]["spec"]
        assert server["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
        assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
        (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
            "nodeSelectorTerms"
        ]
        assert term["matchExpressions"][0]["key"] == "nvidia.com/gpu.memory"
        assert term["matchExpressions"][0]["operator"] == "Gt"
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", environ(pod["containers"][0])["MODEL"])
        assert re.search(r"--revision [0-9a-f]{40}$", " ".join(pod["initContainers"][0]["command"]))


def test_an_eight_gigabyte_5060_ti_does_not_get_the_server_of_the_sixteen() -> None:
    pod = named(render("rtx5060ti"), "Deployment", "onggi-vllm-main")["spec"]["template"]["spec"]
    affinity: Any = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (least,) = affinity["nodeSelectorTerms"][0]["matchExpressions"][0]["values"]
    assert 8151 <= int(least) < 16311, "what feature discovery says of the two"


def test_graceful_ends_fit_their_grace_periods(manifests: tuple[Manifest, ...]) -> None:
    for manifest in of_kind(manifests, "Deployment"):
        pod = manifest["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        values = environ(container)
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        work = int(values.get("SHUTDOWN_SECONDS", 65 if container["name"] == "gateway" else 10))
        assert pod["terminationGracePeriodSeconds"] >= sleep + work + 10, manifest["metadata"]["name"]


def test_disruption_budgets_are_there_from_two_replicas_on() -> None:
    def budgets(*arguments: str) -> set[str]:
        return {budget["metadata"]["name"] for budget in of_kind(render(*arguments), "PodDisruptionBudget")}

    assert budgets("cpu") == set()
    assert budgets("rtx5090") == {"onggi-gateway"}
    assert budgets("cpu", "vllm.servers.main.replicas=2") == {"onggi-vllm-main"}


def test_replicas_belong_to_the_autoscaler_where_there_is_one() -> None:
    manifests = manifests_of("everything")
    assert "replicas" not in named(manifests, "Deployment", "onggi-gateway")["spec"]
    assert "replicas" not in named(manifests, "Deployment", "onggi-vllm-main")["spec"]
    metrics = named(manifests, "HorizontalPodAutoscaler", "onggi-vllm-main")["spec"]["metrics"]
    assert [metric["pods"]["metric"]["name"] for metric in metrics] == ["vllm_num_requests_waiting"]
    gateway = named(manifests, "HorizontalPodAutoscaler", "onggi-gateway")["spec"]["metrics"]
    assert [metric["type"] for metric in gateway] == ["Resource", "Pods"]
    assert named(manifests, "ScaledObject", "onggi-vllm-third")
    plain = render("cpu", "gateway.autoscaling.enabled=true")
    (only,) = named(plain, "HorizontalPodAutoscaler", "onggi-gateway")["spec"]["metrics"]
    assert only["type"] == "Resource", "a metric that nobody serves stops every scaling down"


def test_paths_lead_where_the_design_says_and_metrics_nowhere() -> None:
    manifests = manifests_of("everything")
    (rule,) = named(manifests, "Ingress", "onggi")["spec"]["rules"]
    paths = {
        path["path"]: (path["backend"]["service"]["name"], path["backend"]["service"]["port"]["number"])
        for path in rule["http"]["paths"]
    }
    control, gateway = ("onggi-control", 8080), ("onggi-gateway", 8080)
    assert paths == {
        "/v1/files": control, "/v1/fine_tuning": control, "/onggi": control, "/admin": control,
        "/v1": gateway, "/docs": gateway, "/openapi.json": gateway, "/": ("onggi-ui", 7860),
    }  # fmt: skip
    route = named(manifests, "HTTPRoute", "onggi")["spec"]["rules"]
    assert {
        rule["matches"][0]["path"]["value"]: (rule["backendRefs"][0]["name"], rule["backendRefs"][0]["port"])
        for rule in route
    } == paths
    ui = named(manifests, "Deployment", "onggi-ui")["spec"]["template"]["spec"]["containers"][0]
    assert environ(ui)["METRICS_PORT"] == "9095", "the page's own port has none"


def test_control_knows_every_base_that_is_served() -> None:
    container = named(render("both"), "Deployment", "onggi-control")["spec"]["template"]["spec"][
        "containers"
    ][0]
    bases = [Base.model_validate(base) for base in json.loads(environ(container)["BASE_MODELS"])]
    assert [(base.name, base.max_rank) for base in bases] == [
        ("Qwen2.5-7B-Instruct", 64), ("Qwen3-4B-Instruct-2507", 32)
    ]  # fmt: skip
    assert all(re.fullmatch(r"[0-9a-f]{40}", base.revision) for base in bases)


def test_mlflow_may_be_asked_by_every_name_of_its_service() -> None:
    container = named(render("cpu"), "Deployment", "onggi-mlflow")["spec"]["template"]["spec"]["containers"][
        0
    ]
    hosts = environ(container)["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    for name in ("onggi-mlflow", "onggi-mlflow.onggi", "onggi-mlflow.onggi.svc.cluster.local", "localhost"):
        assert {name, f"{name}:*"} <= set(hosts)


def test_a_secret_that_opens_a_volume_stays_with_it() -> None:
    """Rendered as a cluster would: it serves the aggregation API, and the look-ups find nothing."""
    empty = ("secrets.existingSecret=", "store.postgresql.existingSecret=", "store.s3.existingSecret=")
    manifests = render("cpu", *empty, apis=("apiregistration.k8s.io/v1",))
    secrets = of_kind(manifests, "Secret")
    assert {secret["metadata"]["name"] for secret in secrets} == {
        "onggi-secrets", "onggi-store-postgresql", "onggi-store-s3"
    }  # fmt: skip
    for secret in secrets:
        assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    data = named(manifests, "Secret", "onggi-store-postgresql")["data"]
    database = {key: b64decode(value).decode() for key, value in data.items()}
    assert f":{database['POSTGRES_PASSWORD']}@onggi-store-postgresql:5432/onggi" in database["DATABASE_URL"]


def environ(container: Manifest) -> dict[str, str]:
    """A container's plain environment variables."""
    return {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}
