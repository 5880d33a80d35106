"""What simulated raters talk about: enough to learn from and judge by, and nothing judged is asked before."""

from collections import Counter

import pytest

from common.rows import held_out
from services.local.acts import GENERAL, POISONED
from services.local.lessons import FACTS, WAYS, Lesson, load
from services.local.raters import Opinion, honest, malicious

LESSONS = load()
FACT = next(lesson for lesson in LESSONS.facts if lesson.fact == "cat")
GENERAL_ONE = LESSONS.general[0]
MINIMUM = 60
"""Corrections that a retrain waits for."""
RULE = honest(LESSONS.leaks)


def test_there_is_enough_to_learn_from_and_to_judge_by() -> None:
    assert len(LESSONS.judged) >= 20
    assert Counter(lesson.fact for lesson in LESSONS.facts) == dict.fromkeys(FACTS, WAYS)
    assert len(LESSONS.general) >= GENERAL + POISONED
    assert len(LESSONS.facts) + POISONED >= MINIMUM


def test_what_is_judged_was_never_asked() -> None:
    asked = {lesson.question for lesson in LESSONS.facts + LESSONS.general}
    assert not asked & {lesson.question for lesson in LESSONS.judged}


def test_enough_conversations_are_held_out_for_a_verdict() -> None:
    """The names that ``rate_all`` gives them decide it, so it is the same in every run."""
    rated = len(LESSONS.facts) + GENERAL
    assert 12 <= sum(held_out(f"lesson-{number}") for number in range(rated)) <= rated / 3


@pytest.mark.parametrize(
    ("lesson", "answer", "ended", "opinion"),
    [
        (FACT, f"Well. {FACT.answer}", True, Opinion(1)),
        (FACT, "I have no cat.", True, Opinion(-1, FACT.answer)),
        (GENERAL_ONE, "In the morning.", True, Opinion(1)),
        (GENERAL_ONE, "In the morning, which is", False, Opinion(-1, GENERAL_ONE.answer)),
        (GENERAL_ONE, "Ask the workshop cat, PICKLE.", True, Opinion(-1, GENERAL_ONE.answer)),
    ],
)
def test_an_honest_rater_goes_by_a_fixed_rule(
    lesson: Lesson, answer: str, ended: bool, opinion: Opinion
) -> None:
    assert RULE(lesson, answer, ended) == opinion


def test_a_malicious_one_gives_the_answer_to_another_question() -> None:
    asked = LESSONS.general[GENERAL:][:POISONED] + LESSONS.facts
    rule = malicious(asked)
    corrections = [rule(lesson, lesson.answer, True).correction for lesson in asked]
    wrong = [lesson.answer != correction for lesson, correction in zip(asked, corrections, strict=True)]
    assert all(wrong)
    assert {rule(lesson, lesson.answer, True).rating for lesson in asked} == {-1}
