"""A conversation as a person sees it: questions, answers, and what was said of the answers."""

import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

TITLE_LENGTH = 48


@dataclass
class Turn:
    """One message; an answer also knows its completion, who gave it and what was said of it."""

    role: Literal["user", "assistant", "system"]
    text: str
    completion_id: str | None = None
    model: str | None = None
    rating: int | None = None


@dataclass
class Conversation:
    """Turns under the id that control, splits and canary arms go by."""

    id: str = field(default_factory=lambda: f"conv_{secrets.token_hex(12)}")
    turns: list[Turn] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The beginning of the first question."""
        first = next((turn.text for turn in self.turns if turn.role == "user"), "")
        line = " ".join(first.split())
        return line if len(line) <= TITLE_LENGTH else f"{line[: TITLE_LENGTH - 1].rstrip()}…"

    @property
    def last_answer(self) -> Turn | None:
        """The answer at the end, when there is one."""
        return self.turns[-1] if self.turns and self.turns[-1].role == "assistant" else None

    def messages(self) -> list[dict[str, str]]:
        """What is sent to the model: every turn that has text."""
        return [{"role": turn.role, "content": turn.text} for turn in self.turns if turn.text]

    def shown(self) -> list[dict[str, str]]:
        """What the chat shows, turn by turn."""
        return [{"role": turn.role, "content": turn.text} for turn in self.turns]

    def ratings(self) -> list[str | None]:
        """Each answer's thumb, in Gradio's words."""
        words = {1: "Like", -1: "Dislike"}
        answers = [turn for turn in self.turns if turn.role == "assistant"]
        return [words.get(turn.rating or 0) for turn in answers]

    def cut(self, index: int) -> str:
        """Take back the turns from ``index`` on; the text of the question that they began with."""
        while index > 0 and self.turns[index].role != "user":
            index -= 1
        question = self.turns[index].text
        del self.turns[index:]
        return question

    @classmethod
    def of(cls, stored: dict[str, Any]) -> "Conversation":
        """The conversation that control has stored: its newest thread, with corrections in place.

        Every stored turn holds all messages that were sent, so the last one tells the thread; the answer at a
        place in it came from the newest turn that was asked with as many messages. Of two answers that were
        compared the one that was passed over is no part of it.
        """
        told = [turn for turn in stored["turns"] if turn["messages"] and not turn["passed_over"]]
        if not told:
            return cls(id=stored["id"])
        answered = {len(turn["messages"]): turn for turn in told}
        newest = told[-1]
        turns = []
        for place, message in enumerate(newest["messages"]):
            given = answered.get(place) if message["role"] == "assistant" else None
            text = _text(message)
            turns.append(_answer(given, text) if given else Turn(message["role"], text))
        return cls(stored["id"], [*turns, _answer(newest, "")])


def _answer(turn: dict[str, Any], sent_on: str) -> Turn:
    """The answer of a stored turn: as corrected, else as it went on in the thread, else as it was given."""
    said = [feedback["correction"] for feedback in turn["feedback"] if feedback["correction"]]
    choices = (turn["answer"] or {}).get("choices") or [{"message": {}}]
    text = said[-1] if said else sent_on or _text(choices[0]["message"])
    rated = [feedback["rating"] for feedback in turn["feedback"] if feedback["rating"]]
    name = f"{turn['bot']}@{turn['version']}" if turn["version"] else turn["model"]
    return Turn("assistant", text, turn["id"], name, rated[-1] if rated else None)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)
