"""Trials of people who do not exist, many at once: ``jobs.promote``'s decision as arrays over the runs.

People like what they get with a chance of their own (beta distributed, so that what one person rates is
correlated), which drifts; each conversation draws its arm; some ratings never come, and the others come late
and out of order.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.promote.rule import HARM_AT, PROMOTE_AT
from jobs.promote.sequential import log_evidence

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class World:
    """What a trial is like. ``people`` None: everybody rates once. ``effect`` is added to the approval."""

    approval: float
    effect: float = 0.0
    people: int | None = 20
    correlation: float = 0.2
    drift: float = 0.0
    """By how much the approval of both rises from the first conversation to the last."""
    missing: float = 0.3
    grudging: float = 0.0
    """How much likelier a liked answer is to go unrated than a disliked one."""
    delay: float = 0.05
    """How late a rating comes on average, as a part of the whole trial."""
    share: float = 0.5


@dataclass(frozen=True)
class Ratings:
    """One rating of each run: by whom, with the candidate or not, liked or not; each of shape (runs,)."""

    person: Ints
    candidate: Bools
    liked: Bools


def ratings(world: World, runs: int, count: int, rng: np.random.Generator) -> Iterator[Ratings]:
    """``count`` ratings of each run, in the order in which they come in."""
    talks = _talks(world, count)
    people = world.people or talks
    person = rng.integers(people, size=(runs, talks))
    if world.people is None:
        person = np.broadcast_to(np.arange(talks), (runs, talks))
    time = np.linspace(-0.5, 0.5, talks)
    candidate = rng.random((runs, talks)) < world.share
    chance = np.take_along_axis(_leniency(world, runs, people, rng), person, axis=1)
    chance = chance + world.drift * time + world.effect * candidate
    liked = rng.random((runs, talks)) < chance
    unrated = rng.random((runs, talks)) < world.missing + world.grudging * (liked - 0.5)
    comes = np.where(unrated, np.inf, time + rng.exponential(world.delay, (runs, talks)))
    order = np.argsort(comes, axis=1)[:, :count]
    coming = (np.take_along_axis(drawn, order, axis=1).T.copy() for drawn in (person, candidate, liked))
    for of_all in zip(*coming, strict=True):
        yield Ratings(*of_all)


def _talks(world: World, count: int) -> int:
    """So many conversations that ``count`` of them are rated."""
    return int(count / (1 - world.missing - world.grudging / 2) * 1.15) + 60


def _leniency(world: World, runs: int, people: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    if not world.correlation:
        return np.full((runs, people), world.approval)
    spread = (1 - world.correlation) / world.correlation
    return rng.beta(world.approval * spread, (1 - world.approval) * spread, (runs, people))


class Pairing:
    """``jobs.promote.pairing.pair_up`` for many runs at once, fed with one rating of each at a time."""

    def __init__(self, runs: int, people: int, depth: int = 512) -> None:
        self._runs = np.arange(runs)
        # What is unpaired, and how much of it: above 0 the candidate's, below 0 the champion's.
        self._liked = np.zeros((runs, people, depth if people < 100 else 2), bool)
        self._waiting = np.zeros((runs, people), np.int64)
        self._known = np.zeros((runs, people), bool)
        self._all_known = False  # then nobody new comes, and who waits waits for themselves
        # Newcomers of either arm, by when they came.
        self._queues = [np.full((runs, people), NEVER), np.full((runs, people), NEVER)]
        self._time = 0

    def add(self, one: Ratings) -> tuple[Bools, Bools]:
        """Which runs toss a coin with this rating, and whether it falls the candidate's way."""
        self._time += 1
        here = (self._runs, one.person)
        sign = np.where(one.candidate, 1, -1)
        waiting = self._waiting[here]
        own = waiting * sign < 0
        partner, met = self._newcomer(one)
        other = np.where(own, self._liked[(*here, np.abs(waiting) - 1)], self._liked[self._runs, partner, 0])
        self._waiting[self._runs[met], partner[met]] = 0
        alone = ~own & ~met
        self._liked[self._runs[alone], one.person[alone], np.abs(waiting[alone])] = one.liked[alone]
        self._waiting[here] = np.where(met, 0, waiting + sign)
        return ~alone & (one.liked != other), one.liked == one.candidate

    def _newcomer(self, one: Ratings) -> tuple[Ints, Bools]:
        """Of each run: who has waited longest with one rating of the other arm, and whether they are met."""
        if self._all_known:
            return one.person, np.zeros(len(self._runs), bool)
        here = (self._runs, one.person)
        new = ~self._known[here]
        self._known[here] = True
        for queue in self._queues:
            queue[here] = NEVER
        others = np.where(one.candidate[:, None], self._queues[0], self._queues[1])
        partner = others.argmin(axis=1)
        met = new & (others[self._runs, partner] < NEVER)
        for queue in self._queues:
            queue[self._runs[met], partner[met]] = NEVER
        for arm, queue in enumerate(self._queues):
            waits = new & ~met & (one.candidate == arm)
            queue[self._runs[waits], one.person[waits]] = self._time
        self._all_known = bool(self._known.all())
        return partner, met


@dataclass(frozen=True)
class Outcome:
    """How many of the runs had promoted and ended the trial after so many ratings an arm."""

    promoted: int
    ended: int


def simulate(world: World, runs: int, stops: tuple[int, ...], seed: int) -> dict[int, Outcome]:
    """What is decided by each of ``stops`` ratings an arm (of both together, twice as many)."""
    rng = np.random.default_rng(seed)
    people = world.people or _talks(world, 2 * stops[-1])
    pairing = Pairing(runs, people)
    wins, losses = np.zeros(runs, np.int64), np.zeros(runs, np.int64)
    promoted, ended = np.zeros(runs, bool), np.zeros(runs, bool)
    promotes, ends = _decisive(stops[-1], PROMOTE_AT), _decisive(stops[-1], HARM_AT)
    outcomes = {}
    for count, one in enumerate(ratings(world, runs, 2 * stops[-1], rng), 1):
        tossed, won = pairing.add(one)
        wins += tossed & won
        losses += tossed & ~won
        promoted |= ~ended & promotes[wins, losses]
        ended |= ~promoted & ends[losses, wins]
        if count % 2 == 0 and count // 2 in stops:
            outcomes[count // 2] = Outcome(int(promoted.sum()), int(ended.sum()))
    return outcomes


def _decisive(coins: int, threshold: float) -> Bools:
    """By how often coins fell either way, each at most ``coins`` times: whether that is enough."""
    counts = np.arange(coins + 1)
    return log_evidence(counts[:, None], counts[None, :]) >= np.log(threshold)
