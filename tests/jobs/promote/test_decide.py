from typing import Any

import pytest

from common.evidence import (
    AnswerFigures,
    BlindChoice,
    Evidence,
    RatedConversation,
    ShadowPair,
    TrialConversation,
)
from jobs.promote.config import PromoteConfig
from jobs.promote.decide import DAY, decide
from jobs.promote.rule import find

CONFIG = PromoteConfig(control_url="http://control")


def evidence(**values: Any) -> Evidence:
    """A trial of version 2 beside 1 that began at 0 and is an hour old."""
    row: dict[str, Any] = {
        "bot": "support-bot",
        "generation": 4,
        "champion": 1,
        "candidate": 2,
        "share": 0.5,
        "shadow": False,
        "pinned": False,
        "untried": None,
        "erased": [],
        "began_at": 0.0,
        "now": 3600.0,
        "passed": True,
        "asked_at": None,
        "ratings": [],
        "choices": [],
        "conversations": [],
        "shadows": [],
    }
    return Evidence(**row | values)


def rated(*better: bool, begin: float = 0.0) -> list[RatedConversation]:
    """A pair of ratings for each: the candidate was liked and the champion not, or the other way round."""
    return [
        RatedConversation(person="ada", arm=arm, liked=liked, at=begin + number)
        for number, won in enumerate(better)
        for arm, liked in (("candidate", won), ("champion", not won))
    ]


def talks(candidate: dict[str, Any], champion: dict[str, Any], pairs: int = 10) -> list[TrialConversation]:
    usual = {"failed": False, "ttft_ms": 400.0, "tokens": 30}
    return [
        TrialConversation(person="ada", arm=arm, at=number, **usual | figures)
        for number in range(pairs)
        for arm, figures in (("candidate", candidate), ("champion", champion))
    ]


def test_a_candidate_that_people_like_better_is_promoted_with_its_figures() -> None:
    decision = decide(evidence(ratings=rated(*[True] * 9, False)), CONFIG)
    assert (decision.what, decision.version) == ("promote", 2)
    assert decision.sentence == ("promotes support-bot@2: 9 of 10 comparisons for it over support-bot@1")
    assert decision.figures["approval_for"] == 9
    assert (decision.figures["candidate_liked"], decision.figures["champion_liked"]) == (9, 1)


def test_blind_choices_count_as_much_as_ratings() -> None:
    choices = [BlindChoice(person=f"p{at}", chosen="candidate", at=at) for at in range(4)]
    ties = [BlindChoice(person="p", chosen="tie", at=9)]
    assert decide(evidence(choices=choices + ties), CONFIG).what == "wait"
    assert decide(evidence(choices=choices, ratings=rated(*[True] * 4)), CONFIG).what == "promote"


def test_what_decided_first_counts_whenever_one_looks() -> None:
    better, worse = rated(*[True] * 8), rated(*[False] * 40, begin=100)
    assert decide(evidence(ratings=better + worse), CONFIG).what == "promote"
    assert (
        decide(evidence(ratings=rated(*[False] * 5) + rated(*[True] * 40, begin=100)), CONFIG).what == "end"
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ratings": rated(*[False] * 5)}, "people like it less than support-bot@1 (5 comparisons against"),
        ({"conversations": talks({"failed": True, "tokens": None}, {})}, "it fails more often than"),
        (
            {"conversations": talks({"ttft_ms": 700.0}, {})},
            "its first token takes more than 1.5 times as long",
        ),
        ({"conversations": talks({"tokens": 100}, {})}, "its answers are more than 3 times as long"),
    ],
)
def test_harm_ends_the_trial(values: dict[str, Any], words: str) -> None:
    decision = decide(evidence(**values), CONFIG)
    assert (decision.what, decision.version) == ("end", 2)
    assert words in decision.sentence


