"""What is to be done about one bot, from the evidence and what the installation wants."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from common.evidence import Evidence
from jobs.promote.config import PromoteConfig
from jobs.promote.rule import HARM_AT, PROMOTE_AT, Finding, Measure, find

DAY = 86_400.0

What = Literal["wait", "begin", "open", "promote", "end", "ask"]
Found = tuple[What, str]
"""What is done, and the sentence that says why."""


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
    if evidence.untried is not None and (evidence.candidate is None or evidence.asked_at is not None):
        return _begin(evidence, evidence.untried, config)
    if evidence.candidate is None or evidence.began_at is None:
        return Decision("wait", "has no version to try: none has passed that was not tried before")
    return _judge(evidence, evidence.candidate, evidence.began_at, config)


def _instead_of_erased(evidence: Evidence) -> Decision | None:
    """What an erasure decides, which waits for nobody's opinion; None where it touches nothing served.

    A champion goes as soon as there is a successor that passed: with less to learn from it need not be liked
    better. Where there is only one that a person tries by force, a person is asked. A candidate is tried no
    further.
    """
    candidate = None if evidence.candidate in evidence.erased else evidence.candidate
    passed = candidate if evidence.passed else None
    successor = passed if evidence.untried is None else evidence.untried
    why = "learned from words that were erased"
    if evidence.champion in evidence.erased and successor is not None:
        sentence = f"promotes {_name(evidence, successor)} at once: {_champion(evidence)} {why}"
        return Decision("promote", sentence, successor)
    if evidence.candidate is not None and candidate is None:
        name = _name(evidence, evidence.candidate)
        return Decision("end", f"ends the trial of {name}: it {why}", evidence.candidate)
    if evidence.champion in evidence.erased and candidate is not None and evidence.asked_at is None:
        sentence = f"asks a person: {_champion(evidence)} {why}. {_theirs(evidence, candidate)}"
        return Decision("ask", sentence, candidate)
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
    name, so_far = _name(evidence, candidate), _so_far(evidence, finding)
    what, sentence = (
        _worse(evidence, finding, name)
        or _better(evidence, finding, candidate)
        or _unseen_harmless(evidence, name, config)
        or _undecided(evidence, so_far, name, days, config)
        or ("wait", f"waits: {name} has {so_far}")
    )
    return Decision(what, sentence, candidate, _figures(evidence, finding, days))


def _worse(evidence: Evidence, finding: Finding, name: str) -> Found | None:
    if finding.measure is None or finding.verdict != "worse":
        return None
    against = len(finding.measure.coins) - finding.measure.good
    return "end", (
        f"ends the trial of {name}: {finding.measure.harm} than {_champion(evidence)} "
        f"({against} comparisons against it, {finding.measure.good} for it)"
    )


def _better(evidence: Evidence, finding: Finding, candidate: int) -> Found | None:
    """Promotes what passed the gate; of anything else a person is asked, once for what was found."""
    if finding.measure is None or finding.at is None or finding.verdict != "better":
        return None
    name, so_far = _name(evidence, candidate), _so_far(evidence, finding)
    if evidence.passed:
        return "promote", f"promotes {name}: {so_far}"
    if evidence.asked_at is None or evidence.asked_at < finding.at:
        return "ask", f"asks a person: people like {name} better, {so_far}. {_theirs(evidence, candidate)}"
    return None


def _unseen_harmless(evidence: Evidence, name: str, config: PromoteConfig) -> Found | None:
    if not evidence.shadow or not 0 < config.shadow <= len(evidence.shadows):
        return None
    return "open", (
        f"opens {config.share:.0%} of the conversations to {name}: "
        f"{len(evidence.shadows)} answers in shadow showed no harm"
    )


def _undecided(
    evidence: Evidence, so_far: str, name: str, days: float, config: PromoteConfig
) -> Found | None:
    """Asks a person, once: after the trial's days, or when no more of it would be seen."""
    if evidence.asked_at is not None or not (days >= config.days or evidence.full):
        return None
    kind = "shadows" if evidence.shadow else "conversations"
    full = f"{len(evidence.answers)} {kind}, after which none are looked at for harm"
    after = f"{days:.0f} days" if days >= config.days else full
    return "ask", (
        f"is inconclusive after {after}: {so_far}. Ask a person: compare twenty answers blind, then promote "
        f"{name} or end its trial"
    )


def _theirs(evidence: Evidence, version: int) -> str:
    """Why a version that the gate did not pass is a person's to promote, and how they do it.

    The generation is the one that the question itself makes.
    """
    body = (
        f'{{"version": {version}, "generation": {evidence.generation + 1}, "force": true, "reason": "..."}}'
    )
    return (
        f"But {_name(evidence, version)} has not passed the gate, so a person decides: promote it by "
        f"POST /onggi/v1/bots/{evidence.bot}/promote {body}, or end its trial"
    )


def _so_far(evidence: Evidence, finding: Finding) -> str:
    approval = finding.measures[0]
    return f"{approval.good} of {len(approval.coins)} comparisons for it over {_champion(evidence)}"


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
