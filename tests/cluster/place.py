"""Where the cluster keeps itself, and the names and addresses it goes by."""

import os
from dataclasses import dataclass
from pathlib import Path

from services.local.bootstrap import cache

NODE = "onggi"
KUBERNETES = "v1.36.3"
BRIDGE = "onggi0"
# The bridge's own address is the node's, so that nothing of the cluster listens on the machine's network.
NODE_ADDRESS = "10.244.0.1"
POD_RANGE = "10.244.0.0/24"
SERVICE_RANGE = "10.96.0.0/16"
DNS_ADDRESS = "10.96.0.10"
API_PORT = 6443
REGISTRY = "127.0.0.1:5000"
HTTP_PORT, HTTPS_PORT = 30080, 30443  # the ingress controller's, on 127.0.0.1


@dataclass(frozen=True)
class Place:
    """One state folder: whatever the cluster writes lies below it, logs included."""

    state: Path

    @property
    def bin(self) -> Path:
        """The cluster's programs, kubectl among them."""
        return self.state / "bin"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.state / "kubeconfig"

    @property
    def pki(self) -> Path:
        """Certificates and kubeconfigs of the components."""
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        """One file a process, a folder for pods'; they outlive the cluster."""
        return self.state / "logs"

    @property
    def containerd(self) -> Path:
        """containerd's socket."""
        return self.state / "run" / "containerd.sock"

    @property
    def cgroup(self) -> str:
        """The parent of all pods' cgroups, by which they are known to be this cluster's."""
        return f"onggi-{self.state.name.removeprefix('onggi-')}"

    @property
    def base(self) -> Path:
        """Says what the running cluster was made of, and that there is one."""
        return self.state / "base"


def place() -> Place:
    """The folder that ONGGI_CLUSTER_STATE names, else the usual one."""
    usual = "/var/lib/onggi-cluster" if os.geteuid() == 0 else Path.home() / ".local/state/onggi-cluster"
    return Place(Path(os.environ.get("ONGGI_CLUSTER_STATE") or usual).absolute())


def cluster_cache() -> Path:
    """Binaries and image archives, each under its content; removing it costs only time."""
    return cache() / "cluster"
