"""Which questions are nearly the same: what one of them teaches, the other would test.

Two are when their sets of four-letter pieces have a Jaccard similarity of at least 0.8 and they name the same
numbers ("room 12" and "room 17" are different questions). Only what people asked is compared: a shared
system prompt makes no two questions alike, and neither does a shared answer. MinHash with locality-sensitive
hashing (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3) finds the pairs
to look at, so that a hundred thousand questions take a minute.
"""

import re
import unicodedata
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

SIMILAR = 0.8
PIECE = 4
_CANDIDATES = 0.7  # of the hash, which only estimates: what is looked at may be less alike


def question(messages: Sequence[Mapping[str, Any]]) -> str:
    """What a person asked in a conversation: all user messages."""
    return "\n".join(str(message.get("content") or "") for message in messages if message["role"] == "user")


def clusters(asked: Iterable[tuple[Hashable, str]]) -> list[set[Hashable]]:
    """The names in ``asked`` (name, question), together where questions or names are the same or nearly."""
    from datasketch import MinHash, MinHashLSH

    groups = _Groups()
    index, seen = MinHashLSH(threshold=_CANDIDATES, num_perm=128), dict[int, tuple[Hashable, str, set[str]]]()
    for number, (name, text) in enumerate(asked):
        text = _normal(text)
        pieces = _pieces(text)
        sketch = MinHash(num_perm=128)
        sketch.update_batch([piece.encode() for piece in pieces])
        groups.add(name)
        for other in index.query(sketch):
            their_name, their_text, their_pieces = seen[other]
            if _alike(pieces, their_pieces) and _numbers(text) == _numbers(their_text):
                groups.join(name, their_name)
        index.insert(number, sketch)
        seen[number] = name, text, pieces
    return groups.all()


def _normal(text: str) -> str:
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def _pieces(text: str) -> set[str]:
    return {text[start : start + PIECE] for start in range(max(1, len(text) - PIECE + 1))}


def _alike(one: set[str], other: set[str]) -> bool:
    return len(one & other) >= SIMILAR * len(one | other)


def _numbers(text: str) -> set[str]:
    return {word for word in text.split() if any(character.isdigit() for character in word)}


class _Groups:
    """Disjoint sets that grow together."""

    def __init__(self) -> None:
        self._of: dict[Hashable, set[Hashable]] = {}

    def add(self, name: Hashable) -> None:
        self._of.setdefault(name, {name})

    def join(self, one: Hashable, other: Hashable) -> None:
        kept, gone = sorted((self._of[one], self._of[other]), key=len, reverse=True)
        if kept is not gone:
            kept |= gone
            self._of.update(dict.fromkeys(gone, kept))

    def all(self) -> list[set[Hashable]]:
        return list({id(group): group for group in self._of.values()}.values())
