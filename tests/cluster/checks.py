"""What a machine must have to be a cluster's only node: one sentence for each thing that is missing."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

from common.errors import UserError
from tests.cluster.commands import succeeds
from tests.cluster.place import Place

PROGRAMS = {
    "conntrack": "conntrack",
    "ip": "iproute2",
    "iptables": "iptables",
    "mount": "mount",
    "runc": "runc",
}
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
CONTROLLERS = ("cpu", "memory", "pids")
CGROUPS = Path("/sys/fs/cgroup")
BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
NEEDED_DISK = 10 << 30  # bytes, without the images that people bring
PORTS = {2379: "etcd", 2380: "etcd", 5000: "the registry", 10248: "kubelet", 10249: "kube-proxy",
         10256: "kube-proxy", 10257: "kube-controller-manager", 10259: "kube-scheduler"}  # fmt: skip


def check_machine(place: Place) -> None:
    """Refuse what cannot work before anything is made.

    Raises:
        UserError: a sentence with the way out.
    """
    if os.geteuid() != 0:
        raise UserError("a cluster of this machine needs root: use sudo, or start Docker and kind is used")
    _check_programs()
    _check_cgroups()
    _check_network()
    _check_disk(place)
    if not place.base.exists():
        _check_nobody_else()


def cni_folder() -> Path:
    """Where the CNI plugins lie."""
    for folder in CNI_FOLDERS:
        if (folder / "bridge").exists():
            return folder
    raise UserError("the CNI plugins are missing: sudo apt-get install containernetworking-plugins")


def _check_programs() -> None:
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if missing:
        raise UserError(f"system packages are missing: sudo apt-get install {' '.join(missing)}")
    cni_folder()


def _check_cgroups() -> None:
    second = CGROUPS / "cgroup.controllers"
    found = second.read_text().split() if second.exists() else [path.name for path in CGROUPS.glob("*")]
    missing = [name for name in CONTROLLERS if name not in found]
    if missing:
        raise UserError(
            f"kubelet needs the cgroup controllers {', '.join(CONTROLLERS)} and {CGROUPS} lacks "
            f"{', '.join(missing)}: mount them, or run where the container has its host's cgroups"
        )
    if not os.access(CGROUPS / ("" if second.exists() else "memory"), os.W_OK):
        raise UserError(
            f"{CGROUPS} is read-only here: run where cgroups can be written (docker: --privileged)"
        )


def _check_network() -> None:
    if not BRIDGE_FILTER.exists() and not succeeds(["modprobe", "br_netfilter"]):
        raise UserError(
            "the kernel module br_netfilter is missing, without which Services do not answer pods"
        )
    if not succeeds(["iptables", "-w", "-t", "nat", "-S"]):
        raise UserError("iptables does not work here: it needs CAP_NET_ADMIN and the kernel's nf_tables")


def _check_disk(place: Place) -> None:
    place.state.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place.state).free
    if free < NEEDED_DISK:
        raise UserError(
            f"the cluster needs {NEEDED_DISK >> 30} GiB of disk and {place.state} has {free / 2**30:.1f} GiB "
            "free: free some, or set ONGGI_CLUSTER_STATE to a folder on a larger disk"
        )
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(place.state)], capture_output=True, text=True, check=False
    ).stdout.strip()
    if kind == "overlayfs":
        raise UserError(
            f"{place.state} is on an overlay file system, on which containers' own cannot lie: "
            "set ONGGI_CLUSTER_STATE to a folder on a volume"
        )


def _check_nobody_else() -> None:
    rules = subprocess.run(
        ["iptables", "-w", "-t", "nat", "-S"], capture_output=True, text=True, check=False
    ).stdout
    if "KUBE-SERVICES" in rules:
        raise UserError(
            "another Kubernetes has rules in this machine's iptables (chain KUBE-SERVICES), and two would "
            "break each other: stop that one; if it is long gone, `python -m tests.cluster down --leftovers`"
        )
    for port, owner in PORTS.items():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise UserError(f"port {port} of 127.0.0.1, for {owner}, is taken: stop what listens there")
