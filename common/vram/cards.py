"""Cards by the name that a node class has: their memory as the driver tells it, and what the driver keeps.

Memory is what ``nvidia-smi`` and the label ``nvidia.com/gpu.memory`` say, in MiB. torch sees less of it
(a 5090's 32,607 MiB are 31.34 to 31.39 GiB to torch, a 16 GB 5060 Ti's 16,311 are 15.45 to 15.49 GiB), so
plans count what the driver keeps as a part of their own.
"""

from dataclasses import dataclass

MIB = 1 << 20
GIB = 1 << 30

DRIVER_BYTES = 520 * MIB
"""Most of the difference above, over reports of out-of-memory errors on both cards."""

CONTEXT_BYTES = 600 * MIB
"""What a process has outside torch's allocator: CUDA context, kernels, cuBLAS. Such reports give 0.34 GiB on
a 5060 Ti and 0.55 to 0.60 GiB on a 5090."""


@dataclass(frozen=True)
class Card:
    """One kind of card."""

    name: str
    product: str
    """``nvidia.com/gpu.product``."""
    memory_mib: int

    @property
    def memory_bytes(self) -> int:
        """The label's memory in bytes."""
        return self.memory_mib * MIB


CARDS = tuple(
    Card(name, product, memory)
    for name, product, memory in (
        ("rtx5060ti-8gb", "NVIDIA-GeForce-RTX-5060-Ti", 8151),
        ("rtx5060ti-16gb", "NVIDIA-GeForce-RTX-5060-Ti", 16311),
        ("rtx5080", "NVIDIA-GeForce-RTX-5080", 16303),
        ("rtx3090", "NVIDIA-GeForce-RTX-3090", 24576),
        ("rtx4090", "NVIDIA-GeForce-RTX-4090", 24564),
        ("rtx5090", "NVIDIA-GeForce-RTX-5090", 32607),
        ("h100", "NVIDIA-H100-80GB-HBM3", 81559),
    )
)


def card(name: str) -> Card | None:
    """The card of that class name; None when it is not one of the known."""
    return next((known for known in CARDS if known.name == name), None)


def sold_as(memory_bytes: int) -> int:
    """The gigabytes a card is sold with: 16 for 16,311 MiB."""
    return round(memory_bytes / GIB)


def smallest_holding(total: int) -> int | None:
    """Gigabytes of the smallest known card that has ``total`` bytes; None when none has."""
    fitting = [known.memory_bytes for known in CARDS if known.memory_bytes >= total]
    return sold_as(min(fitting)) if fitting else None
