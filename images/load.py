"""Put images into a cluster on this machine without a registry: kind, k3s, or a plain containerd."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from common.errors import UserError
from images.engine import Engine

KINDS = ("kind", "k3s", "containerd")


def find() -> str:
    """Which of the clusters is here.

    Raises:
        UserError: none.
    """
    if shutil.which("kind") and _kind_clusters():
        return "kind"
    if shutil.which("k3s"):
        return "k3s"
    if shutil.which("ctr"):
        return "containerd"
    raise UserError(
        "no cluster of this machine was found: install kind, k3s or ctr, set TO=kind|k3s|containerd, "
        "or use `make images-push REGISTRY=`"
    )


def load(engine: Engine, reference: str, kind: str) -> None:
    """Import ``reference``.

    ``KIND_CLUSTER`` names kind's cluster, ``CONTAINERD_ADDRESS`` containerd's socket.
    """
    with tempfile.TemporaryDirectory(dir=_large_folder()) as folder:
        archive = Path(folder) / "image.tar"
        engine.save(reference, archive)
        command = _import_command(kind, archive)
        if subprocess.run(command, check=False).returncode:
            raise UserError(f"`{' '.join(command)}` failed: its messages are above")


def _import_command(kind: str, archive: Path) -> list[str]:
    if kind == "kind":
        return [
            "kind",
            "load",
            "image-archive",
            str(archive),
            "--name",
            os.environ.get("KIND_CLUSTER", "kind"),
        ]
    tool = ["k3s", "ctr"] if kind == "k3s" else ["ctr"]
    return [*tool, "--namespace", "k8s.io", "images", "import", str(archive)]


def _kind_clusters() -> bool:
    done = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=False)
    return bool(done.stdout.strip())


def _large_folder() -> str:
    """Not the usual one: that is often in memory, and an image with torch has 6 GB."""
    return os.environ.get("TMPDIR", "/var/tmp")  # noqa: S108 - a folder of our own is made in it
