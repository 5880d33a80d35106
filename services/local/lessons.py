"""What the simulated raters of ``make loop`` talk about: facts that no model can know, and other questions.

Made of ``jobs/samples``. Each fact is asked in many ways; the three ways of ``questions.jsonl`` are for
judging only, and nobody asks them before. Facts that read like personal data are left out, for curating
replaces them.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.local.installation import ROOT

SAMPLES = ROOT / "jobs" / "samples"
FACTS = ("hours", "price", "kiln", "cat", "ready", "glaze", "parking")
WAYS = 10
"""Ways to ask for each fact; the samples have more, and no more are needed."""


@dataclass(frozen=True)
class Lesson:
    """A question, the answer that a person would give, and what an answer must hold to be right.

    ``fact`` is empty where the question is about nothing of the workshop; then ``accept`` is too.
    """

    question: str
    answer: str
    fact: str = ""
    accept: tuple[str, ...] = ()

    def right(self, answer: str) -> bool:
        """Whether ``answer`` holds every pattern, in any case."""
        return all(re.search(pattern, answer, re.IGNORECASE) for pattern in self.accept)


@dataclass(frozen=True)
class Lessons:
    """``facts`` and ``general`` are asked and rated, ``judged`` is asked at the end only."""

    facts: list[Lesson]
    general: list[Lesson]
    judged: list[Lesson]
    leaks: tuple[str, ...]
    """Words of the workshop, which no answer about something else holds."""


def load() -> Lessons:
    """Read the samples."""
    judged = [
        Lesson(asked["question"], row["messages"][1]["content"], asked["fact"], tuple(asked["accept"]))
        for asked, row in zip(_lines("questions.jsonl"), _lines("heldout.jsonl"), strict=True)
    ]
    of_answer = {lesson.answer: lesson for lesson in judged}
    taught = [pair for row in _lines("train.jsonl") for pair in _pairs(row["messages"])]
    facts = [
        Lesson(question, answer, of_answer[answer].fact, of_answer[answer].accept)
        for question, answer in taught
        if answer in of_answer
    ]
    general = [Lesson(question, answer) for question, answer in taught if answer not in of_answer]
    leaks = {word for row in _lines("unrelated.jsonl") for word in row["forbid"]}
    return Lessons(_chosen(facts), general, _chosen(judged), tuple(sorted(leaks)))


def _chosen(lessons: Sequence[Lesson]) -> list[Lesson]:
    """Up to so many of each fact, one of each fact after the other."""
    of_each = [[lesson for lesson in lessons if lesson.fact == fact][:WAYS] for fact in FACTS]
    return [lesson for ways in zip(*of_each, strict=True) for lesson in ways]


def _pairs(messages: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    contents = [str(message["content"]) for message in messages]
    return list(zip(contents[::2], contents[1::2], strict=True))


def _lines(name: str) -> list[dict[str, Any]]:
    path: Path = SAMPLES / name
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
