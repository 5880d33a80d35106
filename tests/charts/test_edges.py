"""Who may talk to whom, by the rendered policies: the design's edges, and no other."""

from itertools import product
from typing import Any

import pytest

from tests.charts.network_policy import Cluster, Pod
from tests.charts.rendering import NAMESPACE, Manifest, of_kind, pod_templates, render

# The address is the cluster's own; by default every one is open to control at the API's two usual ports.
API_SERVER = ("networkPolicy.apiServer.cidrs={10.0.0.10/32}", "networkPolicy.apiServer.ports={6443}")
NAMESPACES = {
    name: {"kubernetes.io/metadata.name": name}
    for name in (NAMESPACE, "ingress", "monitoring", "kube-system", "elsewhere")
}
OUTSIDERS = [
    Pod("ingress", "10.244.9.1", "ingress"),
    Pod("prometheus", "10.244.9.2", "monitoring"),
    Pod("dns", "10.244.9.3", "kube-system", {"k8s-app": "kube-dns"}),
    Pod("system", "10.244.9.4", "kube-system"),
    Pod("neighbour", "10.244.9.5", NAMESPACE, {"app": "neighbour"}),
    Pod("elsewhere", "10.244.9.6", "elsewhere", {"app.kubernetes.io/name": "onggi"}),
    Pod("api-server", "10.0.0.10"),
    Pod("hub", "198.51.100.7"),
]
OURS = {
    "gateway": [8080], "control": [8080], "ui": [7860, 9095], "vllm": [8000], "mlflow": [5050],
    "store-postgresql": [5432], "store-s3": [8333], "jobs": [29500],
}  # fmt: skip
PORTS = sorted({22, 80, 443, 6443, 8888, 9333, *(port for ports in OURS.values() for port in ports)})

# The design's page "Processes and who talks to whom", an edge a line.
EDGES = {
    ("ingress", "gateway", 8080), ("ingress", "control", 8080), ("ingress", "ui", 7860),
    ("ui", "gateway", 8080), ("ui", "control", 8080),
    ("gateway", "store-postgresql", 5432), ("gateway", "vllm", 8000),
    ("control", "store-postgresql", 5432), ("control", "store-s3", 8333), ("control", "mlflow", 5050),
    ("vllm", "store-s3", 8333),
    ("jobs", "store-s3", 8333), ("jobs", "mlflow", 5050), ("jobs", "vllm", 8000), ("jobs", "control", 8080),
    ("mlflow", "store-postgresql", 5432), ("mlflow", "store-s3", 8333),
    ("prometheus", "gateway", 8080), ("prometheus", "control", 8080), ("prometheus", "ui", 9095),
    ("prometheus", "vllm", 8000),
    # Addresses outside: the Kubernetes API for control, the hub for those that fetch models.
    ("control", "api-server", 6443), ("vllm", "hub", 443), ("jobs", "hub", 443),
    # Processes of one training Job take free ports.
    *(("jobs", "jobs", port) for port in PORTS),
}  # fmt: skip


def pods(manifests: tuple[Manifest, ...]) -> list[Pod]:
    """One pod of each component, by its rendered labels."""
    labels = {
        template["metadata"]["labels"]["app.kubernetes.io/component"]: template["metadata"]["labels"]
        for name, template in pod_templates(manifests)
        if not name.startswith("Pod ")
    }
    return [
        Pod(component, f"10.244.0.{number}", NAMESPACE, labels[component])
        for number, component in enumerate(labels, 1)
    ]


def policies(manifests: tuple[Manifest, ...]) -> tuple[dict[str, Any], ...]:
    """The policies that are always there, with the namespace that helm installs them in."""
    return tuple(
        policy | {"metadata": policy["metadata"] | {"namespace": NAMESPACE}}
        for policy in of_kind(manifests, "NetworkPolicy")
        if "helm.sh/hook" not in policy["metadata"].get("annotations", {})
    )


def edges(manifests: tuple[Manifest, ...]) -> set[tuple[str, str, int]]:
    """Every connection with one of our pods at an end that is allowed, but name look-ups."""
    cluster, ours = Cluster(policies(manifests), NAMESPACES), pods(manifests)
    pairs = [*product(ours, ours), *product(ours, OUTSIDERS), *product(OUTSIDERS, ours)]
    return {
        (source.name, target.name, port)
        for (source, target), port in product(pairs, PORTS)
        if cluster.allows(source, target, port)
    }


