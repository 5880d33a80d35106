"""A cluster of Docker containers, by kind and the repository's kind-config.yaml."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from common.errors import UserError
from tests.cluster.archives import Image
from tests.cluster.commands import run, succeeds
from tests.cluster.place import NODE, REGISTRY, Place

CONFIG = Path(__file__).parents[2] / "kind-config.yaml"
CONTAINER = f"{NODE}-control-plane"
REGISTRY_CONTAINER = "onggi-registry"
REGISTRY_IMAGE = "registry:3"


def docker_runs() -> bool:
    """Whether there is a Docker daemon to talk to."""
    return bool(shutil.which("docker")) and succeeds(["docker", "info"])


class Kind:
    """A `Base` for machines with Docker."""

    name = "kind"
    parts: tuple[str, ...] = ()

    def __init__(self, place: Place) -> None:
        self.place = place

    def check(self) -> None:
        for program in ("kind", "kubectl"):
            if not shutil.which(program):
                raise UserError(f"Docker runs, so kind is the cluster, and {program} is missing: install it")

    def up(self) -> None:
        self.place.bin.mkdir(parents=True, exist_ok=True)
        self.place.base.write_text(self.name)
        kubectl = self.place.bin / "kubectl"
        kubectl.unlink(missing_ok=True)
        kubectl.symlink_to(str(shutil.which("kubectl")))
        if NODE not in run(["kind", "get", "clusters"]).split():
            run(["kind", "create", "cluster", "--config", str(CONFIG), "--wait", "120s",
                 "--kubeconfig", str(self.place.kubeconfig)])  # fmt: skip
        self._registry()

    def load(self, images: Iterable[Image]) -> None:
        for image in images:
            run(["kind", "load", "image-archive", str(image.archive()), "--name", NODE])

    def write(self, path: str, content: str) -> None:
        # The rename makes the change whole for a reader that looks in between.
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1.part" && mv "$1.part" "$1"'
        run(["docker", "exec", "-i", CONTAINER, "sh", "-c", script, "sh", path], text=content)

    def down(self) -> None:
        if self.place.base.exists():
            self.place.logs.mkdir(parents=True, exist_ok=True)
            subprocess.run(["kind", "export", "logs", str(self.place.logs), "--name", NODE], check=False)
        run(["kind", "delete", "cluster", "--name", NODE, "--kubeconfig", str(self.place.kubeconfig)])
        run(["docker", "rm", "--force", "--volumes", REGISTRY_CONTAINER])
        for path in (self.place.kubeconfig, self.place.base):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.place.bin, ignore_errors=True)

    def running(self) -> dict[str, bool]:
        alive = run(["docker", "ps", "--format", "{{.Names}}"]).split()
        return {name: name in alive for name in (CONTAINER, REGISTRY_CONTAINER)}

    def _registry(self) -> None:
        """The registry, under the same name for this machine and for the node (kind's own recipe)."""
        if not succeeds(["docker", "start", REGISTRY_CONTAINER]):
            run(["docker", "run", "--detach", "--restart=always", "--network", "kind",
                 "--name", REGISTRY_CONTAINER, "--publish", f"{REGISTRY}:5000", REGISTRY_IMAGE])  # fmt: skip
        self.write(
            f"/etc/containerd/certs.d/{REGISTRY}/hosts.toml", f'[host."http://{REGISTRY_CONTAINER}:5000"]\n'
        )
