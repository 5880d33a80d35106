"""The API server takes every profile without a warning, in a namespace that only takes restricted pods."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.charts import rendering
from tests.charts.rendering import CUSTOM_METRICS, HTTP_ROUTES, KEDA, MONITORS, PROFILES
from tests.e2e.conftest import ROOT
from tests.e2e.kube import Kube
from tests.e2e.namespaces import restricted

NAMESPACE = "onggi-dry-run"
SWITCHED_ON = (
    "ingress.enabled=true",
    "httpRoute.enabled=true",
    "httpRoute.parentRefs[0].name=gateway",
    "gateway.autoscaling.enabled=true",
)


@pytest.fixture(scope="module")
def dry(kube: Kube) -> Iterator[Kube]:
    """A namespace with enforce and warn at restricted."""
    with restricted(kube, NAMESPACE) as mine:
        yield mine


def listed(manifests: tuple[dict[str, Any], ...]) -> str:
    """The manifests as one List, in the namespace of this file; a test's pod is no hook here."""
    moved = []
    for manifest in copy.deepcopy(manifests):
        if "namespace" in manifest["metadata"]:
            manifest["metadata"]["namespace"] = NAMESPACE
        moved.append(manifest)
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": moved})


def dry_run(*more: str) -> list[str]:
    return ["apply", "--dry-run=server", "--warnings-as-errors", *more, "-f", "-"]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_taken_without_a_warning(dry: Kube, profile: str) -> None:
    values = SWITCHED_ON if profile not in ("only-mlflow", "only-serving") else ()
    apis = (HTTP_ROUTES, CUSTOM_METRICS, KEDA, MONITORS)
    manifests = rendering.render(profile, *values, apis=apis)
    served = set(dry.kubectl("api-versions").split())
    taken = tuple(one for one in manifests if one["apiVersion"] in served)
    assert {one["apiVersion"] for one in manifests} - served <= {MONITORS}, "a CRD is missing here"
    said = dry.kubectl(*dry_run(), text=listed(taken))
    assert said.count("(server dry run)") == len(taken)


def test_a_pod_that_is_not_restricted_is_refused(dry: Kube) -> None:
    planted = copy.deepcopy(rendering.named(rendering.render("cpu"), "Deployment", "onggi-gateway"))
    planted["spec"]["template"]["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    said = dry.refused("kubectl", *dry_run(), text=listed((planted,)))
    assert "allowPrivilegeEscalation" in said


@pytest.mark.parametrize("path", sorted((ROOT / "k8s" / "jobs").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_file_of_k8s_jobs_is_taken_without_a_warning(dry: Kube, path: Any) -> None:
    manifests = tuple(one for one in yaml.safe_load_all(path.read_text()) if one)
    dry.kubectl(*dry_run(), text=listed(manifests))
