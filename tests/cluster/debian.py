"""Programs out of Debian packages, unpacked beside the cache and not installed.

Installed, these packages would start a service of their own at boot, which nobody asked for.
"""

import shutil
import subprocess
from pathlib import Path

from common.errors import UserError
from tests.cluster.place import cluster_cache


def unpacked(package: str) -> Path:
    """The root folder of ``package``, from the cache or freshly downloaded.

    Raises:
        UserError: this is no Debian or Ubuntu, or the package cannot be had.
    """
    folder = cluster_cache() / f"deb-{package}"
    if folder.exists():
        return folder
    if not shutil.which("apt-get"):
        raise UserError(
            f"{package} comes from Debian's or Ubuntu's packages: run the cluster there, or with Docker"
        )
    partial = folder.with_suffix(".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _run(["apt-get", "download", "-qq", package], partial)
    (archive,) = partial.glob("*.deb")
    _run(["dpkg-deb", "-x", archive.name, "."], partial)
    archive.unlink()
    partial.rename(folder)
    return folder


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(
            f"`{' '.join(command)}` failed, run `apt-get update` and try again: {done.stderr.strip()[-500:]}"
        )
