"""Take away what pods leave on a machine, whether or not the processes that made it still live."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from common.errors import UserError
from tests.cluster import network
from tests.cluster.commands import run, until
from tests.cluster.node import hierarchies
from tests.cluster.place import Place

# kube-proxy's and kubelet's chains, and those of the CNI plugins bridge and portmap.
CHAIN = re.compile(r"(KUBE-[A-Z0-9-]+|CNI-(HOSTPORT-[A-Z]+|DN-[0-9a-f]+|[0-9a-f]{24}))$")
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")  # kubelet knows no other place for them
CONTAINER_LOGS = Path("/var/log/containers")  # nor for its links to containers' logs


def end_pods(place: Place) -> None:
    """Kill the processes of all pods, and the shims that watch them."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        for pid in _pod_processes(place):
            _kill(pid, signal_number)
        deadline = time.monotonic() + 3
        while _pod_processes(place) and time.monotonic() < deadline:
            time.sleep(0.1)
    for pid in _shims(place):
        _kill(pid, signal.SIGKILL)


def clear(place: Place) -> None:
    """Undo mounts, cgroups, iptables chains, links and the bridge. The processes must be gone."""
    until(lambda: _unmount(place), 30, f"mounts below {place.state} stay busy")
    _remove_cgroups(place)
    for table in ("iptables", "ip6tables"):
        _remove_chains(table)
    network.down(place)
    for link in CONTAINER_LOGS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(place.logs):
            link.unlink()
    for name in ("kubelet.sock", "kubelet_internal_checkpoint", "onggi-gpu.sock"):
        (DEVICE_PLUGINS / name).unlink(missing_ok=True)
    for folder in (CONTAINER_LOGS, DEVICE_PLUGINS, DEVICE_PLUGINS.parent):
        with contextlib.suppress(OSError):  # not empty: somebody else's is in it
            folder.rmdir()


def remove_state(place: Place) -> None:
    """Remove all that the cluster wrote, volumes and pushed images included, except for its logs.

    Raises:
        UserError: something is still mounted there, which must not be followed.
    """
    if _mounts(place):
        raise UserError(
            f"something is still mounted below {place.state}: `mount | grep {place.state}` shows it"
        )
    for path in place.state.iterdir() if place.state.exists() else ():
        if path == place.logs:
            continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def without_chains(saved: str) -> str:
    """What ``iptables-save`` printed, without a cluster's chains and every rule that names one."""
    kept = []
    for line in saved.splitlines():
        words = line.lstrip(":").split()
        if not any(CHAIN.fullmatch(word) for word in words):
            kept.append(line)
    return "\n".join(kept) + "\n"


def _remove_chains(table: str) -> None:
    if not shutil.which(f"{table}-save"):
        return
    done = subprocess.run([f"{table}-save"], capture_output=True, text=True, check=False)
    kept = without_chains(done.stdout)
    if not done.returncode and kept.splitlines() != done.stdout.splitlines():
        run([f"{table}-restore", "-w"], text=kept)


def _pod_processes(place: Place) -> set[int]:
    pids: set[int] = set()
    for hierarchy in hierarchies():
        for procs in (hierarchy / place.cgroup).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                pids |= {int(line) for line in procs.read_text().split()}
    return pids


def _shims(place: Place) -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if Path(words[0]).name == "containerd-shim-runc-v2" and str(place.containerd) in words:
                found.add(int(path.parent.name))
    return found


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _mounts(place: Place) -> list[str]:
    """Mount points below the state folder, the innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    decoded = [Path(point.encode().decode("unicode_escape")) for point in points]
    return [str(point) for point in reversed(decoded) if place.state in point.parents]


def _unmount(place: Place) -> bool:
    for point in _mounts(place):
        subprocess.run(["umount", point], capture_output=True, check=False)
    return not _mounts(place)


def _remove_cgroups(place: Place) -> None:
    for hierarchy in hierarchies():
        folders = [path for path in (hierarchy / place.cgroup).rglob("*") if path.is_dir()]
        for folder in [*sorted(folders, reverse=True), hierarchy / place.cgroup]:
            with contextlib.suppress(OSError):
                folder.rmdir()
