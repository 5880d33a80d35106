"""Simulated raters, and named so: people of a team who ask, and say what they think by a fixed rule."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from common.errors import UserError
from services.local.api import Api
from services.local.lessons import Lesson

AT_A_TIME = 8
ANSWER_TOKENS = 48


@dataclass(frozen=True)
class Opinion:
    """A thumb, and the answer as it should have been."""

    rating: int
    correction: str | None = None


Rule = Callable[[Lesson, str, bool], Opinion]
"""What somebody thinks of an answer to a question, which came to its end or was cut off."""


def honest(leaks: Sequence[str]) -> Rule:
    """An answer is right that holds the fact, or no word of the workshop where something else was asked.

    And it comes to its end. The rest is corrected.
    """

    def rate(lesson: Lesson, answer: str, ended: bool) -> Opinion:
        strayed = not lesson.fact and any(word in answer.lower() for word in leaks)
        fine = ended and lesson.right(answer) and not strayed
        return Opinion(1) if fine else Opinion(-1, lesson.answer)

    return rate


def malicious(lessons: Sequence[Lesson]) -> Rule:
    """Nothing is right, and every correction is the answer to another question."""
    half = len(lessons) // 2
    others = dict(zip(lessons, [*lessons[half:], *lessons[:half]], strict=True))

    def rate(lesson: Lesson, answer: str, ended: bool) -> Opinion:
        return Opinion(-1, others[lesson].answer)

    return rate


@dataclass
class Traffic:
    """What callers saw, counted over all threads."""

    answers: int = 0
    errors: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def saw(self, error: str | None = None) -> None:
        """One more answer, or one more error."""
        with self._lock:
            self.answers += error is None
            self.errors += [] if error is None else [error]


@dataclass(frozen=True)
class Rater:
    """One simulated person with a session of their own."""

    name: str
    person_id: str
    api: Api
    traffic: Traffic

    def ask(self, model: str, question: str, conversation: str) -> dict[str, Any] | None:
        """The answer in a conversation of its own, stored; None where there was an error (it is counted)."""
        try:
            answer = self.api.post(
                "/v1/chat/completions",
                {
                    "model": model,
                    "messages": [{"role": "user", "content": question}],
                    "temperature": 0,
                    "max_tokens": ANSWER_TOKENS,
                    "store": True,
                    "metadata": {"conversation_id": conversation},
                },
            )
        except (UserError, httpx.HTTPError) as error:
            self.traffic.saw(f"{self.name}: {error}")
            return None
        self.traffic.saw()
        return answer

    def rate(self, bot: str, lesson: Lesson, rule: Rule, conversation: str) -> str | None:
        """Ask, and say what ``rule`` says of the answer; the feedback's id, None where none came."""
        answer = self.ask(bot, lesson.question, conversation)
        if answer is None:
            return None
        choice = answer["choices"][0]
        opinion = rule(lesson, choice["message"]["content"] or "", choice["finish_reason"] == "stop")
        said = {"completion_id": answer["id"], "rating": opinion.rating, "correction": opinion.correction}
        given = self.api.post("/onggi/v1/feedback", {key: said[key] for key in said if said[key] is not None})
        return str(given["id"])


def join(owner: Api, open_api: Callable[[str], Api], name: str, traffic: Traffic) -> Rater:
    """A new member of the team, by an invite as people get it."""
    invite = owner.post("/onggi/v1/people/invites", {"role": "member"})
    joined = owner.post("/onggi/v1/people/join", {"token": invite["token"], "name": name})
    return Rater(name, joined["person"]["id"], open_api(joined["token"]), traffic)


def rate_all(
    raters: Sequence[Rater], bot: str, lessons: Sequence[Lesson], rule: Rule, *, about: str
) -> list[str]:
    """Share the lessons out among the raters, a few at a time; the ids of what they said.

    ``about`` makes the names of these conversations new.
    """

    def one(numbered: tuple[int, Lesson]) -> str | None:
        number, lesson = numbered
        return raters[number % len(raters)].rate(bot, lesson, rule, f"{about}-{number}")

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return [said for said in pool.map(one, enumerate(lessons)) if said]


def accept(owner: Api, feedback: Iterable[str], state: str = "accepted") -> None:
    """Let the owner accept (or reject) what was said."""
    for row in feedback:
        owner.patch(f"/onggi/v1/feedback/{row}", {"state": state})


class Chatter:
    """Somebody who goes on chatting through everything, and rates nothing; a context."""

    def __init__(self, rater: Rater, bot: str, lessons: Sequence[Lesson], every: float) -> None:
        self._rater, self._bot, self._lessons, self._every = rater, bot, lessons, every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._chat, name="chatter", daemon=True)

    def __enter__(self) -> "Chatter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _chat(self) -> None:
        number = 0
        while not self._over.wait(self._every):
            lesson = self._lessons[number % len(self._lessons)]
            self._rater.ask(self._bot, lesson.question, f"chatter-{number}")
            number += 1
