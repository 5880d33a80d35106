"""The node: containerd, kubelet and kube-proxy on this machine."""

import json
import resource
import shutil
from pathlib import Path

import yaml

from tests.cluster import network
from tests.cluster.checks import cni_folder
from tests.cluster.commands import kubectl, succeeds
from tests.cluster.control_plane import DOMAIN
from tests.cluster.daemons import Daemons
from tests.cluster.place import (
    DNS_ADDRESS,
    NODE,
    NODE_ADDRESS,
    POD_RANGE,
    REGISTRY,
    Place,
)

CONTAINERD = """\
version = 3
root = "{state}/containerd"
state = "{state}/run/containerd"

[grpc]
  address = "{socket}"

[debug]
  level = "warn"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  # Images with torch are large: what is unpacked needs no second copy of its layers.
  discard_unpacked_layers = true
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{pause}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{state}/registries"

[plugins."io.containerd.cri.v1.runtime"]
  # Where the machine itself may not lower its score, neither can a container.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{plugins}"]
    conf_dir = "{state}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        SystemdCgroup = false
    # What NVIDIA's toolkit would set up: charts name this handler in runtimeClassName.
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia.options]
        SystemdCgroup = false
"""


def containerd_up(place: Place, daemons: Daemons, pause: str) -> None:
    """Start containerd, whose pods hang on the bridge and whose registry is the local one."""
    for folder in ("run", "cni"):
        (place.state / folder).mkdir(parents=True, exist_ok=True)
    (place.state / "cni" / "10-onggi.conflist").write_text(network.plugins(place))
    hosts = place.state / "registries" / REGISTRY / "hosts.toml"
    hosts.parent.mkdir(parents=True, exist_ok=True)
    hosts.write_text(f'server = "http://{REGISTRY}"\n')
    config = place.state / "containerd.toml"
    config.write_text(
        CONTAINERD.format(state=place.state, socket=place.containerd, pause=pause, plugins=cni_folder())
    )
    daemons.run("containerd", str(place.bin / "containerd"), "--config", str(config))
    daemons.ready("containerd", lambda: succeeds([*ctr(place), "version"]))


def ctr(place: Place) -> list[str]:
    """The command that speaks to our containerd, in the namespace of kubelet's images."""
    return [str(place.bin / "ctr"), "--address", str(place.containerd), "--namespace", "k8s.io"]


def up(place: Place, daemons: Daemons) -> None:
    """Start kubelet and kube-proxy and return when the node is ready."""
    _make_cgroups(place)
    config = place.state / "kubelet.yaml"
    config.write_text(yaml.safe_dump(_kubelet(place)))
    daemons.run(
        "kubelet",
        str(place.bin / "kubelet"),
        f"--config={config}",
        f"--kubeconfig={place.pki / 'kubelet.conf'}",
        f"--root-dir={place.state / 'kubelet'}",
        f"--cert-dir={place.state / 'kubelet' / 'pki'}",
        f"--node-ip={NODE_ADDRESS}",
        f"--hostname-override={NODE}",
    )
    daemons.run(
        "kube-proxy",
        str(place.bin / "kube-proxy"),
        f"--kubeconfig={place.pki / 'kube-proxy.conf'}",
        f"--hostname-override={NODE}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={POD_RANGE}",
        f"--nodeport-addresses=127.0.0.0/8,{NODE_ADDRESS}/32",
        "--conntrack-max-per-core=0",
        "--oom-score-adj=0",
    )
    daemons.ready("kubelet", lambda: _ready(place), patience=120)


def _ready(place: Place) -> bool:
    nodes = json.loads(
        kubectl(place, "get", "nodes", "--field-selector", f"metadata.name={NODE}", "-o", "json")
    )
    conditions = [entry for node in nodes["items"] for entry in node["status"].get("conditions", [])]
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _kubelet(place: Place) -> dict[str, object]:
    """kubelet's settings; those that look odd are for machines without every privilege."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(place.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{place.cgroup}",
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": DOMAIN,
        "containerRuntimeEndpoint": f"unix://{place.containerd}",
        "enforceNodeAllocatable": [],
        # The machine's disk has other uses: nothing of it is this cluster's to clean up.
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        # An image that was loaded and also pulled, under another name, needs no registry for the first name.
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        "maxOpenFiles": min(1_000_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        "oomScoreAdj": 0,
        "podLogsDir": str(place.logs / "pods"),
        "resolvConf": str(network.resolver()),
        "serializeImagePulls": False,
    }


def _make_cgroups(place: Place) -> None:
    """A parent of all pods' cgroups in every hierarchy, by which `down` knows them."""
    for hierarchy in hierarchies():
        if (hierarchy / "cgroup.controllers").exists() and hierarchy.name != "unified":
            wanted = (hierarchy / "cgroup.controllers").read_text().split()
            (hierarchy / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
        (hierarchy / place.cgroup).mkdir(exist_ok=True)


def hierarchies() -> list[Path]:
    """The roots of the machine's cgroups: one with version 2, one for each controller with version 1."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(mount[1]) for mount in mounts if mount[2] in ("cgroup", "cgroup2")]


def registry_up(place: Place, daemons: Daemons, program: Path) -> None:
    """Start the registry that images are pushed to, on loopback alone."""
    config = place.state / "registry.yaml"
    content = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(place.state / "registry")},
            "delete": {"enabled": True},
        },
        "http": {"addr": REGISTRY},
    }
    config.write_text(yaml.safe_dump(content))
    daemons.run("registry", str(program), "serve", str(config))


def install(place: Place, kube: Path, containerd: Path) -> None:
    """Fill the folder of programs; `kube` goes by the name of each of its parts."""
    parts = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet",
             "kubeadm", "kubectl")  # fmt: skip
    shutil.rmtree(place.bin, ignore_errors=True)
    place.bin.mkdir(parents=True)
    for name in parts:
        (place.bin / name).symlink_to(kube)
    for name in ("containerd", "containerd-shim-runc-v2", "ctr"):
        (place.bin / name).symlink_to(containerd / name)
