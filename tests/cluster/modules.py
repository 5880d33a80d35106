"""The cluster's programs, built from pinned Go modules and kept in the cache by content.

Each folder under ``go/`` is a module of its own: its ``go.mod`` names one upstream release and its ``go.sum``
holds the digest of every source that goes into it.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError
from tests.cluster.place import KUBERNETES, cluster_cache

SOURCES = Path(__file__).with_name("go")
NEEDED_GO = (1, 26)
NEEDED_DISK = 12 << 30  # bytes: sources and compiled packages of the largest while they are there
VERSION = "k8s.io/component-base/version"
MAJOR, MINOR, _ = KUBERNETES.removeprefix("v").split(".")


@dataclass(frozen=True)
class Module:
    """A Go module under ``go/``: programs by name, and folders of data that upstream ships beside them."""

    name: str
    programs: dict[str, str] = field(default_factory=dict)
    data: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (module, path in it)
    tags: str = ""
    variables: dict[str, str] = field(default_factory=dict)

    def folder(self) -> Path:
        """Where the built module lies: another source, definition or machine is another folder."""
        content = hashlib.sha256(f"{self!r} {platform.machine()}".encode())
        for file in sorted(path for path in (SOURCES / self.name).rglob("*") if path.is_file()):
            content.update(str(file.relative_to(SOURCES)).encode() + b"\0" + file.read_bytes())
        return cluster_cache() / f"{self.name}-{content.hexdigest()[:12]}"

    def path(self, name: str) -> Path:
        """A built program or data folder."""
        return self.folder() / name


MODULES = {
    module.name: module
    for module in (
        Module("helm", {"helm": "helm.sh/helm/v4/cmd/helm"}),
        Module(
            "kube",
            {"kube": "./cmd/kube", "gpu-plugin": "./cmd/gpu-plugin", "pause": "./cmd/pause"},
            variables={
                f"{VERSION}.gitVersion": KUBERNETES,
                f"{VERSION}.gitMajor": MAJOR,
                f"{VERSION}.gitMinor": MINOR,
            },
        ),
        Module(
            "containerd",
            {
                name: f"github.com/containerd/containerd/v2/cmd/{name}"
                for name in ("containerd", "containerd-shim-runc-v2", "ctr")
            },
            tags="no_btrfs,no_devmapper,no_zfs",
        ),
        Module("coredns", {"coredns": "github.com/coredns/coredns"}),
        Module("storage", {"local-path-provisioner": "github.com/rancher/local-path-provisioner"}),
        Module("metrics-server", {"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"}),
        Module(
            "kwok",
            {"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
            {
                "crds": ("sigs.k8s.io/kwok", "kustomize/crd/bases"),
                "nodes": ("sigs.k8s.io/kwok", "kustomize/stage/node/fast"),
                "heartbeats": ("sigs.k8s.io/kwok", "kustomize/stage/node/heartbeat-with-lease"),
                "pods": ("sigs.k8s.io/kwok", "kustomize/stage/pod/fast"),
            },
        ),
        Module(
            "prometheus-operator",
            {
                "prometheus-operator": "github.com/prometheus-operator/prometheus-operator/cmd/operator",
                "prometheus-config-reloader": (
                    "github.com/prometheus-operator/prometheus-operator/cmd/prometheus-config-reloader"
                ),
            },
            {
                "crds": (
                    "github.com/prometheus-operator/prometheus-operator",
                    "example/prometheus-operator-crd",
                )
            },
        ),
        Module(
            "prometheus",
            {"prometheus": "github.com/prometheus/prometheus/cmd/prometheus"},
            tags="remove_all_sd,enable_kubernetes_sd",
        ),
        Module("prometheus-adapter", {"prometheus-adapter": "sigs.k8s.io/prometheus-adapter/cmd/adapter"}),
        Module("kube-state-metrics", {"kube-state-metrics": "k8s.io/kube-state-metrics/v2"}),
        Module(
            "crds",
            data={
                "gateway-api": ("sigs.k8s.io/gateway-api", "config/crd/standard"),
                "keda": ("github.com/kedacore/keda/v2", "config/crd/bases"),
            },
        ),
    )
}


def build(names: Iterable[str]) -> None:
    """Build what the cache lacks of the modules ``names``; sources and compiled packages go afterwards.

    Raises:
        UserError: there is no Go, too little disk, or a build failed; the sentence holds its log.
    """
    missing = [MODULES[name] for name in names if not _built(MODULES[name])]
    if not missing:
        return
    check()
    cluster_cache().mkdir(parents=True, exist_ok=True)
    with (cluster_cache() / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for module in missing:
            if not _built(module):
                _build(module)
        shutil.rmtree(cluster_cache() / "go", ignore_errors=True)


def check() -> None:
    """Refuse to begin a build that cannot end."""
    found = re.search(r"go(\d+)\.(\d+)", _output(["go", "env", "GOVERSION"])) if shutil.which("go") else None
    if not found or (int(found[1]), int(found[2])) < NEEDED_GO:
        raise UserError(
            "the cluster's programs are built with Go 1.26 or newer, which is not on the PATH: "
            "install it from https://go.dev/dl/"
        )
    cluster_cache().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cluster_cache()).free
    if free < NEEDED_DISK:
        raise UserError(
            f"building the cluster's programs takes {NEEDED_DISK >> 30} GiB of disk for a while and "
            f"{cluster_cache()} has {free / 2**30:.1f} GiB free: free some, or set ONGGI_CACHE"
        )


def _built(module: Module) -> bool:
    return (module.folder() / ".complete").exists()


def _build(module: Module) -> None:
    _say(f"building {module.name}")
    started = time.monotonic()
    folder = module.folder()
    partial = folder.with_suffix(".part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, package in module.programs.items():
        _go(module, ["build", *_flags(module), "-o", str(partial / name), package])
    for name, (source, path) in module.data.items():
        _go(module, ["mod", "download", source])
        where = _go(module, ["list", "-m", "-f", "{{.Dir}}", source]).strip()
        shutil.copytree(Path(where, path), partial / name)
    (partial / ".complete").touch()
    partial.rename(folder)
    _say(f"built {module.name} in {time.monotonic() - started:.0f} s")


def _say(what: str) -> None:
    """Beside stdout, which is the caller's: `$(python -m tests.charts.helm)` is a path."""
    print(what, file=sys.stderr, flush=True)


def _flags(module: Module) -> list[str]:
    variables = " ".join(f"-X {name}={value}" for name, value in module.variables.items())
    return ["-trimpath", f"-ldflags=-s -w {variables}", f"-tags={module.tags}"]


def _go(module: Module, arguments: list[str]) -> str:
    environ = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOCACHE": str(cluster_cache() / "go" / "build"),
        "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false",
        "GOMODCACHE": str(cluster_cache() / "go" / "modules"),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    command = ["nice", "-n", "10", "go", *arguments]
    done = subprocess.run(
        command, cwd=SOURCES / module.name, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(
            f"{module.name} could not be built (tests/cluster/go/{module.name}): check the network and run "
            f"the same command again; Go said:\n{done.stderr[-2000:]}"
        )
    return done.stdout


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
