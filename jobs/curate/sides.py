"""On which side a conversation is: learned from, or held out to judge on. Once on one, it stays there.

Nearly the same questions (``jobs.curate.duplicates``) are on one side, or what one teaches would be tested by
another:

- a conversation that was in an earlier dataset keeps the side that control recorded of it;
- a new one joins those that it is near to, and theirs, like crystals growing: what grows from both sides
  meets at conversations that are near to both, and those are on neither;
- where no recorded one is near, the one whose key has the smallest hash decides for all, by its own key. So
  the chance to be held out is a fifth, whether one person asked or a hundred did.

The order in which conversations came, and who was erased since, change nothing for those that are recorded.
"""

import hashlib
from collections.abc import Mapping
from heapq import heapify, heappop, heappush

from common.rows import held_out
from jobs.curate.duplicates import Questions

Side = bool | None
"""True: held out; False: learned from; None: near to both, and so neither."""


def choose(questions: Questions, recorded: Mapping[str, bool]) -> dict[str, Side]:
    """The side of every conversation in ``questions``; ``recorded`` are those of earlier datasets."""
    growth = _Growth(questions)
    for known in questions.of.keys() & recorded.keys():
        growth.join(known, recorded[known])
    while (key := growth.next()) is not None:
        match sorted(growth.touching(key)):
            case []:
                growth.join(key, held_out(key))
            case [side]:
                growth.join(key, side)
            case _:
                growth.sides[key] = None
    # Held out once, and since nearly the same as what is learned (it went on, say): no test of anything.
    spoilt = {key for key, side in growth.sides.items() if side and False in growth.touching(key)}
    return growth.sides | dict.fromkeys(spoilt)


class _Growth:
    """Sides as they spread from question to question."""

    def __init__(self, questions: Questions) -> None:
        self.sides: dict[str, Side] = {}
        self._questions = questions
        self._touching: list[set[bool]] = [set() for _ in questions.near]
        """The sides that were taken by who asked nearly the same as each question."""
        self._waiting = [(True, _rank(key), key) for key in questions.of]
        heapify(self._waiting)

    def next(self) -> str | None:
        """A conversation without a side: before all others one that is near to a side."""
        while self._waiting:
            *_, key = heappop(self._waiting)
            if key not in self.sides:
                return key
        return None

    def touching(self, key: str) -> set[bool]:
        """The sides of those who asked nearly the same as ``key``."""
        return {side for number in self._questions.of[key] for side in self._touching[number]}

    def join(self, key: str, side: bool) -> None:
        """Put ``key`` on ``side``, which then touches all that is near to it."""
        self.sides[key] = side
        for number in self._questions.of[key]:
            for other in self._questions.near[number]:
                self._touch(other, side)

    def _touch(self, number: int, side: bool) -> None:
        if side not in self._touching[number]:
            self._touching[number].add(side)
            for key in self._questions.askers[number] - self.sides.keys():
                heappush(self._waiting, (False, _rank(key), key))


def _rank(key: str) -> bytes:
    """Another hash than the one that holds out, or whoever decides for many would be held out too often."""
    return hashlib.sha256(f"first:{key}".encode()).digest()
