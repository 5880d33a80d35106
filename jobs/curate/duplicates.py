"""Which questions are nearly the same: what one of them teaches, the other would test.

Two are when their sets of four-letter pieces have a Jaccard similarity of at least 0.8 and they name the same
numbers ("room 12" and "room 17" are different questions). Only what people asked is compared: a shared
system prompt makes no two questions alike, and neither does a shared answer. MinHash with locality-sensitive
hashing (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3) finds the pairs
to look at, so that a hundred thousand questions take a minute.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SIMILAR = 0.8
PIECE = 4
_CANDIDATES = 0.7  # of the hash, which only estimates: what is looked at may be less alike


@dataclass(frozen=True)
class Questions:
    """Who asked what: distinct questions, numbered from 0."""

    of: dict[str, set[int]]
    """What each conversation asked."""
    askers: list[set[str]]
    """The conversations that asked each question."""
    near: list[set[int]]
    """The questions that are nearly the same as each, itself among them."""


def question(messages: Sequence[Mapping[str, Any]]) -> str:
    """What a person asked in a conversation: all user messages."""
    return "\n".join(str(message.get("content") or "") for message in messages if message["role"] == "user")


def compare(asked: Iterable[tuple[str, str]]) -> Questions:
    """The questions in ``asked`` (conversation, question), and which of them are nearly the same."""
    numbers: dict[str, int] = {}
    questions = Questions({}, [], [])
    for conversation, text in asked:
        number = numbers.setdefault(_normal(text), len(numbers))
        if number == len(questions.askers):
            questions.askers.append(set())
        questions.askers[number].add(conversation)
        questions.of.setdefault(conversation, set()).add(number)
    questions.near.extend(_near(list(numbers)))
    return questions


def _near(texts: Sequence[str]) -> list[set[int]]:
    from datasketch import MinHash, MinHashLSH

    index, pieces = MinHashLSH(threshold=_CANDIDATES, num_perm=128), [_pieces(text) for text in texts]
    near = [{number} for number in range(len(texts))]
    for number, text in enumerate(texts):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([piece.encode() for piece in sorted(pieces[number])])
        for other in index.query(sketch):
            if _alike(pieces[number], pieces[other]) and _numbers(text) == _numbers(texts[other]):
                near[number].add(other)
                near[other].add(number)
        index.insert(number, sketch)
    return near


def _normal(text: str) -> str:
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def _pieces(text: str) -> set[str]:
    return {text[start : start + PIECE] for start in range(max(1, len(text) - PIECE + 1))}


def _alike(one: set[str], other: set[str]) -> bool:
    return len(one & other) >= SIMILAR * len(one | other)


def _numbers(text: str) -> set[str]:
    return {word for word in text.split() if any(character.isdigit() for character in word)}
