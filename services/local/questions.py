"""Questions with known answers: asked of base and adapter, counted, shown side by side."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.local.api import Answer, Api

LOOP = re.compile(r"\b(\w+(?:\W+\w+){0,4})(?:\W+\1\b){3}", re.IGNORECASE)
"""Up to five words four times in a row: the way in which a broken model goes on."""


@dataclass(frozen=True)
class Question:
    """``accept``: patterns of which all must be found; ``forbid``: strings of which none may be.

    An open question has nothing to accept: any answer that is clean is right.
    """

    text: str
    accept: list[str]
    forbid: list[str]
    fact: str = ""

    def right(self, answer: str) -> bool:
        """Whether ``answer`` says what it must and nothing that it must not."""
        found = all(re.search(pattern, answer, re.IGNORECASE) for pattern in self.accept)
        return found and self.clean(answer)

    def clean(self, answer: str) -> bool:
        """Whether ``answer`` says nothing that it must not."""
        return not any(word.lower() in answer.lower() for word in self.forbid)

    def unharmed(self, answer: str, before: str) -> bool:
        """Whether ``answer`` is as good as ``before``: words, clean, no loop, and right if ``before`` was."""
        sound = bool(answer) and self.clean(answer) and not loops(answer)
        return sound and (self.right(answer) or not self.right(before))


@dataclass(frozen=True)
class Asked:
    """One model's answers to a list of questions."""

    questions: list[Question]
    answers: list[Answer]

    @property
    def right(self) -> int:
        """How many answers are right."""
        return sum(map(self.is_right, range(len(self.questions))))

    @property
    def clean(self) -> int:
        """How many answers say nothing that they must not."""
        return sum(map(Question.clean, self.questions, self._texts))

    def unharmed(self, before: "Asked") -> int:
        """How many answers are as good as those to the same questions ``before``."""
        return sum(map(Question.unharmed, self.questions, self._texts, before._texts))

    @property
    def _texts(self) -> list[str]:
        return [answer.text for answer in self.answers]

    def is_right(self, number: int) -> bool:
        """Whether answer ``number`` is right."""
        return self.questions[number].right(self.answers[number].text)


def loops(answer: str) -> bool:
    """Whether ``answer`` says the same few words again and again."""
    return LOOP.search(answer) is not None


def load(path: Path) -> list[Question]:
    """Read a JSON Lines file of questions."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Question(row["question"], row.get("accept", []), row.get("forbid", []), row.get("fact", ""))
        for row in rows
    ]


def ask(api: Api, model: str, questions: list[Question]) -> Asked:
    """Ask ``model`` all ``questions`` through the gateway."""
    return Asked(questions, api.ask_all(model, [question.text for question in questions]))


def show(console: Console, base: Asked, adapter: Asked, *, rows: int) -> None:
    """Print both answers to ``rows`` questions, each about another fact; right ones in green."""
    table = Table("held-out question", "base", "adapter", title="The same questions to both", show_lines=True)
    for number in _of_each_fact(base.questions)[:rows]:
        table.add_row(base.questions[number].text, _cell(base, number), _cell(adapter, number))
    console.print(table)


def _of_each_fact(asked: list[Question]) -> list[int]:
    first: dict[str, int] = {}
    for number, question in enumerate(asked):
        first.setdefault(question.fact or question.text, number)
    return list(first.values())


def _cell(asked: Asked, number: int) -> str:
    text = " ".join(asked.answers[number].text.split())[:120].replace("[", r"\[")
    return f"[green]{text}[/green]" if asked.is_right(number) else f"[dim]{text}[/dim]"
