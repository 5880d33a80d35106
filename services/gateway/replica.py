"""One model server process that requests can be sent to, and what is known of it."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from services.gateway.breaker import Breaker
from services.gateway.endable import Endable

Model = dict[str, Any]
# ``new``: not heard from yet. ``draining``: it says itself that it takes nothing. ``silent``: it accepts
# connections and does not answer. Whether connecting fails is the breaker's business.
Health = Literal["new", "well", "draining", "silent"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request needs of a replica.

    ``model`` is the name to ask for: ``base`` itself, or an adapter of it. ``key`` is the conversation's.
    """

    model: str
    base: str
    key: str

    @property
    def is_adapter(self) -> bool:
        """Whether an adapter must be loaded for it."""
        return self.model != self.base


@dataclass(frozen=True, slots=True)
class Refusal:
    """That an adapter could not be loaded, why, and when (monotonic) to try again after which pause."""

    reason: str
    again_at: float
    pause: float


class Replica:
    """``name`` is its address, or the endpoint's host where that is not taken apart.

    ``in_flight`` counts this gateway's requests there. ``models`` are the base models that it lists, None
    while it was never asked. ``warm`` are the adapters that answered there, ``refused`` those that did not.
    ``waiting`` are the requests that have had no byte of an answer.
    """

    __slots__ = (
        "_seed",
        "base_url",
        "breaker",
        "headers",
        "health",
        "in_flight",
        "is_listed",
        "models",
        "name",
        "refused",
        "takes_any",
        "waiting",
        "warm",
    )

    def __init__(
        self, name: str, base_url: str, headers: dict[str, str] | None = None, *, takes_any: bool
    ) -> None:
        self.name = name
        self.base_url = base_url
        self.headers = headers or {}
        self.takes_any = takes_any  # the only one there is: what it serves is its own to say
        self.is_listed = True
        self.health: Health = "new"
        self.breaker = Breaker()
        self.in_flight = 0
        self.models: list[Model] | None = None
        self.warm: set[str] = set()
        self.refused: dict[str, Refusal] = {}
        self._seed = hashlib.blake2b(name.encode(), digest_size=16).digest()
        self.waiting = Endable()

    @property
    def bases(self) -> Iterable[str]:
        """The names of the base models that it serves."""
        return (str(model.get("id")) for model in self.models or ())

    @property
    def is_up(self) -> bool:
        """Whether requests may go there by all that is known."""
        return self.is_listed and self.health == "well" and not self.breaker.is_open

    def serves(self, base: str) -> bool:
        """Whether it has ``base``."""
        return self.takes_any or base in self.bases

    def rank(self, key: str) -> bytes:
        """Its place among the replicas for conversation ``key``, the same in every gateway.

        Rendezvous hashing, so that a replica that comes or goes moves only its own conversations:
        https://en.wikipedia.org/wiki/Rendezvous_hashing
        """
        return hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=8, key=self._seed).digest()

    def forget(self) -> None:
        """It is another process by now: nothing that was loaded is."""
        self.warm.clear()
        self.refused.clear()
