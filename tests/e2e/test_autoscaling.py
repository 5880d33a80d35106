"""Load raises the replicas of gateway and vLLM by what they measure themselves; its end lowers them."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.cluster import change
from tests.e2e.conftest import BASE, NAMESPACE, ROOT, Onggi
from tests.e2e.kube import Kube, until
from tests.e2e.load import Load

pytestmark = pytest.mark.full
MONITORED = {"onggi-gateway", "onggi-control", "onggi-ui", "onggi-vllm"}
# Low enough for two cores: two requests at a time a pod, and what waits beyond two asks for another.
AUTOSCALING = {
    "monitoring__interval": "5s",
    "gateway__autoscaling__enabled": "true",
    "gateway__autoscaling__minReplicas": "1",
    "gateway__autoscaling__maxReplicas": "2",
    "gateway__autoscaling__cpuPercent": "1000",
    "gateway__autoscaling__requestsInFlight": "4",
    "gateway__autoscaling__scaleDownSeconds": "30",
    "vllm__servers__main__flags": "{--max-num-seqs=2}",
    "vllm__servers__main__autoscaling__enabled": "true",
    "vllm__servers__main__autoscaling__queueDepth": "2",
    "vllm__servers__main__autoscaling__scaleDownSeconds": "30",
}
PEOPLE = 8


@pytest.fixture(scope="module")
def monitoring(kube: Kube) -> Kube:
    """Prometheus, and prometheus-adapter with the rules that charts/observability ships."""
    change("add", "monitoring")
    values = yaml.safe_load((ROOT / "charts" / "observability" / "values.yaml").read_text())
    rules = {"rules": values["prometheus-adapter"]["rules"]["custom"]}
    there = replace(kube, namespace="monitoring")
    there.apply({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "adapter-config", "namespace": there.namespace},
        "data": {"config.yaml": yaml.safe_dump(rules)},
    })  # fmt: skip
    adapter = "deployment/prometheus-adapter"
    there.kubectl("rollout", "restart", adapter)
    there.kubectl("rollout", "status", adapter, "--timeout=120s", timeout=130)
    return there


@pytest.fixture(scope="module")
def scaled(onggi: Onggi, monitoring: Kube) -> Iterator[Onggi]:
    """The release with both autoscalers, and without them afterwards."""
    onggi.upgrade(**AUTOSCALING)
    yield onggi
    onggi.upgrade()


def test_prometheus_scrapes_every_component_that_has_metrics(scaled: Onggi, monitoring: Kube) -> None:
    address = monitoring.service("prometheus", 9090)

    def scraped() -> set[str]:
        found = httpx.get(
            f"{address}/api/v1/query",
            params={"query": f'up{{namespace="{NAMESPACE}"}} == 1'},
            timeout=10,
        )
        return {one["metric"]["job"].removeprefix(f"{NAMESPACE}/") for one in found.json()["data"]["result"]}

    until(lambda: scraped() >= MONITORED, 120, f"{sorted(MONITORED)} scraped")


def test_load_raises_the_replicas_and_its_end_lowers_them_without_a_failed_request(scaled: Onggi) -> None:
    until(lambda: all(current(scaled, name) for name in ("gateway", "vllm-main")), 180, "both metrics")
    with Load(scaled.url("gateway"), scaled.owner_key, BASE, people=1) as lasting:
        with Load(scaled.url("gateway"), scaled.owner_key, BASE, people=PEOPLE, max_tokens=96) as load:
            until(lambda: replicas(scaled, "gateway") == 2, 240, "a second gateway")
            until(lambda: replicas(scaled, "vllm-main") == 2, 240, "a second vLLM")
            scaled.vllm_pods(2)
        until(lambda: replicas(scaled, "gateway") == 1, 300, "one gateway again")
        until(lambda: replicas(scaled, "vllm-main") == 1, 300, "one vLLM again")
        scaled.vllm_pods(1)
    assert not load.failed + lasting.failed, (load.failed + lasting.failed)[:5]


def autoscaler(onggi: Onggi, name: str) -> dict[str, Any]:
    return dict(onggi.kube.get("hpa", f"onggi-{name}")["status"])


def replicas(onggi: Onggi, name: str) -> int:
    return int(autoscaler(onggi, name)["desiredReplicas"])


def current(onggi: Onggi, name: str) -> bool:
    """Whether an autoscaler has read its Pods metric."""
    return "pods" in json.dumps(autoscaler(onggi, name).get("currentMetrics", []))
