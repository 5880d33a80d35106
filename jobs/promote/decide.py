"""What is to be done about one bot, from the evidence and what the installation wants."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from common.evidence import Evidence
from jobs.promote.config import PromoteConfig
from jobs.promote.rule import HARM_AT, PROMOTE_AT, Finding, Measure, find

DAY = 86_400.0

What = Literal["wait", "begin", "open", "promote", "end", "ask"]


@dataclass(frozen=True)
class Decision:
    """What is done, about which version, and why, in one sentence."""

    what: What
    sentence: str
    version: int | None = None
    figures: dict[str, float] = field(default_factory=dict)


def decide(evidence: Evidence, config: PromoteConfig) -> Decision:
    """Begin a trial, end it one way or the other, ask a person, or wait."""
    if evidence.pinned:
        return Decision("wait", "is pinned: only a person changes what is served")
    if (instead := _instead_of_erased(evidence)) is not None:
        return instead
    if evidence.untried is not None and (evidence.candidate is None or evidence.asked):
        return _begin(evidence, evidence.untried, config)
    if evidence.candidate is None or evidence.began_at is None:
        return Decision("wait", "has no version to try: none has passed that was not tried before")
    return _judge(evidence, evidence.candidate, evidence.began_at, config)


def _instead_of_erased(evidence: Evidence) -> Decision | None:
    """What an erasure decides, which waits for nobody's opinion; None where it touches nothing served.

    A champion goes as soon as there is a successor that passed: with less to learn from it need not be liked
    better. A candidate is tried no further.
    """
    candidate = None if evidence.candidate in evidence.erased else evidence.candidate
    successor = candidate if evidence.untried is None else evidence.untried
    why = "learned from words that were erased"
    if evidence.champion in evidence.erased and successor is not None:
        sentence = f"promotes {_name(evidence, successor)} at once: {_champion(evidence)} {why}"
        return Decision("promote", sentence, successor)
    if evidence.candidate is not None and candidate is None:
        name = _name(evidence, evidence.candidate)
        return Decision("end", f"ends the trial of {name}: it {why}", evidence.candidate)
    return None


def _begin(evidence: Evidence, version: int, config: PromoteConfig) -> Decision:
    how = (
        f"in shadow, until {config.shadow} of its answers were compared"
        if config.shadow
        else f"with {config.share:.0%} of the conversations"
    )
    return Decision("begin", f"tries {_name(evidence, version)} beside {_champion(evidence)}, {how}", version)


def _judge(evidence: Evidence, candidate: int, began_at: float, config: PromoteConfig) -> Decision:
    finding = find(evidence)
    days = (evidence.now - began_at) / DAY
    figures = _figures(evidence, finding, days)
    name, champion = _name(evidence, candidate), _champion(evidence)
    so_far = _so_far(finding.measures[0])
    if finding.measure and finding.verdict == "worse":
        against = len(finding.measure.coins) - finding.measure.good
        sentence = (
            f"ends the trial of {name}: {finding.measure.harm} than {champion} "
            f"({against} comparisons against it, {finding.measure.good} for it)"
        )
        return Decision("end", sentence, candidate, figures)
    if finding.verdict == "better":
        return Decision("promote", f"promotes {name}: {so_far} over {champion}", candidate, figures)
    if evidence.shadow and 0 < config.shadow <= len(evidence.shadows):
        sentence = (
            f"opens {config.share:.0%} of the conversations to {name}: "
            f"{len(evidence.shadows)} answers in shadow showed no harm"
        )
        return Decision("open", sentence, candidate, figures)
    if days >= config.days and not evidence.asked:
        sentence = (
            f"is inconclusive after {days:.0f} days: {so_far} over {champion}. Ask a person: compare twenty "
            f"answers blind, then promote {name} or end its trial"
        )
        return Decision("ask", sentence, candidate, figures)
    return Decision("wait", f"waits: {name} has {so_far} over {champion}", candidate, figures)


def _so_far(approval: Measure) -> str:
    return f"{approval.good} of {len(approval.coins)} comparisons for it"


def _name(evidence: Evidence, number: int) -> str:
    return f"{evidence.bot}@{number}"


def _champion(evidence: Evidence) -> str:
    return "its base" if evidence.champion is None else _name(evidence, evidence.champion)


def _figures(evidence: Evidence, finding: Finding, days: float) -> dict[str, float]:
    figures: dict[str, float] = {"days": round(days, 2), "promote_at": PROMOTE_AT, "harm_at": HARM_AT}
    for arm in ("candidate", "champion"):
        rated = [one for one in evidence.ratings if one.arm == arm]
        figures |= {f"{arm}_rated": len(rated), f"{arm}_liked": sum(one.liked for one in rated)}
    people = {one.person for one in evidence.ratings} | {one.person for one in evidence.choices}
    figures["people"] = len(people)
    figures["blind_choices"] = len(evidence.choices)
    return figures | _of(finding.measures)


def _of(measures: Sequence[Measure]) -> dict[str, float]:
    return {name: figure for measure in measures for name, figure in measure.figures().items()}