@pytest.mark.parametrize("profile", ["cpu", "both", "only-mlflow", "only-serving"])
def test_the_edges_are_exactly_the_designs(profile: str) -> None:
    manifests = render(profile, *API_SERVER)
    there = {pod.name for pod in (*pods(manifests), *OUTSIDERS)}
    expected = {edge for edge in EDGES if {edge[0], edge[1]} <= there}
    if "jobs" not in there:  # which is what control needs the Kubernetes API for
        expected -= {("control", "api-server", 6443)}
    assert edges(manifests) == expected


def test_where_the_api_servers_address_is_not_said_control_alone_may_ask_for_it_everywhere() -> None:
    opened = edges(render("cpu")) - edges(render("cpu", *API_SERVER))
    assert {(source, port) for source, _, port in opened} == {("control", 443), ("control", 6443)}


def test_in_front_of_an_endpoint_the_gateway_may_go_there() -> None:
    expected = {("gateway", outside, 443) for outside in ("api-server", "hub")}
    assert {edge for edge in edges(render("front")) if edge[1] in ("api-server", "hub")} == expected


def test_who_serves_what_is_trained_here_may_ask_mlflow_and_the_object_store() -> None:
    elsewhere = "networkPolicy.readers[0].namespaceLabels.kubernetes\\.io/metadata\\.name=elsewhere"
    opened = edges(render("cpu", elsewhere)) - edges(render("cpu"))
    assert opened == {("elsewhere", "mlflow", 5050), ("elsewhere", "store-s3", 8333)}


def test_what_is_trained_elsewhere_in_the_cluster_may_be_served_from_there() -> None:
    label = "namespaceLabels.kubernetes\\.io/metadata\\.name=elsewhere"
    way = (
        "store.s3.enabled=false", "store.s3.existingSecret=keys", "mlflow.url=http://mlflow.elsewhere.svc:5050",
        f"networkPolicy.external.mlflow.{label}", "networkPolicy.external.mlflow.ports={5050}",
        f"networkPolicy.external.s3.{label}", "networkPolicy.external.s3.ports={8333}",
    )  # fmt: skip
    opened = edges(render("only-serving", *API_SERVER, *way)) - edges(render("only-serving", *API_SERVER))
    assert opened == {
        ("control", "elsewhere", 5050), ("control", "elsewhere", 8333), ("vllm", "elsewhere", 8333),
    }  # fmt: skip


def test_everyone_may_look_names_up_and_nobody_may_ask_another_pod_there() -> None:
    manifests = render("cpu")
    cluster, dns, system = Cluster(policies(manifests), NAMESPACES), OUTSIDERS[2], OUTSIDERS[3]
    for pod, protocol in product(pods(manifests), ("UDP", "TCP")):
        assert cluster.allows(pod, dns, 53, protocol), pod.name
        assert not cluster.allows(pod, system, 53, protocol), pod.name


def test_traces_may_leave_where_they_are_on() -> None:
    collector = OUTSIDERS[1]
    for value, allowed in [("", False), ("http://tempo.monitoring:4318", True)]:
        manifests = render("cpu", f"global.tracing.endpoint={value}")
        cluster = Cluster(policies(manifests), NAMESPACES)
        assert {cluster.allows(pod, collector, 4318) for pod in pods(manifests)} == {allowed}


def test_a_pod_of_helm_test_reaches_the_gateway_and_mlflow_alone() -> None:
    manifests = render("cpu")
    every = tuple(
        policy | {"metadata": policy["metadata"] | {"namespace": NAMESPACE}}
        for policy in of_kind(manifests, "NetworkPolicy")
    )
    (labels,) = {tuple(pod["metadata"]["labels"].items()) for pod in of_kind(manifests, "Pod")}
    tester = Pod("test", "10.244.0.99", NAMESPACE, dict(labels))
    reached = {
        (pod.name, port)
        for pod, port in product(pods(manifests), PORTS)
        if Cluster(every, NAMESPACES).allows(tester, pod, port)
    }
    assert reached == {(name, port) for name in ("gateway", "mlflow") for port in PORTS}
