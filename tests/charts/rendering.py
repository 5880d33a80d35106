"""The chart rendered by helm, once for each set of arguments."""

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.charts import helm

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "onggi"
PROFILES = ("rtx5090", "rtx5060ti", "both", "cpu", "only-mlflow", "only-serving", "front")
RELEASE = NAMESPACE = "onggi"

# What a cluster with everything installed serves besides Kubernetes' own.
MONITORS = "monitoring.coreos.com/v1"
HTTP_ROUTES = "gateway.networking.k8s.io/v1"
CUSTOM_METRICS = "custom.metrics.k8s.io/v1beta2"
KEDA = "keda.sh/v1alpha1"

Loader = yaml.CSafeLoader  # ten times as fast

Manifest = dict[str, Any]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What helm says to ``arguments``."""
    return subprocess.run([helm.binary(), *arguments], cwd=ROOT, check=False, capture_output=True, text=True)


def template(profile: str, *values: str, ci: bool = True, apis: tuple[str, ...] = ()) -> list[str]:
    """Arguments that render ``profile`` with ``values`` (``key=value``), with or without values/ci.yaml."""
    files = [profile, "ci"] if ci else [profile]
    return [
        *("template", RELEASE, str(CHART), "--namespace", NAMESPACE),
        *(part for name in files for part in ("--values", str(CHART / "values" / f"{name}.yaml"))),
        *(part for value in values for part in ("--set", value)),
        *(part for api in apis for part in ("--api-versions", api)),
    ]


@cache
def render(profile: str, *values: str, apis: tuple[str, ...] = ()) -> tuple[Manifest, ...]:
    """The manifests of ``profile`` with ``values``."""
    ran = run(*template(profile, *values, apis=apis))
    assert ran.returncode == 0, ran.stderr
    return tuple(manifest for manifest in yaml.load_all(ran.stdout, Loader=Loader) if manifest)


def refused(profile: str, *values: str, ci: bool = True) -> str:
    """The sentence with which helm refuses ``profile`` with ``values``."""
    ran = run(*template(profile, *values, ci=ci))
    assert ran.returncode != 0, "it was rendered"
    return ran.stderr


def of_kind(manifests: tuple[Manifest, ...], *kinds: str) -> list[Manifest]:
    """The manifests of some kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    """The one manifest of that kind and name."""
    (found,) = (manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == name)
    return found


def pod_templates(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest]]:
    """Every pod that comes of the manifests, also of control's Jobs: its name and its template."""
    for manifest in manifests:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["kind"] == "Pod":
            yield name, manifest
        elif manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield name, manifest["spec"]["template"]
        elif manifest["kind"] == "CronJob":
            yield name, manifest["spec"]["jobTemplate"]["spec"]["template"]
        elif manifest["kind"] == "ConfigMap" and manifest["metadata"]["name"].endswith("-jobs"):
            for key, text in manifest["data"].items():
                jobs = [job for job in yaml.load_all(text, Loader=Loader) if job and job["kind"] == "Job"]
                yield from ((f"{name} {key}", job["spec"]["template"]) for job in jobs)


def containers(template: Manifest) -> list[Manifest]:
    """A pod's containers, those that prepare it first."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def environ(container: Manifest) -> dict[str, str]:
    """A container's plain environment variables."""
    return {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}


# A profile with all that is off by default or depends on the cluster.
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


def everything() -> tuple[Manifest, ...]:
    """The manifests with everything switched on, on a cluster that has everything."""
    return render(*EVERYTHING, apis=APIS)
