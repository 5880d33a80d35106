"""A stand-in for ``python:3.11-slim-bookworm`` where no registry is reachable: Debian's own Python.

It has what our Dockerfiles rely on: ``python3`` and ``python`` on PATH with ``venv`` and C headers, apt, and
certificates. The paths differ (/usr/bin instead of /usr/local/bin), so nothing of ours may name them.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from common.errors import UserError
from images.engine import Buildah

PACKAGES = "ca-certificates,netbase,tzdata,python3,python3-venv,python3-dev,python-is-python3"
SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
SETTINGS = (
    "--env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "--env=LANG=C.UTF-8",
    "--cmd=python3",
)
NAME = "stand-in-python"


def reference() -> str:
    """Its name by what it is made of."""
    recipe = repr((PACKAGES, SUITE, MIRROR, SETTINGS)).encode()
    return f"{NAME}:{hashlib.sha256(recipe).hexdigest()[:12]}"


def build(buildah: Buildah) -> str:
    """Make it unless it is there; its name."""
    name = reference()
    if not buildah.has(name):
        with buildah.alone(), tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            root = Path(folder) / "root"
            _debootstrap(root)
            _commit(buildah, root, name)
    return name


def _debootstrap(root: Path) -> None:
    if not shutil.which("debootstrap"):
        raise UserError("debootstrap is not here: sudo apt-get install debootstrap")
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), MIRROR]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        raise UserError(f"`{' '.join(command)}` failed: its messages are above")
    for left in ("var/cache/apt/archives", "var/lib/apt/lists"):
        for path in (root / left).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _commit(buildah: Buildah, root: Path, name: str) -> None:
    container = buildah.output("from", "scratch")
    buildah.run("add", "--quiet", container, str(root), "/")
    buildah.run("config", *SETTINGS, container)
    buildah.run("commit", "--quiet", "--rm", container, f"localhost/{name}")
