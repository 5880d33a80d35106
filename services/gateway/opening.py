"""When a change of what is served takes effect here: not before its version can answer."""

from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from datetime import datetime

from services.gateway.conversation import is_candidate
from services.gateway.warmup import State


@dataclass(frozen=True)
class ServedBot:
    """A bot's row; with ``shadow`` the candidate answers unseen, and gets no share."""

    name: str
    base: str
    champion: int | None
    candidate: int | None
    share: float
    created_at: datetime
    previous: int | None = None
    shadow: bool = False

    def draw(self, key: str) -> int | None:
        """The version that conversation ``key`` gets; None while the base answers."""
        tried = self.candidate is not None and not self.shadow
        if tried and is_candidate(key, f"{self.name}@{self.candidate}", self.share):
            return self.candidate
        return self.champion


def open_up(
    row: ServedBot, last: ServedBot | None, state: Callable[[int], State], known: Container[int]
) -> ServedBot:
    """What is served now that ``row`` says what is to be; ``last`` is what this gave before.

    A champion that is not ready yet waits behind the one before it; one that no replica can load leaves that
    one in its place. A candidate that is not ready gets no share. ``known`` are the versions that may be
    called.
    """
    candidate = row.candidate if _may_try(row, last, state) else None
    base, champion = _champion(row, last, state, known)
    return replace(row, base=base, champion=champion, candidate=candidate)


def _champion(
    row: ServedBot, last: ServedBot | None, state: Callable[[int], State], known: Container[int]
) -> tuple[str, int | None]:
    """The base model, and the version that is champion: None while the base answers."""
    wanted = row.champion
    if wanted is None or wanted not in known or (found := state(wanted)) == "ready":
        return row.base, wanted
    if last and last.champion != wanted and (last.champion is None or last.champion in known):
        return last.base, last.champion
    if found == "failed" and row.previous is not None and row.previous in known:
        return row.base, row.previous
    return row.base, wanted


def _may_try(row: ServedBot, last: ServedBot | None, state: Callable[[int], State]) -> bool:
    """Whether the candidate gets its share: once it is ready, and as long as a replica may load it."""
    if row.candidate is None:
        return False
    found = state(row.candidate)
    goes_on = last is not None and last.candidate == row.candidate
    return found == "ready" or (goes_on and found != "failed")
