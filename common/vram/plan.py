"""A plan: how many bytes of a card each part of some work takes, and what would fit instead."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from common.errors import TooBigError
from common.vram.cards import GIB, smallest_holding


def _no_ways(memory_bytes: int) -> list[str]:
    return []


@dataclass(frozen=True)
class Plan:
    """Bytes by part, of the memory that ``nvidia.com/gpu.memory`` states."""

    what: str
    """The work in words: ``QLoRA of Llama-3.1-8B-Instruct, rank 16, batch 1 x 1024 tokens``."""
    parts: Mapping[str, int]
    ways: Callable[[int], list[str]] = field(default=_no_ways, repr=False, compare=False)
    """What would fit a card of so many bytes, each a phrase that begins with the flags to give."""

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self.parts.values())

    @property
    def sentence(self) -> str:
        """``QLoRA of ... needs 15.1 GiB: base weights 5.3, adapter 0.8, ...``."""
        parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in self.parts.items())
        return f"{self.what} needs {gib(self.total)}: {parts}"

    def fits(self, memory_bytes: int) -> bool:
        """Whether a card with so much memory holds it."""
        return self.total <= memory_bytes

    def too_big(self, memory_bytes: int, place: str) -> TooBigError:
        """The error that says so, with the plan and what would fit."""
        return TooBigError(
            f"{self.sentence}; {place} has {gib(memory_bytes)}. Would fit: {self.way_out(memory_bytes)}"
        )

    def way_out(self, memory_bytes: int) -> str:
        """What would fit, as the end of a sentence."""
        ways = [*self.ways(memory_bytes), _bigger_card(self.total)]
        return "; or ".join(ways)


def gib(size: int) -> str:
    """``15.1 GiB``."""
    return f"{size / GIB:.1f} GiB"


def _bigger_card(total: int) -> str:
    size = smallest_holding(total)
    return f"a card with {size} GB" if size else "a smaller model, for no card that we know holds this"
