"""The two tools that build images: Docker where its daemon answers, else buildah."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from common.errors import UserError
from images.catalog import Build

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_ANSWERS_SECONDS = 10


class Engine(Protocol):
    """What is asked of a tool; references are ``name:tag`` in its own store."""

    def has(self, reference: str) -> bool:
        """Whether the store holds ``reference``."""

    def build(self, build: Build) -> None:
        """Make ``build.reference``."""

    def tag(self, reference: str, other: str) -> None:
        """Give an image another name besides."""

    def tags(self, name: str) -> list[str]:
        """The tags of image ``name`` in the store, newest image first."""

    def remove(self, reference: str) -> None:
        """Take a name away, and what nothing else stands on."""

    def push(self, reference: str, address: str) -> None:
        """Send an image to ``address``, ``registry/name:tag``."""

    def save(self, reference: str, archive: Path) -> None:
        """Write an image to a Docker archive, under the name by which a cluster looks for it."""


def find() -> Engine:
    """The tool of this machine.

    Raises:
        UserError: there is none.
    """
    if shutil.which("docker") and _answers():
        return Docker()
    if shutil.which("buildah"):
        return Buildah(storage())
    raise UserError(
        "images are built by Docker or buildah and neither is here: start Docker, "
        "or `sudo apt-get install buildah`"
    )


def storage() -> Path:
    """Where buildah keeps images and layers, so that every clone of the repository finds them again."""
    cache = os.environ.get("ONGGI_CACHE") or Path.home() / ".cache" / "onggi"
    return Path(cache) / "cluster" / "images"


class Docker:
    """Docker with BuildKit."""

    def has(self, reference: str) -> bool:
        """Whether the daemon has ``reference``."""
        return _succeeds(["docker", "image", "inspect", reference])

    def build(self, build: Build) -> None:
        """``docker build``: BuildKit on the daemon's own builder, which sees the parents just built.

        ``docker buildx build`` would take whichever builder is selected, and most others do not.
        """
        _run(["docker", "build", *_options(build)], {**os.environ, "DOCKER_BUILDKIT": "1"})

    def tag(self, reference: str, other: str) -> None:
        """``docker tag``."""
        _run(["docker", "tag", reference, other])

    def tags(self, name: str) -> list[str]:
        """``docker image ls``, which lists the newest first."""
        return _output(["docker", "image", "ls", "--format={{.Tag}}", name]).split()

    def remove(self, reference: str) -> None:
        """``docker image rm``."""
        _run(["docker", "image", "rm", reference])

    def push(self, reference: str, address: str) -> None:
        """``docker push``, under the registry's name."""
        self.tag(reference, address)
        _run(["docker", "push", address])

    def save(self, reference: str, archive: Path) -> None:
        """``docker save``."""
        _run(["docker", "save", "--output", str(archive), reference])


class Buildah:
    """buildah without a daemon: no container runtime needed, layers and downloads in our cache."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # containers/storage counts its mounts in here, and they do not outlive a boot.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._run_root = folder / f"run-{boot}"
        self._temporary = folder / "tmp"

    def has(self, reference: str) -> bool:
        """Whether our store holds ``reference``."""
        return _succeeds(self._command("inspect", "--type=image", _local(reference)), self._environ())

    def build(self, build: Build) -> None:
        """``buildah bud`` with its own isolation and this machine's certificates."""
        certificates = [f"--volume={CERTIFICATES}:{CERTIFICATES}:ro"] if CERTIFICATES.exists() else []
        with self.alone():
            self._share_downloads()
            self.run("bud", "--isolation=chroot", "--layers", "--pull=false", *certificates, *_options(build))
            # Stages are of no use once their image is there: it keeps the layers that it stands on.
            self.output("rmi", "--prune")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One build at a time on this store, after what an interrupted one left, which may be gigabytes."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for container in self.output("containers", "--quiet").split():
                self.output("rm", container)
            yield

    def tag(self, reference: str, other: str) -> None:
        """``buildah tag``."""
        self.run("tag", _local(reference), _local(other))

    def tags(self, name: str) -> list[str]:
        """``buildah images``, which lists the newest first."""
        return self.output("images", "--format={{.Tag}}", f"--filter=reference=localhost/{name}").split()

    def remove(self, reference: str) -> None:
        """``buildah rmi``."""
        self.run("rmi", _local(reference))

    def push(self, reference: str, address: str) -> None:
        """``buildah push`` with zstd, which is the fastest to pack and to unpack."""
        plain = ["--tls-verify=false"] if address.startswith(("127.0.0.1", "localhost")) else []
        zstd = ["--compression-format=zstd", "--format=oci"]
        self.run("push", "--quiet", *zstd, *plain, _local(reference), f"docker://{address}")

    def save(self, reference: str, archive: Path) -> None:
        """``buildah push docker-archive:``, under the name that a short reference stands for."""
        self.run(
            "push", "--quiet", _local(reference), f"docker-archive:{archive}:docker.io/library/{reference}"
        )

    def run(self, *arguments: str) -> None:
        """Run one command of buildah on our store."""
        _run(self._command(*arguments), self._environ())

    def output(self, *arguments: str) -> str:
        """What one command of buildah on our store prints."""
        return _output(self._command(*arguments), self._environ())

    def _command(self, *arguments: str) -> list[str]:
        where = [f"--root={self._folder / 'root'}", f"--runroot={self._run_root}", "--storage-driver=overlay"]
        return ["buildah", *where, *arguments]

    def _environ(self) -> dict[str, str]:
        self._temporary.mkdir(parents=True, exist_ok=True)
        # Without a runtime folder of its own buildah would write to /run.
        return {**os.environ, "TMPDIR": str(self._temporary)}

    def _share_downloads(self) -> None:
        """Let the builds' cache mount be the cache that uv fills for our environments."""
        downloads = self._folder.parents[1] / "uv"
        downloads.mkdir(parents=True, exist_ok=True)
        for kept in ("buildah-cache", f"buildah-cache-{os.getuid()}"):  # before and since buildah 1.29
            mount = self._temporary / kept / "onggi-uv"
            mount.parent.mkdir(parents=True, exist_ok=True)
            if not mount.is_symlink():
                mount.symlink_to(downloads)


def _options(build: Build) -> list[str]:
    arguments = [f"--build-arg={key}={value}" for key, value in build.arguments.items()]
    target = [f"--target={build.target}"] if build.target else []
    return [
        *(f"--tag={build.reference}", f"--file={build.dockerfile}"),
        *arguments,
        *target,
        str(build.context),
    ]


def _local(reference: str) -> str:
    return reference if "/" in reference else f"localhost/{reference}"


def _answers() -> bool:
    try:
        return _succeeds(["docker", "info"], seconds=_ANSWERS_SECONDS)
    except subprocess.TimeoutExpired:
        return False


def _succeeds(
    command: Sequence[str], environ: dict[str, str] | None = None, seconds: float | None = None
) -> bool:
    quiet = subprocess.DEVNULL
    done = subprocess.run(command, env=environ, stdout=quiet, stderr=quiet, timeout=seconds, check=False)
    return done.returncode == 0


def _output(command: Sequence[str], environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"`{' '.join(command)}` failed: its messages are above")
    return done.stdout.strip()


def _run(command: Sequence[str], environ: dict[str, str] | None = None) -> None:
    # A tool's progress is no result: whoever prints one keeps stdout for it.
    if subprocess.run(command, env=environ, stdout=sys.stderr, check=False).returncode:
        raise UserError(f"`{' '.join(command)}` failed: its messages are above")
