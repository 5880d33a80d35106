"""A fleet of nodes that only pretend (kwok): what the scheduler places on them runs nowhere."""

import json

from tests.cluster.base import Base
from tests.cluster.commands import kubectl
from tests.cluster.gpus import CARDS, Card, labels
from tests.cluster.place import Place

SELECTOR = "type=kwok"


def nodes() -> list[dict[str, object]]:
    """Two nodes of each class, and one in which a 5090 and a 5060 Ti sit together."""
    fleet = [_node(f"{name}-{letter}", card, 1) for name, card in CARDS.items() for letter in "ab"]
    # Feature discovery counts the cards of the one product that it labels; kubelet counts them all.
    return [*fleet, _node("mixed", CARDS["rtx5090"], 1, capacity=2)]


def up(place: Place, base: Base) -> None:
    """Register the fleet's nodes, or bring them up to date."""
    listed = {"apiVersion": "v1", "kind": "List", "items": nodes()}
    kubectl(place, "apply", "-f", "-", text=json.dumps(listed))


def down(place: Place) -> None:
    """Remove them, and the pods that they pretended to run."""
    kubectl(place, "delete", "nodes", "-l", SELECTOR, "--ignore-not-found")


def _node(name: str, card: Card, count: int, capacity: int | None = None) -> dict[str, object]:
    resources = {"cpu": "32", "memory": "128Gi", "pods": "110", "nvidia.com/gpu": str(capacity or count)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                "type": "kwok",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                **labels(card, count),
            },
        },
        # As GPU nodes usually are, which also keeps away what would really have to run.
        "spec": {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]},
        "status": {"allocatable": resources, "capacity": resources},
    }
