"""What goes into a cluster: each part is a manifest, the images it runs and the CRDs it brings."""

import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from tests.cluster.base import Base
from tests.cluster.claim import claim_binds
from tests.cluster.commands import kubectl
from tests.cluster.modules import MODULES, build
from tests.cluster.part_images import image
from tests.cluster.place import DNS_ADDRESS, HTTP_PORT, HTTPS_PORT, NODE, Place

MANIFESTS = Path(__file__).with_name("manifests")


@dataclass(frozen=True)
class Part:
    """One thing a cluster can have."""

    name: str
    modules: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    data: tuple[tuple[str, str], ...] = ()  # folders of a module that are applied before the manifest
    manifest: bool = True
    waits: tuple[str, ...] = ()  # workloads, "namespace kind/name"
    available: tuple[str, ...] = ()  # objects with a condition Available, likewise
    works: Callable[[Place], None] | None = None  # tries what it is for


PARTS = {
    part.name: part
    for part in (
        Part("dns", ("coredns",), ("coredns",), waits=("kube-system deployment/coredns",)),
        Part(
            "storage",
            ("storage",),
            ("local-path-provisioner", "busybox"),
            waits=("local-path-storage deployment/local-path-provisioner",),
            works=claim_binds,
        ),
        Part(
            "metrics",
            ("metrics-server",),
            ("metrics-server",),
            waits=("kube-system deployment/metrics-server",),
            available=("kube-system apiservice/v1beta1.metrics.k8s.io",),
        ),
        Part("ingress", images=("traefik",), waits=("ingress deployment/traefik",)),
        Part("gpus", ("kube",), ("gpu-plugin",), waits=("kube-system daemonset/gpu-plugin",)),
        Part(
            "fleet",
            ("kwok",),
            ("kwok",),
            data=tuple(("kwok", name) for name in ("crds", "nodes", "heartbeats", "pods")),
            waits=("kube-system deployment/kwok",),
        ),
        Part("apis", ("crds",), data=(("crds", "gateway-api"), ("crds", "keda")), manifest=False),
        Part(
            "monitoring",
            ("prometheus-operator", "prometheus", "prometheus-adapter", "kube-state-metrics"),
            (
                "prometheus-operator",
                "prometheus-config-reloader",
                "prometheus-adapter",
                "kube-state-metrics",
                "prometheus",
            ),
            data=(("prometheus-operator", "crds"),),
            waits=(
                "monitoring deployment/prometheus-operator",
                "monitoring deployment/kube-state-metrics",
                "monitoring deployment/prometheus-adapter",
            ),
            available=(
                "monitoring prometheus/cluster",
                "monitoring apiservice/v1beta1.custom.metrics.k8s.io",
            ),
        ),
    )
}
USUAL = ("dns", "storage", "metrics", "ingress", "gpus")


def chosen(names: list[str], base: Base) -> list[Part]:
    """The parts called ``names`` that ``base`` does not bring itself; ``all`` is every one.

    Raises:
        UserError: there is no such part.
    """
    wanted = list(PARTS) if "all" in names else names
    for name in wanted:
        if name not in PARTS:
            raise UserError(f"there is no part {name}: choose of {', '.join(PARTS)} or all")
    own = {"dns", "storage"} - set(base.parts)
    return [PARTS[name] for name in wanted if name not in own]


def add(place: Place, base: Base, parts: list[Part]) -> None:
    """Put ``parts`` into the running cluster, or bring them up to date, and wait until they work."""
    build(dict.fromkeys(name for part in parts for name in part.modules))
    base.load([image(name) for name in dict.fromkeys(name for part in parts for name in part.images)])
    for part in parts:
        _apply(place, part)
    for part in parts:
        _wait(place, part)
        print(f"{part.name}: ready", flush=True)


def remove(place: Place, parts: list[Part]) -> None:
    """Take ``parts`` out again, their CRDs with everything of theirs."""
    for part in reversed(parts):
        if part.manifest:
            kubectl(place, "delete", "--ignore-not-found", "-f", "-", text=manifest(place, part))
        sources = [_source(MODULES[module].path(name)) for module, name in part.data]
        # The first has the kinds of the others: where it is gone, kubectl would not know what they are.
        if sources and kubectl(place, "get", "--ignore-not-found", "-o", "name", "-f", *sources[0]):
            for source in reversed(sources):
                kubectl(place, "delete", "--ignore-not-found", "-f", *source)


def manifest(place: Place, part: Part) -> str:
    """The part's manifest with images, addresses and folders filled in."""
    values = {f"image_{name.replace('-', '_')}": image(name).reference() for name in part.images}
    values |= {"dns": DNS_ADDRESS, "node": NODE, "state": str(place.state)}
    values |= {"http": str(HTTP_PORT), "https": str(HTTPS_PORT)}
    return string.Template((MANIFESTS / f"{part.name}.yaml").read_text()).substitute(values)


def _apply(place: Place, part: Part) -> None:
    # Server-side: some CRDs are larger than the annotation of a client-side apply may be.
    apply = ["apply", "--server-side", "--force-conflicts", "-f"]
    for module, name in part.data:
        kubectl(place, *apply, *_source(MODULES[module].path(name)))
        kubectl(place, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    if part.manifest:
        kubectl(place, *apply, "-", text=manifest(place, part))


def _source(folder: Path) -> list[str]:
    files = [str(path) for path in sorted(folder.glob("*.yaml")) if path.name != "kustomization.yaml"]
    return [",".join(files)]


def _wait(place: Place, part: Part) -> None:
    for workload in part.waits:
        namespace, name = workload.split()
        kubectl(place, "-n", namespace, "rollout", "status", name, "--timeout=180s")
    for object_ in part.available:
        namespace, name = object_.split()
        kubectl(place, "-n", namespace, "wait", "--for=condition=Available", name, "--timeout=120s")
    if part.works:
        part.works(place)
