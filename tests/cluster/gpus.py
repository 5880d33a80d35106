"""Cards that the node claims to have, through kubelet's device-plugin API and feature discovery's labels."""

import json
from dataclasses import dataclass

from common.errors import UserError
from tests.cluster.base import Base
from tests.cluster.commands import kubectl
from tests.cluster.place import Place


@dataclass(frozen=True)
class Card:
    """A product as NVIDIA's GPU feature discovery labels it; ``memory`` in MiB, as nvidia-smi shows it."""

    product: str
    memory: int


CARDS = {
    "rtx5090": Card("NVIDIA-GeForce-RTX-5090", 32607),
    "rtx5060ti-16gb": Card("NVIDIA-GeForce-RTX-5060-Ti", 16311),
    "rtx5060ti-8gb": Card("NVIDIA-GeForce-RTX-5060-Ti", 8151),
}
USUAL = ("rtx5090", 1)


def labels(card: Card, count: int) -> dict[str, str]:
    """The labels of a node with ``count`` such cards (k8s-device-plugin, docs/gpu-feature-discovery)."""
    named = {
        "gpu.product": card.product,
        "gpu.memory": str(card.memory),
        "gpu.count": str(count),
        "gpu.replicas": "1",
        "gpu.family": "blackwell",
        "gpu.compute.major": "12",
        "gpu.compute.minor": "0",
        "gpu.mode": "graphics",
        "gpu.sharing-strategy": "none",
        "gpu.present": "true",
        "mig.capable": "false",
        "mps.capable": "false",
        "vgpu.present": "false",
        "cuda.driver-version.full": "580.95.05",
        "cuda.driver-version.major": "580",
        "cuda.driver-version.minor": "95",
        "cuda.driver-version.revision": "05",
        "cuda.runtime-version.full": "13.0",
        "cuda.runtime-version.major": "13",
        "cuda.runtime-version.minor": "0",
    }
    return {f"nvidia.com/{name}": value for name, value in named.items()}


def set_cards(place: Place, base: Base, card: str, count: int, ill: int = 0) -> None:
    """Let the node have ``count`` cards, the last ``ill`` of them unhealthy.

    Raises:
        UserError: there is no such card.
    """
    if card not in CARDS:
        raise UserError(f"there is no card {card}: choose of {', '.join(CARDS)}")
    health = {f"GPU-{index}": "Healthy" if index < count - ill else "Unhealthy" for index in range(count)}
    base.write(devices(place), json.dumps(health))
    wanted = [f"{name}={value}" for name, value in labels(CARDS[card], count).items()]
    kubectl(place, "label", "--overwrite", "node", node(place), *wanted)


def prepare(place: Place, base: Base) -> None:
    """One card before the plugin starts, unless somebody chose already."""
    known = kubectl(
        place, "get", "node", node(place), "-o", r"jsonpath={.metadata.labels.nvidia\.com/gpu\.count}"
    )
    if not known:
        set_cards(place, base, *USUAL)


def node(place: Place) -> str:
    """The name of the one node that really runs pods."""
    real = "type!=kwok"
    return kubectl(place, "get", "nodes", "-l", real, "-o", "jsonpath={.items[0].metadata.name}")


def devices(place: Place) -> str:
    """The file on the node that the plugin follows."""
    return str(place.state / "gpus" / "gpus.json")
