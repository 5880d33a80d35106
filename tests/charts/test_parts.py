"""What the parts of the chart are for: cards, scaling, paths, names and secrets."""

import json
import re
from base64 import b64decode
from typing import Any

import pytest

from services.control.bases import Base
from tests.charts.network_policy import selects
from tests.charts.rendering import environ, everything, named, of_kind, render


def test_monitors_scrape_ports_of_services_that_are_there() -> None:
    manifests = everything()
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


def test_disruption_budgets_are_there_from_two_replicas_on() -> None:
    def budgets(*arguments: str) -> set[str]:
        return {budget["metadata"]["name"] for budget in of_kind(render(*arguments), "PodDisruptionBudget")}

    assert budgets("cpu") == set()
    assert budgets("rtx5090") == {"onggi-gateway"}
    assert budgets("cpu", "vllm.servers.main.replicas=2") == {"onggi-vllm-main"}


def test_replicas_belong_to_the_autoscaler_where_there_is_one() -> None:
    manifests = everything()
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
    manifests = everything()
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
