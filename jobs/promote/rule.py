"""What evidence decides: approval promotes or ends a trial, errors, delay and length only end it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from common.evidence import AnswerFigures, Evidence, TrialConversation
from jobs.promote.pairing import Observation, Pair, pair_up
from jobs.promote.sequential import first_crossing, log_evidence

PROMOTE_AT = 20.0
"""The e-value that promotes: of versions that are no better, one in twenty is promoted at most."""
HARM_AT = 5.0
"""The e-value that ends a trial: of versions that are no worse, one in five at most for each measure."""
SLOWER, SLOWER_MS = 1.5, 200.0
"""A first token that is that many times as late, and that much later, is harm."""
LONGER = 3.0
"""An answer that is that many times as long is harm. A shorter one is not: corrections often shorten."""
Verdict = Literal["better", "worse", "open"]


@dataclass(frozen=True)
class Coin:
    """One comparison: whether it speaks for the candidate, and when it came in."""

    good: bool
    at: float


@dataclass(frozen=True)
class Measure:
    """Coins of one kind, in the order of their times; ``harm`` says what it is that they show too much of."""

    name: str
    harm: str
    coins: Sequence[Coin]

    @property
    def good(self) -> int:
        """How many speak for the candidate."""
        return sum(coin.good for coin in self.coins)

    def figures(self) -> dict[str, float]:
        """Counts, and the e-values of better and of worse, as they are now."""
        good, bad = self.good, len(self.coins) - self.good
        better, worse = float(log_evidence(good, bad)), float(log_evidence(bad, good))
        return {
            f"{self.name}_for": good,
            f"{self.name}_against": bad,
            f"{self.name}_log_e_better": round(better, 3),
            f"{self.name}_log_e_worse": round(worse, 3),
        }


@dataclass(frozen=True)
class Finding:
    """What the trial shows so far; ``measure`` is the one that decided, at ``at`` (seconds)."""

    verdict: Verdict
    measures: Sequence[Measure]
    measure: Measure | None = None
    at: float | None = None


def find(evidence: Evidence) -> Finding:
    """What decided first; where two did in one moment, harm did.

    A trial of what the gate did not pass goes on when people like it better, for promoting it is a person's:
    there harm decides whenever it came.
    """
    measures = [approval(evidence), *guardrails(evidence)]
    crossings = [(at, 0, "worse", measure) for measure in measures if (at := _harm(measure)) is not None]
    if (at := _benefit(measures[0])) is not None:
        crossings.append((at, 1, "better", measures[0]))
    if not crossings:
        return Finding("open", measures)
    order = (0, 1) if evidence.passed else (1, 0)
    at, _, verdict, measure = min(crossings, key=lambda crossing: [crossing[place] for place in order])
    return Finding("better" if verdict == "better" else "worse", measures, measure, at)


def approval(evidence: Evidence) -> Measure:
    """Ratings of one person paired, and blind choices; pairs liked alike, and ties, say nothing."""
    rated = [Observation(one.person, one.arm, one.at, one.liked) for one in evidence.ratings]
    coins = [
        Coin(pair.candidate > pair.champion, pair.at)
        for pair in pair_up(rated)
        if pair.candidate != pair.champion
    ]
    coins += [Coin(one.chosen == "candidate", one.at) for one in evidence.choices if one.chosen != "tie"]
    return Measure("approval", "people like it less", sorted(coins, key=lambda coin: coin.at))


def guardrails(evidence: Evidence) -> Iterator[Measure]:
    """Errors, time to first token and length of conversations; in shadow errors and length of single answers.

    A shadow is asked later than what was shown, and not streamed to anybody: its delay is nothing to compare.
    The coin of an error is tossed where exactly one of two failed; those of delay and length for every pair,
    and one that exceeds the margin speaks against the candidate: where it is no slower (longer), that is so
    for less than half of them.
    """

    def coins(value: Callable[[AnswerFigures], float | None], worse: Callable[[Pair], bool]) -> list[Coin]:
        pairs = [*_pairs(evidence.conversations, value), *_shadow_pairs(evidence, value)]
        return [Coin(not worse(pair), pair.at) for pair in sorted(pairs, key=lambda pair: pair.at)]

    failures = [*_pairs(evidence.conversations, _failed), *_shadow_pairs(evidence, _failed)]
    one_failed = sorted((pair for pair in failures if pair.candidate != pair.champion), key=lambda p: p.at)
    yield Measure("errors", "it fails more often", [Coin(not pair.candidate, pair.at) for pair in one_failed])
    yield Measure(
        "ttft",
        f"its first token takes more than {SLOWER:g} times as long",
        coins(
            lambda answer: answer.ttft_ms,
            lambda pair: pair.candidate > max(SLOWER * pair.champion, pair.champion + SLOWER_MS),
        ),
    )
    yield Measure(
        "length",
        f"its answers are more than {LONGER:g} times as long",
        coins(lambda answer: answer.tokens, lambda pair: pair.candidate > LONGER * pair.champion),
    )


def _failed(answer: AnswerFigures) -> float:
    return float(answer.failed)


def _pairs(
    conversations: Iterable[TrialConversation], value: Callable[[AnswerFigures], float | None]
) -> list[Pair]:
    measured = ((one, value(one)) for one in conversations)
    return pair_up(
        Observation(one.person, one.arm, one.at, number) for one, number in measured if number is not None
    )


def _shadow_pairs(evidence: Evidence, value: Callable[[AnswerFigures], float | None]) -> Iterator[Pair]:
    for one in evidence.shadows:
        candidate, shown = value(one.candidate), value(one.shown)
        if candidate is not None and shown is not None:
            yield Pair(candidate, shown, one.at)


def _harm(measure: Measure) -> float | None:
    toss = first_crossing((not coin.good for coin in measure.coins), HARM_AT)
    return None if toss is None else measure.coins[toss].at


def _benefit(measure: Measure) -> float | None:
    toss = first_crossing((coin.good for coin in measure.coins), PROMOTE_AT)
    return None if toss is None else measure.coins[toss].at