@pytest.mark.parametrize(
    "conversations",
    [
        talks({}, {}),
        talks({"failed": True}, {"failed": True}),
        talks({"ttft_ms": 190.0}, {"ttft_ms": 20.0}),  # ten times as late, and nobody notices
        talks({"tokens": 4}, {}),
        talks({"ttft_ms": None, "tokens": None}, {}),
        talks({}, {"failed": True, "tokens": None, "ttft_ms": 9000.0}),
    ],
)
def test_guardrails_neither_promote_nor_mind_what_is_no_harm(conversations: list[TrialConversation]) -> None:
    decision = decide(evidence(conversations=conversations), CONFIG)
    assert decision.what == "wait"
    assert decision.sentence == "waits: support-bot@2 has 0 of 0 comparisons for it over support-bot@1"


def test_harm_in_the_same_moment_wins() -> None:
    at_once = [
        choice.model_copy(update={"at": 1.0})
        for choice in (BlindChoice(person="a", chosen="candidate", at=0),)
    ]
    failing = [talk.model_copy(update={"at": 1.0}) for talk in talks({"failed": True}, {})]
    assert find(evidence(choices=at_once * 8, conversations=failing)).verdict == "worse"


def test_after_its_days_a_person_is_asked_once_and_the_trial_goes_on() -> None:
    late = evidence(now=15 * DAY, ratings=rated(True, True, False))
    decision = decide(late, CONFIG)
    assert decision.what == "ask"
    assert "is inconclusive after 15 days: 2 of 3 comparisons for it over support-bot@1. Ask a person" in (
        decision.sentence
    )
    asked = late.model_copy(update={"asked_at": 14 * DAY})
    assert decide(asked, CONFIG).what == "wait"
    assert decide(asked.model_copy(update={"ratings": rated(*[True] * 8)}), CONFIG).what == "promote"


def test_when_no_more_answers_are_looked_at_a_person_is_asked_once() -> None:
    full = evidence(conversations=talks({}, {}), full=True)
    decision = decide(full, CONFIG)
    assert decision.what == "ask"
    assert decision.sentence.startswith(
        "is inconclusive after 20 conversations, after which none are looked at for harm: 0 of 0 comparisons"
    )
    asked = full.model_copy(update={"asked_at": 3600.0})
    assert decide(asked, CONFIG).what == "wait"
    assert decide(asked.model_copy(update={"ratings": rated(*[True] * 9)}), CONFIG).what == "promote"


def test_what_the_gate_did_not_pass_is_tried_but_a_person_promotes_it() -> None:
    liked = evidence(passed=False, now=3600.0, ratings=rated(*[True] * 9))
    decision = decide(liked, CONFIG)
    assert (decision.what, decision.figures["approval_for"]) == ("ask", 9)
    assert decision.sentence == (
        "asks a person: people like support-bot@2 better, 9 of 9 comparisons for it over support-bot@1. "
        "But support-bot@2 has not passed the gate, so a person decides: promote it by "
        "POST /onggi/v1/bots/support-bot/promote "
        '{"version": 2, "generation": 5, "force": true, "reason": "..."}, or end its trial'
    )
    assert decide(liked.model_copy(update={"asked_at": 3600.0}), CONFIG).what == "wait"
    assert decide(liked.model_copy(update={"asked_at": 0.5}), CONFIG).what == "ask"  # asked about its days
    assert decide(liked.model_copy(update={"passed": True, "asked_at": 3600.0}), CONFIG).what == "promote"


def test_liked_or_not_harm_ends_the_trial_of_what_the_gate_did_not_pass() -> None:
    ratings = rated(*[True] * 9) + rated(*[False] * 40, begin=100)
    assert decide(evidence(ratings=ratings), CONFIG).what == "promote"
    assert decide(evidence(passed=False, ratings=ratings), CONFIG).what == "end"


