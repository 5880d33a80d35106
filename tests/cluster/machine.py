"""A cluster of this machine: its processes run beside the machine's own, its pods in containerd."""

from collections.abc import Iterable
from pathlib import Path

from tests.cluster import control_plane, debian, leftovers, network, node
from tests.cluster.archives import Image
from tests.cluster.checks import check_machine
from tests.cluster.commands import run
from tests.cluster.daemons import Daemons
from tests.cluster.modules import MODULES, build
from tests.cluster.place import Place


class Machine:
    """A `Base` for machines without Docker."""

    name = "machine"
    parts: tuple[str, ...] = ("dns", "storage")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.daemons = Daemons(place)

    def check(self) -> None:
        check_machine(self.place)

    def up(self) -> None:
        build(["kube", "containerd"])
        registry = debian.unpacked("docker-registry") / "usr/bin/docker-registry"
        self.place.base.write_text(self.name)
        kube = MODULES["kube"]
        pause = Image("pause", {"pause": kube.path("pause")})
        node.install(self.place, kube.path("kube"), MODULES["containerd"].folder())
        network.up(self.place)
        control_plane.certificates(self.place)
        node.containerd_up(self.place, self.daemons, pause.reference())
        node.registry_up(self.place, self.daemons, registry)
        self.load([pause])
        control_plane.up(self.place, self.daemons)
        node.up(self.place, self.daemons)

    def load(self, images: Iterable[Image]) -> None:
        there = run([*node.ctr(self.place), "images", "list", "--quiet"]).split()
        for image in images:
            if image.reference() not in there:
                run([*node.ctr(self.place), "images", "import", str(image.archive())])

    def write(self, path: str, content: str) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".part")
        partial.write_text(content)
        partial.rename(target)

    def down(self) -> None:
        # At once and before the pods: kubelet would start them again, and nothing is to be kept.
        for name in self.running():
            self.daemons.end(name)
        leftovers.end_pods(self.place)
        self.daemons.stop()
        leftovers.clear(self.place)
        leftovers.remove_state(self.place)

    def running(self) -> dict[str, bool]:
        return self.daemons.running()
