"""Pairs of one observation of the candidate's and one of the champion's, each used once, as they come in.

Within a person first, so that how strict somebody is plays no part. What is paired goes by who and when,
never by what was observed, and a pair stays as it was when more comes in.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from common.evidence import Arm


@dataclass(frozen=True)
class Observation:
    """Something of one conversation: whose it was, by which arm, when (seconds), and its value."""

    person: str
    arm: Arm
    at: float
    value: float


@dataclass(frozen=True)
class Pair:
    """The values of two observations, and when the later one was made."""

    candidate: float
    champion: float
    at: float


def pair_up(observations: Iterable[Observation]) -> list[Pair]:
    """The pairs of ``observations``, which are in the order of their times.

    An observation is paired with the person's latest unpaired one of the other arm, so that what drifts is
    the same for both. A person's very first may be paired with that of somebody else of whom there is but
    one: nobody is in more than one such pair, for two people compared twice would be no two coins.
    """
    unpaired: dict[str, list[Observation]] = defaultdict(list)
    newcomers: dict[Arm, list[str]] = {"candidate": [], "champion": []}
    pairs = []
    for one in observations:
        other = _partner(one, unpaired, newcomers)
        if other is not None:
            pairs.append(_pair(one, other))
    return pairs


def _partner(
    one: Observation, unpaired: dict[str, list[Observation]], newcomers: dict[Arm, list[str]]
) -> Observation | None:
    """Whom ``one`` is paired with, taken from those who wait; None, and ``one`` waits."""
    other_arm: Arm = "champion" if one.arm == "candidate" else "candidate"
    if one.person not in unpaired:
        if newcomers[other_arm]:
            unpaired[one.person] = []
            return unpaired[newcomers[other_arm].pop(0)].pop()
        newcomers[one.arm].append(one.person)
    else:
        for waiting in newcomers.values():
            if one.person in waiting:
                waiting.remove(one.person)
    own = unpaired[one.person]
    if own and own[-1].arm == other_arm:
        return own.pop()
    own.append(one)
    return None


def _pair(one: Observation, other: Observation) -> Pair:
    candidate, champion = (one, other) if one.arm == "candidate" else (other, one)
    return Pair(candidate.value, champion.value, max(one.at, other.at))