def test_an_erased_champion_is_not_followed_by_what_a_person_has_to_promote() -> None:
    decision = decide(evidence(erased=[1], passed=False), CONFIG)
    assert decision.what == "ask"
    assert decision.sentence.startswith(
        "asks a person: support-bot@1 learned from words that were erased. But support-bot@2 has not passed"
    )
    assert decide(evidence(erased=[1], passed=False, asked_at=9.0), CONFIG).what == "wait"
    assert decide(evidence(erased=[1], passed=False, untried=3), CONFIG).version == 3


def test_the_newest_untried_version_is_tried_but_not_while_another_trial_is_open() -> None:
    none = evidence(candidate=None, began_at=None, untried=3)
    decision = decide(none, CONFIG)
    assert (decision.what, decision.version) == ("begin", 3)
    assert decision.sentence == "tries support-bot@3 beside support-bot@1, with 50% of the conversations"
    assert decide(evidence(untried=3), CONFIG).what == "wait"
    assert decide(evidence(untried=3, asked_at=9.0), CONFIG).what == "begin"
    nothing = evidence(candidate=None, began_at=None)
    assert "no version to try" in decide(nothing, CONFIG).sentence


def test_a_pinned_bot_is_left_alone() -> None:
    decision = decide(evidence(pinned=True, untried=3, ratings=rated(*[True] * 9)), CONFIG)
    assert (decision.what, decision.sentence) == ("wait", "is pinned: only a person changes what is served")


def test_in_shadow_the_share_opens_after_so_many_answers_without_harm() -> None:
    config = PromoteConfig(control_url="http://control", shadow=6)
    begun = decide(evidence(candidate=None, began_at=None, untried=3, champion=None), config)
    assert (
        begun.sentence
        == "tries support-bot@3 beside its base, in shadow, until 6 of its answers were compared"
    )

    def seen(count: int, tokens: int = 30) -> Evidence:
        shown = AnswerFigures(failed=False, ttft_ms=None, tokens=30)
        pairs = [
            ShadowPair(shown=shown, candidate=AnswerFigures(failed=False, ttft_ms=None, tokens=tokens), at=at)
            for at in range(count)
        ]
        return evidence(shadow=True, share=0.0, shadows=pairs)

    assert decide(seen(5), config).what == "wait"
    assert decide(seen(6), config).what == "open"
    assert decide(seen(6, tokens=200), config).what == "end"


def test_a_candidate_that_fails_in_shadow_is_not_opened_to_anybody() -> None:
    config = PromoteConfig(control_url="http://control", shadow=10)
    shown = AnswerFigures(failed=False, ttft_ms=None, tokens=30)
    failing = AnswerFigures(failed=True, ttft_ms=None, tokens=None)
    pairs = [ShadowPair(shown=shown, candidate=failing if at else shown, at=at) for at in range(10)]
    decision = decide(evidence(shadow=True, share=0.0, shadows=pairs), config)
    assert decision.what == "end"
    assert "it fails more often than support-bot@1 (9 comparisons against it, 0 for it)" in decision.sentence


def test_a_champion_that_learned_from_erased_words_goes_as_soon_as_a_successor_passed() -> None:
    alone = evidence(candidate=None, began_at=None, erased=[1])
    assert decide(alone, CONFIG).what == "wait"
    decision = decide(alone.model_copy(update={"untried": 3}), CONFIG)
    assert (decision.what, decision.version) == ("promote", 3)
    assert decision.sentence == (
        "promotes support-bot@3 at once: support-bot@1 learned from words that were erased"
    )
    assert decide(evidence(erased=[1]), CONFIG).version == 2
    assert decide(evidence(erased=[1], pinned=True, untried=3), CONFIG).what == "wait"


def test_a_candidate_that_learned_from_erased_words_is_tried_no_further() -> None:
    decision = decide(evidence(erased=[2], ratings=rated(*[True] * 9)), CONFIG)
    assert (decision.what, decision.version) == ("end", 2)
    assert decide(evidence(erased=[1, 2], untried=3), CONFIG).version == 3
    assert decide(evidence(erased=[1, 2]), CONFIG).what == "end"
